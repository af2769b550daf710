"""The whole stack is known, whatever was named: profiles, orphans, replicas, and how a cascade ends."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.machine import Pystack, Stack, eventually

pytestmark = pytest.mark.kernel

BODY = "image: 'rootfs:{rootfs}', stop_grace_period: 0s, command: [sleep, '3600']"
STACK = f"""
services:
  db: {{{{{BODY}}}}}
  web: {{{{{BODY}, depends_on: [db]}}}}
  tool: {{{{{BODY}, profiles: [extra]}}}}
"""
OLD = f"  old: {{{{{BODY}}}}}\n"


def states(stack: Stack) -> dict[str, str]:
    return {name: row["State"] for name, row in stack.ps().items()}


def test_what_is_not_named_stays_known(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(STACK.format(rootfs=busybox_rootfs))
    stack.must("--profile", "extra", "up", "-d")
    before = {name: row["ID"] for name, row in stack.ps().items()}
    again = stack.must("up", "-d", "--remove-orphans", "db")
    assert "orphan" not in again.stderr
    assert {name: row["ID"] for name, row in stack.ps().items()} == before
    for words in (["stop", "tool"], ["start", "web", "tool"], ["restart", "web"], ["up", "-d"]):
        stack.must(*words)
        assert states(stack)["db"] == "running"
    assert states(stack) == {"db": "running", "web": "running", "tool": "running"}
    stack.must("down")
    assert stack.ps() == {}


def test_an_orphan_is_told_kept_and_removed_when_that_is_asked_for(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(STACK.format(rootfs=busybox_rootfs) + OLD.format(rootfs=busybox_rootfs))
    stack.must("up", "-d")
    (stack.directory / "compose.yaml").write_text(STACK.format(rootfs=busybox_rootfs))
    told = stack.must("up", "-d").stderr
    assert "old" in told
    assert "--remove-orphans" in told
    assert "orphan" not in stack.must("up", "-d", env={"COMPOSE_IGNORE_ORPHANS": "1"}).stderr
    assert stack.must("ps", "--services", "--orphans=false").stdout.split() == ["db", "web"]
    down = stack.must("down")
    assert states(stack) == {"old": "running"}
    assert "whose services are in no file of this stack; --remove-orphans removes them" in down.stderr
    assert "old" not in stack.must("down", env={"COMPOSE_IGNORE_ORPHANS": "1"}).stderr
    assert down.seconds < 8, "the supervisor goes on, and is not waited for"
    stack.must("up", "-d", env={"COMPOSE_REMOVE_ORPHANS": "1"})
    assert states(stack) == {"db": "running", "web": "running"}


def test_a_service_that_only_the_files_have_has_no_container_and_is_no_mistake(
    pystack: Pystack, busybox_rootfs: Path
) -> None:
    stack = pystack.stack(STACK.format(rootfs=busybox_rootfs))
    assert stack.must("ps", "-q", "db").stdout == ""
    assert stack.run("ps", "-q", "old").code == 2
    stack.must("up", "-d", "db")
    (stack.directory / "compose.yaml").write_text((STACK + OLD).format(rootfs=busybox_rootfs))
    assert stack.must("ps", "-q", "old").stdout == ""
    for words in (["stop", "old"], ["kill", "old"], ["pause", "old"], ["rm", "-f", "old"]):
        assert f"nothing to {words[0]}" in stack.must(*words).stderr
    for words in (["exec", "old", "true"], ["restart", "old"], ["why", "old"], ["port", "old"], ["wait", "old"]):
        refused = stack.run(*words)
        assert (refused.code, "no such service" in refused.stderr) == (1, False), words
    for words in (["stop", "nope"], ["exec", "nope", "true"], ["ps", "nope"], ["why", "nope"]):
        assert "no such service: nope" in stack.run(*words).stderr
    stack.must("stop", "old", "db")
    assert states(stack) == {"db": "exited"}
    assert "container.started" in stack.must("events", "--since", "1h", "--until", "0s", "db").stdout


def test_down_works_with_files_that_cannot_be_loaded(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(STACK.format(rootfs=busybox_rootfs))
    stack.must("up", "-d")
    (stack.directory / "compose.yaml").write_text("services: [\n")
    told = stack.must("-f", "compose.yaml", "down")
    assert "cannot be loaded" in told.stderr
    assert stack.ps() == {}


def rows(stack: Stack) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stack.must("ps", "-a", "--format", "json").stdout.splitlines()]


def test_scaling_up_and_down_keeps_the_lowest_numbers(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(STACK.format(rootfs=busybox_rootfs))
    stack.must("up", "-d", "--scale", "web=3")
    first = {row["Name"]: row["ID"] for row in rows(stack) if row["Service"] == "web"}
    assert list(first) == [f"{stack.name}-web-{number}" for number in (1, 2, 3)]
    stack.must("scale", "web=2", "tool=2")
    after = {row["Name"]: row["ID"] for row in rows(stack)}
    assert [name for name in after if "web" in name] == list(first)[:2]
    assert all(after[name] == first[name] for name in list(first)[:2])
    assert len([name for name in after if "tool" in name]) == 2
    assert stack.must("why", "web").stdout.count(" is running: running") == 2
    refused = stack.run("scale", "web=20000")
    assert (refused.code, refused.stderr.count("error:")) == (2, 1)


ENDS = """
services:
  tests: {{image: 'rootfs:{rootfs}', command: [sh, -c, "trap 'exit 7' TERM; touch /ready; while :; do sleep 0.1; done"],
          stop_grace_period: 10s, healthcheck: {{test: [CMD, test, -e, /ready], interval: 100ms}}}}
  other: {{image: 'rootfs:{rootfs}', command: [sh, -c, "exit 3"], depends_on: {{tests: {{condition: service_healthy}}}}}}
