"""Services that a program of the machine provides: what it is asked, and what becomes of its answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.cli.providers import provided, released, remembered
from orchestrator.compose.load import ComposeError, LoadRequest, load
from orchestrator.errors import OperationError
from orchestrator.model.names import ServiceName
from orchestrator.model.project import Project
from orchestrator.values import replace

STACK = """name: shop
services:
  web: {image: w, depends_on: [db], environment: {KEY: mine}}
  api: {image: a}
  db:
    provider: {type: cloud, options: {size: 5, tags: [a, b], price: $$1}}
    depends_on: [net]
  net: {provider: {type: cloud}}
jobs:
  backup: {image: b, depends_on: [db], triggers: {manual: true}}
"""
PROGRAM = """#!/bin/sh
echo "$@" >> calls
if [ "$2" = metadata ]; then [ -e metadata ] && cat metadata; exit; fi
[ -e answer ] && . ./answer
exit 0
"""
WEB, DB = ServiceName("web"), ServiceName("db")


class Cloud:
    """A folder with a program `docker-cloud` in it, which is where it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "DOCKER_CONFIG": str(folder / "none")}
        program = folder / "bin" / "docker-cloud"
        program.parent.mkdir()
        program.write_text(PROGRAM)
        program.chmod(0o755)

    def answers(self, *messages: object, then: str = "") -> None:
        """It writes these (objects as JSON) for each service, and does `then`."""
        lines = [item if isinstance(item, str) else json.dumps(item) for item in messages]
        (self.folder / "answer").write_text("".join(f"printf '%s\\n' '{line}'\n" for line in lines) + then)

    def calls(self) -> list[str]:
        """But for its metadata, without what is always the same."""
        words = [line.split() for line in (self.folder / "calls").read_text().splitlines()]
        assert all(line[0] == "compose" for line in words)
        found = [" ".join(line[2:]) for line in words if line[1] == "--project-name=shop"]
        (self.folder / "calls").unlink()
        return found

    def project(self, text: str = STACK) -> Project:
        (self.folder / "compose.yaml").write_text(text)
        return load(LoadRequest(str(self.folder), {})).project

    def asked(self, project: Project, *chosen: str, named: tuple[str, ...] = ()) -> Project:
        return provided(project, chosen, named, self.environ)


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    monkeypatch.chdir(tmp_path)
    return Cloud(tmp_path)


def test_a_provider_is_no_container_and_nobody_waits_for_one(cloud: Cloud) -> None:
    project = cloud.project()
    assert project.services.keys() == {"web", "api", "backup"}
    assert project.services[WEB].depends_on == {}
    assert project.providers[DB].users == ("web", "backup")


def test_it_is_asked_after_the_providers_that_it_needs_with_its_options_as_flags(cloud: Cloud) -> None:
    cloud.asked(cloud.project())
    assert cloud.calls() == ["up net", "up --size=5 --tags=a --tags=b --price=$1 db"]


def test_only_those_are_asked_that_somebody_needs_or_names(cloud: Cloud) -> None:
    project = cloud.project()
    cloud.asked(project, "web", named=("web",))
    assert len(cloud.calls()) == 2
    cloud.asked(project, "web", named=("net",))
    assert cloud.calls()[0] == "up net"
    cloud.asked(project, named=("net",))
    assert cloud.calls() == ["up net"]


