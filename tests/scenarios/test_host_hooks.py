"""`x-pystack.hooks`: what a stack wants done on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.machine import Pystack, Stack

pytestmark = pytest.mark.kernel
STACK = """
services:
  web:
    image: rootfs:{rootfs}
    command: [sleep, "3600"]
    stop_grace_period: 0s
  other:
    image: rootfs:{rootfs}
    command: [sleep, "3600"]
    stop_grace_period: 0s
x-pystack:
  hooks:
"""


@pytest.fixture
def made(pystack: Pystack, busybox_rootfs: Path) -> Stack:
    return pystack.stack(STACK.format(rootfs=busybox_rootfs))


def hooks(stack: Stack, text: str) -> None:
    path = stack.directory / "compose.yaml"
    head = path.read_text().partition("  hooks:\n")[0]
    path.write_text(f"{head}  hooks:\n{text}")


def test_they_run_at_their_time_in_the_projects_folder(made: Stack) -> None:
    hooks(
        made,
        """\
    before_up: 'echo "before $$COMPOSE_PROJECT_NAME $$(pwd)" > told; echo spoken'
    after_up:
      - 'echo "$$PYSTACK_HOOK" >> told'
      - 'echo second >> told'
    before_down: echo down >> told
""",
    )
    up = made.must("up", "-d")
    assert up.stdout == ""
    assert "spoken" in up.stderr
    told = made.directory / "told"
    assert told.read_text().splitlines() == [f"before {made.name} {made.directory}", "after_up", "second"]
    made.must("down", "web")
    assert told.read_text().splitlines()[3:] == []
    (made.directory / "compose.yaml").rename(made.directory / "elsewhere.yaml")
    made.must("down")
    assert told.read_text().splitlines()[3:] == ["down"]


def test_one_that_fails_before_up_is_the_end_of_it(made: Stack) -> None:
    hooks(made, "    before_up: ['echo no >&2; exit 7', 'touch never']\n")
    done = made.run("up", "-d")
    assert done.code == 1
    assert "compose.yaml:13:17: x-pystack.hooks.before_up[0]: the hook exited with code 7" in done.stderr
    assert not (made.directory / "never").exists()
    assert made.ps() == {}


def test_one_that_fails_after_up_leaves_everything_up(made: Stack) -> None:
    hooks(made, "    after_up: 'kill -9 $$$$'\n")
    done = made.run("up", "-d")
    assert done.code == 1
    assert "x-pystack.hooks.after_up[0]: the hook was killed by SIGKILL" in done.stderr
    assert made.ps()["web"]["State"] == "running"


def test_one_that_fails_before_down_keeps_everything(made: Stack) -> None:
    hooks(made, "    before_down: 'exit 3'\n")
    made.must("up", "-d")
    assert made.run("down").code == 1
    assert made.ps()["web"]["State"] == "running"
    hooks(made, "    before_down: 'true'\n")
    made.must("up", "-d")
    made.must("down")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("    before_up: 3\n", "x-pystack.hooks.before_up"),
        ("    before_up: ['']\n", "x-pystack.hooks.before_up[0]: is empty"),
        ("    before_pu: ls\n", "before_pu"),
    ],
)
def test_what_is_no_hook_is_refused_with_its_place(made: Stack, text: str, complaint: str) -> None:
    hooks(made, text)
    done = made.run("up", "-d")
    assert done.code == 2, done.stderr
    assert "compose.yaml:13:" in done.stderr
    assert complaint in done.stderr
