"""`plan -o` and `apply`: the plan on paper, carried out once, from anywhere, or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.machine import Pystack, Stack

pytestmark = pytest.mark.kernel

STACK = """
services:
  db:
    image: rootfs:{rootfs}
    command: [sleep, "3600"]
    stop_grace_period: 0s
    environment: {{PASSWORD: s3cret-value}}
  web:
    image: rootfs:{rootfs}
    command: [sleep, "${{SECONDS_TO_SLEEP:-3600}}"]
    stop_grace_period: 0s
    depends_on: [db]
"""


@pytest.fixture
def stack(pystack: Pystack, busybox_rootfs: Path) -> Stack:
    return pystack.stack(STACK.format(rootfs=busybox_rootfs))


def test_a_plan_is_carried_out_once_and_what_has_moved_is_named_with_code_3(stack: Stack, tmp_path: Path) -> None:
    file = str(tmp_path / "plan.json")
    printed = stack.must("plan", "-o", file).stdout
    assert json.loads(Path(file).read_text())["text"] == printed
    assert os.stat(file).st_mode & 0o777 == 0o600
    assert "s3cret-value" not in Path(file).read_text()
    assert "2 containers changed" in stack.must("apply", file).stderr
    assert set(stack.ps()) == {"db", "web"}
    again = stack.run("apply", file)
    assert again.code == 3
    assert "container " in again.stderr
    stack.must("plan", "restart", "web", "-o", file)
    stack.must("stop", "db")
    pid = stack.ps()["web"]["Pid"]
    assert stack.run("apply", file).code == 3
    assert stack.ps()["web"]["Pid"] == pid
    stack.must("plan", "down", "-o", file)
    stack.must("apply", file)
    assert stack.ps() == {}


def test_what_the_compose_files_say_is_compared_with_its_variables_and_without_its_comments(
    stack: Stack, tmp_path: Path
) -> None:
    file = str(tmp_path / "plan.json")
    stack.must("plan", "-o", file)
    other = stack.run("apply", file, env={"SECONDS_TO_SLEEP": "7200"})
    assert other.code == 3
    assert "service web of the compose files" in other.stderr
    compose = Path(stack.directory) / "compose.yaml"
    compose.write_text("# A comment moves nothing.\n" + compose.read_text())
    stack.must("apply", file)


@pytest.mark.parametrize("text", ["", "{}", "[1]", "not json", '{"pystack_plan": 2}', '{"pystack_plan": 1, "project": 5}'])
def test_a_file_that_is_no_plan_is_one_error_with_code_2(stack: Stack, tmp_path: Path, text: str) -> None:
    file = tmp_path / "plan.json"
    file.write_text(text)
    result = stack.run("apply", str(file))
    assert result.code == 2
    assert str(file) in result.stderr
    assert "Traceback" not in result.stderr


def test_what_runs_is_not_stopped_for_an_image_that_cannot_be_had(stack: Stack, tmp_path: Path) -> None:
    file = str(tmp_path / "plan.json")
    stack.must("up", "-d")
    before = {name: row["Pid"] for name, row in stack.ps().items()}
    place = stack.directory / "compose.yaml"
    old, _, rest = place.read_text().partition("image: rootfs:")
    place.write_text(f"{old}image: 127.0.0.1:1/nobody/here:1{rest[rest.index(chr(10)):]}")
    stack.must("plan", "-o", file)
    done = stack.run("apply", file)
    assert done.code == 1
    assert "127.0.0.1:1" in done.stderr
    assert {name: row["Pid"] for name, row in stack.ps().items()} == before
