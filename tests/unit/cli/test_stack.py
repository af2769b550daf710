"""What goes to the supervisor: the whole stack, a selection, numbers of replicas, and what to do about orphans."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.cli.conftest import Bench
from tests.unit.cli.supervisor import after, fails, ok
from tests.unit.cli.test_up import STACK, event, status, up_result

PROFILES = STACK + "  tool: {image: host, command: [sleep, '9'], profiles: [extra]}\n"


LEFT = {"removed": 1, "statuses": [status("old")]}
"""Of a `down` after which the supervisor goes on."""


def sent(bench: Bench, *words: str, verb: str = "up") -> dict[str, Any]:
    """The request of a command that goes well."""
    server = bench.serve(up=ok(up_result(status("db"))), down=ok(LEFT), scale=ok(up_result(status("db"))))
    outcome = bench.run(*words)
    assert outcome.code == 0, outcome.err
    args = server.last(verb)
    bench.servers.pop().close()
    return args


def test_the_whole_stack_goes_to_the_supervisor_whatever_is_named(bench: Bench) -> None:
    bench.compose(PROFILES)
    for words in (["up", "-d"], ["up", "-d", "web"], ["up", "-d", "tool"]):
        args = sent(bench, *words)
        assert list(args["project"]["services"]) == ["db", "web", "tool"]
        assert args["project"]["inactive"] == ["tool"]
        assert args.get("selection", {}).get("services", []) == words[2:]


def test_a_stack_without_anything_active_is_an_error(bench: Bench) -> None:
    bench.compose("services: {tool: {image: host, command: [x], profiles: [extra]}}\n")
    outcome = bench.run("up", "-d")
    assert outcome.code == 2
    assert "no service to bring up" in outcome.err


def test_the_options_of_containers_reach_the_supervisor(bench: Bench) -> None:
    bench.compose(STACK)
    words = ["--scale", "web=3", "--scale", "web=2", "-V", "--always-recreate-deps", "--no-start"]
    accepted = ["--quiet-pull", "-y", "--menu=false", "--no-color"]
    args = sent(bench, "up", *words, *accepted)
    del args["project"], args["registry"]
    assert args == {
        "scale": {"web": 2},
        "renew_volumes": True,
        "recreate_dependencies": True,
        "start": False,
        "named": True,
    }


def test_policies_of_the_command_line_take_the_place_of_the_stacks(bench: Bench) -> None:
    bench.compose("services: {db: {image: redis}, web: {build: ., image: web}}\n")

    def policies(*words: str) -> dict[str, tuple[str, bool]]:
        services = sent(bench, "up", "-d", *words)["project"]["services"]
        return {
            name: (service.get("pull_policy", {}).get("when", "missing"), "build" in service)
            for name, service in services.items()
        }

    assert policies() == {"db": ("missing", False), "web": ("missing", True)}
    assert policies("--build") == {"db": ("missing", False), "web": ("build", True)}
    assert policies("--no-build") == {"db": ("missing", False), "web": ("missing", False)}
    assert policies("--pull", "always") == {"db": ("always", False), "web": ("always", True)}
    assert policies("--pull", "policy") == policies()
    outcome = bench.run("up", "-d", "--build", "--no-build")
    assert (outcome.code, outcome.err) == (2, "error: --build and --no-build cannot be combined\n")


def test_create_makes_and_does_not_start(bench: Bench) -> None:
    bench.compose(STACK)
    server = bench.serve(up=ok(up_result(status("db", "created"), status("web", "created"))))
    outcome = bench.run("create", "--scale", "db=1", "web")
    assert outcome.code == 0
    assert outcome.err.startswith("2 created in ")
    args = server.last("up")
    assert (args["start"], args["scale"], args["selection"]) == (False, {"db": 1}, {"services": ["web"]})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["up", "-d", "--scale", "web"], '"web" is not SERVICE=NUMBER'),
        (["up", "-d", "--scale", "web=-1"], '"web=-1" is not SERVICE=NUMBER'),
        (["up", "-d", "--scale", "web=1.5"], '"web=1.5" is not SERVICE=NUMBER'),
        (["up", "-d", "--scale", "=3"], '"=3" is not SERVICE=NUMBER'),
        (["up", "-d", "--scale", "web=" + "9" * 5000], "is not SERVICE=NUMBER"),
        (["up", "-d", "--scale", "wbe=2"], 'did you mean "web"?'),
        (["scale", "wbe=2"], 'did you mean "web"?'),
        (["scale", "web=x"], '"web=x" is not SERVICE=NUMBER'),
        (["up", "--exit-code-from", "wbe"], 'did you mean "web"?'),
        (["up", "--exit-code-from", "web", "db"], '"web" is not among what is brought up'),
        (["up", "--no-start", "--wait"], "--no-start cannot be combined"),
        (["up", "--no-recreate", "-V"], "--no-recreate and --renew-anon-volumes cannot be combined"),
        (["up", "--abort-on-container-exit", "--abort-on-container-failure"], "cannot be combined"),
        (["up", "--attach", "db", "--attach-dependencies"], "--attach and --attach-dependencies cannot be combined"),
        (["up", "-d", "--attach", "db"], "--detach and --attach cannot be combined"),
        (["up", "--wait", "--attach-dependencies"], "--wait and --attach-dependencies cannot be combined"),
    ],
)
def test_what_cannot_be_is_one_error_before_anything_is_begun(bench: Bench, words: list[str], said: str) -> None:
    bench.compose(STACK)
    server = bench.serve()
    outcome = bench.run(*words)
    assert (outcome.code, server.asked) == (2, [])
    assert said in outcome.err
    assert outcome.err.count("error:") == 1


def test_scale_sends_the_numbers_and_says_what_there_is(bench: Bench) -> None:
    bench.compose(PROFILES)
    rows = [status("web"), {**status("web"), "container": "demo-web-2", "number": 2}, status("db")]
    server = bench.serve(scale=ok(up_result(*rows)))
    outcome = bench.run("scale", "--no-deps", "web=2")
    assert outcome.err.startswith("web: 2 in ")
    args = server.last("scale")
    assert list(args.pop("project")["services"]) == ["db", "web", "tool"]
    del args["registry"]
    assert args == {"scale": {"web": 2}, "dependencies": False, "named": True}


@pytest.mark.parametrize(
    ("variables", "words", "remove", "ignore"),
    [
        ({}, [], False, False),
        ({"COMPOSE_REMOVE_ORPHANS": "1"}, [], True, False),
        ({"COMPOSE_REMOVE_ORPHANS": "false"}, [], False, False),
        ({"COMPOSE_REMOVE_ORPHANS": ""}, ["--remove-orphans"], True, False),
        ({"COMPOSE_IGNORE_ORPHANS": "True"}, [], False, True),
    ],
)
@pytest.mark.parametrize("place", ["environment", ".env"])
def test_orphans_are_removed_or_ignored_by_the_environment_too(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    words: list[str],
    remove: bool,
    ignore: bool,
    place: str,
) -> None:
    bench.compose(STACK)
    if place == ".env":
        (bench.directory / ".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    else:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
    args = sent(bench, "up", "-d", *words)
    assert (args.get("remove_orphans", False), args.get("ignore_orphans", False)) == (remove, ignore)
    assert sent(bench, "down", *words, verb="down").get("remove_orphans", False) is remove


def test_orphans_cannot_be_removed_and_ignored_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.compose(STACK)
    monkeypatch.setenv("COMPOSE_IGNORE_ORPHANS", "1")
    outcome = bench.run("up", "-d", "--remove-orphans")
    assert (outcome.code, outcome.err.count("error:")) == (2, 1)
    monkeypatch.setenv("COMPOSE_IGNORE_ORPHANS", "maybe")
    assert '"maybe" is neither true nor false' in bench.run("up", "-d").err


def test_down_takes_services_and_goes_by_the_files_when_it_can(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.compose(PROFILES)
    args = sent(bench, "down", "--rmi", "all", "web", verb="down")
    assert args == {"selection": {"services": ["web"]}, "named": True}, "-p names the project, and -f no file"
    args = sent(bench, "-f", "compose.yaml", "down", verb="down")
    assert list(args["project"]["services"]) == ["db", "web", "tool"]
    bench.compose("services: {web: {image: host, depends_on: [nobody]}}\n")
    server = bench.serve(down=ok(LEFT))
    outcome = bench.run("-f", "compose.yaml", "down")
    assert outcome.code == 0
    assert outcome.err.startswith("warning: the compose files cannot be loaded")
    assert "project" not in server.last("down")
    again = bench.run("-f", "compose.yaml", "down", "-v", "--rmi", "all")
    assert again.err.count("the compose files cannot be loaded") == 1


def test_down_of_an_unknown_service_is_explained(bench: Bench) -> None:
    bench.serve(down=fails("no such service", exit_code=2), ps=ok([status("web")]))
    outcome = bench.run("down", "wbe")
    assert outcome.code == 2
    assert 'did you mean "web"?' in outcome.err


def test_a_failed_up_says_what_runs_all_the_same(bench: Bench) -> None:
    bench.compose(STACK)

    def up(exchange: Any) -> None:
        exchange.event(event("container.started", "db", "started demo-db-1"))
        exchange.error("web exited with code 3")

    bench.serve(up=up, ps=ok([status("db"), status("web", "exited")]))
    outcome = bench.run("up", "-d")
    assert outcome.code == 1
    assert "still running: demo-db-1; `pystack down` takes everything down" in outcome.err.splitlines()


def test_replicas_are_counted_as_containers(bench: Bench) -> None:
    bench.compose(STACK)
    rows = [status("db"), status("web"), {**status("web"), "container": "demo-web-2", "number": 2}]
    bench.serve(up=after([], up_result(*rows)))
    assert bench.run("up", "-d").err.startswith("3 containers up in ")
    assert bench.run("up", "-d", "--no-deps", "db").err.startswith("1 service up in ")


def test_what_does_not_run_after_up_is_called_what_it_is(bench: Bench) -> None:
    bench.compose(STACK + "".join(f"  {name}: {{image: host}}\n" for name in ("job", "bad", "loop", "left")))
    ended = {"code": 0}
    rows = [status("db"), status("web"), status("job", "exited", exit=ended), status("loop", "restarting")]
    rows += [status("bad", "exited", exit={"code": 3}), status("left", "exited", exit=ended, wanted="stopped")]
    bench.serve(up=after([], up_result(*rows)))
    said = bench.run("up", "-d").err.splitlines()[-1]
    assert said.startswith("2 services up, 1 completed, 1 stopped, 1 failed, 1 restarting in ")


def test_why_speaks_of_containers_one_below_another(bench: Bench) -> None:
    rows = [{**status("web"), "reason": "fine"}, {**status("web", "exited"), "container": "demo-web-2", "number": 2}]
    server = bench.serve(why=ok({"statuses": rows, "history": []}))
    assert bench.run("why", "web").out.splitlines() == ["demo-web-1 is running: fine", "demo-web-2 is exited"]
    assert bench.run("why", "--index", "2", "web").code == 0
    assert server.last("why") == {"service": "web", "index": 2}