"""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--exit-code-from", "tests"], 7),
        (["--exit-code-from", "other"], 3),
        (["--abort-on-container-exit"], 3),
        (["--abort-on-container-failure"], 3),
    ],
)
def test_the_exit_code_of_a_cascade(pystack: Pystack, busybox_rootfs: Path, words: list[str], code: int) -> None:
    stack = pystack.stack(ENDS.format(rootfs=busybox_rootfs))
    ended = stack.run("up", *words)
    assert ended.code == code, ended
    assert set(states(stack).values()) == {"exited"}


def test_a_stop_elsewhere_ends_an_up_that_aborts_on_an_end(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(STACK.format(rootfs=busybox_rootfs))
    argv = pystack.command("-p", stack.name, "up", "--abort-on-container-exit")
    with subprocess.Popen(
        argv, cwd=stack.directory, env=pystack.child_environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        eventually(lambda: b" up in " in process.stderr.readline())  # type: ignore[union-attr]
        stack.must("restart", "web")
        stack.must("stop", "web")
        _, rest = process.communicate(timeout=60)
    assert process.returncode == 137, rest
    assert states(stack) == {"db": "exited", "web": "exited"}


def test_what_was_only_created_is_not_started_by_another_command(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(
        f"""
services:
  made: {{image: "rootfs:{busybox_rootfs}", command: [sh, -c, "echo RAN; exec sleep 3600"], stop_grace_period: 0s}}
  other: {{image: "rootfs:{busybox_rootfs}", command: [sleep, "3600"], stop_grace_period: 0s}}
"""
    )
    stack.must("create", "made")
    row = stack.ps()["made"]
    assert (row["State"], row["Phase"], row["Status"]) == ("created", "created", "Created")
    stack.must("up", "-d", "other")
    stack.must("run", "--rm", "--no-deps", "other", "true")
    assert stack.ps()["made"]["State"] == "created"
    assert stack.must("logs", "made").stdout == ""
    stack.must("start", "made")
    eventually(lambda: "RAN" in stack.must("logs", "made").stdout)
    stack.must("stop")
    assert stack.ps()["made"]["State"] == "exited"
    told = stack.must("down").stderr
    assert "Started" not in told


def test_a_hostname_is_a_name_for_the_others(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(f"""
services:
  db: {{image: 'rootfs:{busybox_rootfs}', hostname: store.example, command: [sleep, '1000'], stop_grace_period: 1s}}
  asks: {{image: 'rootfs:{busybox_rootfs}', command: [nslookup, store.example], depends_on: [db]}}
""")
    stack.must("up", "-d", "--wait", "db")
    stack.must("run", "--rm", "asks")