def test_its_variables_go_to_who_depends_on_it(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    url = {"type": "setenv", "message": "URL=cloud://x?a=b"}
    cloud.answers({"type": "info", "message": "making it\nslowly"}, url, {"type": "rawsetenv", "message": "KEY=theirs"})
    project = cloud.asked(cloud.project(), "web")
    assert project.services[WEB].environment == {"KEY": "theirs", "DB_URL": "cloud://x?a=b"}
    assert project.services[ServiceName("backup")].environment["DB_URL"] == "cloud://x?a=b"
    assert project.services[ServiceName("api")].environment == {}
    told = capsys.readouterr().err
    assert "note: db: making it\n" in told
    assert "note: db overrides the variable KEY of service web\n" in told


def test_what_it_answered_is_remembered_for_commands_that_do_not_ask(cloud: Cloud) -> None:
    cloud.answers({"type": "setenv", "message": "URL=x"})
    recorded = cloud.asked(cloud.project(), "web")
    again = remembered(cloud.project(), recorded)
    assert again.services[WEB].environment == {"KEY": "mine", "DB_URL": "x"}


def test_it_may_ask_for_the_service_as_the_stack_has_it(cloud: Cloud) -> None:
    then = 'if [ "$3" = up ]; then read -r line; echo "$line" > config; fi\n'
    cloud.answers({"type": "get-service-config"}, then=then)
    cloud.asked(cloud.project(), named=("db",))
    config = json.loads((cloud.folder / "config").read_text())
    assert config["provider"]["options"] == {"size": ["5"], "tags": ["a", "b"], "price": ["$1"]}


def test_metadata_say_which_options_it_takes_and_which_it_must_have(cloud: Cloud) -> None:
    up = {"parameters": [{"name": "size", "required": True}]}
    metadata = {"description": "a cloud", "up": up, "down": {"parameters": []}}
    (cloud.folder / "metadata").write_text(json.dumps(metadata))
    project = replace(cloud.project(), providers={DB: replace(cloud.project().providers[DB], needs=())})
    cloud.asked(project, "web")
    assert cloud.calls() == ["up --size=5 db"]
    without = replace(project, providers={DB: replace(project.providers[DB], options={})})
    with pytest.raises(OperationError, match='option "size" is missing, which cloud requires'):
        cloud.asked(without, "web")


def test_down_goes_the_other_way_and_stop_to_those_alone_that_know_it(cloud: Cloud) -> None:
    project = cloud.project()
    released(project, (), cloud.environ, "down")
    assert cloud.calls() == ["down --size=5 --tags=a --tags=b --price=$1 db", "down net"]
    released(project, ("net",), cloud.environ, "stop")
    assert cloud.calls() == []
    (cloud.folder / "metadata").write_text('{"description": "d", "stop": {"parameters": []}}')
    released(project, ("net",), cloud.environ, "stop")
    assert cloud.calls() == ["stop net"]


@pytest.mark.parametrize(
    ("message", "then", "complaint"),
    [
        ({"type": "error", "message": "no credit"}, "sleep 60", "db: no credit"),
        ({"type": "surprise", "message": "x"}, "", "db: cloud wrote what is no message: "),
        ("rubbish", "", "db: cloud wrote what is no message: rubbish"),
        ({"type": "setenv", "message": "URL"}, "", "is no message"),
        ("[1]", "", "is no message"),
        ({"type": "info", "message": "x"}, "exit 3", "db: cloud up failed with exit code 3"),
    ],
)
def test_what_goes_wrong_is_told_with_its_place(cloud: Cloud, message: object, then: str, complaint: str) -> None:
    cloud.answers(message, then=then)
    project = replace(cloud.project(), providers={DB: replace(cloud.project().providers[DB], needs=())})
    with pytest.raises(OperationError) as caught:
        cloud.asked(project, "web")
    assert complaint in caught.value.message
    assert caught.value.message.startswith("compose.yaml:6:22: services.db.provider.type: ")


def test_a_program_that_is_not_there_is_named_under_both_of_its_names(cloud: Cloud) -> None:
    project = cloud.project("services: {db: {provider: {type: clod}}}")
    with pytest.raises(OperationError, match='there is no program "docker-clod" or "clod"'):
        cloud.asked(project)


def test_a_provider_waits_for_no_container(cloud: Cloud) -> None:
    with pytest.raises(ComposeError, match="a provider cannot wait for the container of web"):
        cloud.project("services: {web: {image: w}, db: {provider: {type: cloud}, depends_on: [web]}}")
