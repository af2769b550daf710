"""What containers write, on the screen of whoever looks: from the first line on, whatever happens to them meanwhile."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.machine import Pystack, Stack, eventually

pytestmark = pytest.mark.kernel

WAITING = """
services:
  db:
    image: rootfs:{rootfs}
    command: [sh, -c, "echo first; echo oops >&2; until [ -e /go ]; do sleep 0.05; done; exit 3"]
  web:
    image: rootfs:{rootfs}
    command: [sleep, "3600"]
    depends_on: {{db: {{condition: service_completed_successfully}}}}
"""
COUNTING = """
services:
  web:
    image: rootfs:{rootfs}
    command: [sh, -c, "echo hello {word}; trap 'echo bye; exit 0' TERM; while :; do sleep 0.05; done"]
  silent: {{image: "rootfs:{rootfs}", command: [sleep, "3600"], stop_grace_period: 0s}}
"""


class Watching:
    """A command that goes on, with its output in files."""

    def __init__(self, stack: Stack, *words: str) -> None:
        self.out, self.err = stack.directory / "watched.out", stack.directory / "watched.err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                stack.pystack.command("-p", stack.name, *words),
                cwd=stack.directory,
                env=stack.pystack.child_environment(),
                stdout=out,
                stderr=err,
            )

    def sees(self, line: str) -> None:
        eventually(lambda: line in self.out.read_text().splitlines())

    def __enter__(self) -> Watching:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def test_lines_of_a_dependency_are_seen_while_others_wait_and_when_it_fails(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(WAITING.format(rootfs=busybox_rootfs))
    with Watching(stack, "up") as up:
        up.sees("db-1   | first")
        assert stack.ps()["web"]["Phase"] == "waiting"
        eventually(lambda: "db-1   | oops" in up.err.read_text().splitlines())
        stack.must("exec", "-T", "db", "touch", "/go")
        assert up.process.wait(30) == 1
    assert up.out.read_text() == "db-1   | first\n"
    assert "  the last lines of its log:\n    | first\n    | oops\n" in up.err.read_text()


def test_following_goes_on_over_restart_replacement_and_scaling(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(COUNTING.format(rootfs=busybox_rootfs, word="1"))
    stack.must("up", "-d", "silent")
    assert stack.must("logs").stdout == ""
    assert stack.must("logs", "web").stdout == ""
    with Watching(stack, "logs", "-f") as logs:
        stack.must("up", "-d")
        logs.sees("web-1     | hello 1")
        stack.must("restart", "web")
        eventually(lambda: logs.out.read_text().count("hello 1") == 2)
        (stack.directory / "compose.yaml").write_text(COUNTING.format(rootfs=busybox_rootfs, word="2"))
        stack.must("up", "-d")
        logs.sees("web-1     | hello 2")
        stack.must("scale", "web=2")
        logs.sees("web-2     | hello 2")
        stack.must("stop")
        assert logs.process.wait(30) == 0
    lines = logs.out.read_text().splitlines()
    assert sorted(lines) == sorted(
        ["web-1     | hello 1", "web-1     | bye"] * 2 + ["web-1     | hello 2", "web-1     | bye"]
        + ["web-2     | hello 2", "web-2     | bye"]
    )  # fmt: skip
    assert stack.must("logs", "--index", "2", "web").stdout == "web-2  | hello 2\nweb-2  | bye\n"


SHORT = """
services:
  foo:
    image: rootfs:{rootfs}
    command: [sh, -c, "until [ -e /srv/bar ]; do sleep 0.05; done; echo from foo"]
    volumes: ["shared:/srv"]
    depends_on: [bar]
  bar:
    image: rootfs:{rootfs}
    command: [sh, -c, "echo from bar; touch /srv/bar; exec sleep 3600"]
    volumes: ["shared:/srv"]
    stop_grace_period: 0s
volumes: {{shared: {{}}}}
"""


def test_up_of_a_service_ends_with_it_and_shows_whose_logs_were_asked_for(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(SHORT.format(rootfs=busybox_rootfs))
    for words, shown in {
        ("foo",): {"foo-1  | from foo"},
        ("--attach-dependencies", "foo"): {"foo-1  | from foo", "bar-1  | from bar"},
        ("--attach", "bar", "foo"): {"bar-1  | from bar"},
        ("--attach-dependencies", "--no-attach", "foo", "foo"): {"bar-1  | from bar"},
    }.items():
        result = stack.must("up", "--force-recreate", *words)
        assert set(result.stdout.splitlines()) == shown, words
        assert "foo-1 exited with code 0\n" in result.stderr
        assert stack.ps()["bar"]["State"] == "running"
        stack.must("down", "-v")
    refused = stack.run("up", "--no-attach", "foo", "foo")
    assert refused.code == 2
    assert "--no-attach leaves no logs to follow" in refused.stderr


def test_up_goes_on_when_its_container_is_replaced_by_another_command(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(COUNTING.format(rootfs=busybox_rootfs, word="1"))
    with Watching(stack, "up", "web") as up:
        up.sees("web-1  | hello 1")
        stack.must("up", "-d", "--force-recreate", "web")
        eventually(lambda: up.out.read_text().count("hello 1") == 2)
        assert up.process.poll() is None
        stack.must("stop", "web")
        assert up.process.wait(10) == 0
