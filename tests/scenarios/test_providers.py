"""A service that is no container, beside one that needs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import Pystack, Stack, eventually

pytestmark = pytest.mark.kernel

STACK = """
services:
  app:
    image: rootfs:{rootfs}
    command: [sh, -c, 'echo "url $$DATABASE_URL"; exec sleep 3600']
    init: true
    depends_on: [database]
  database:
    provider: {{type: {program}, options: {{size: 5}}}}
"""
PROGRAM = """#!/bin/sh
echo "$@" >> "$(dirname "$0")/calls"
[ "$3" != up ] || echo '{"type": "setenv", "message": "URL=cloud://'"$SIZE"'"}'
"""


@pytest.fixture
def stack(pystack: Pystack, busybox_rootfs: Path, tmp_path: Path) -> Iterator[Stack]:
    program = tmp_path / "cloud"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    made = pystack.stack(STACK.format(rootfs=busybox_rootfs, program=program))
    yield made
    made.must("down", "-t", "1")


def calls(tmp_path: Path) -> list[str]:
    """What it was asked to do, without its metadata."""
    lines = (tmp_path / "calls").read_text().splitlines()
    return [line.split()[2] for line in lines if "metadata" not in line]


def test_its_variables_reach_the_container_and_another_answer_makes_it_anew(stack: Stack, tmp_path: Path) -> None:
    stack.must("up", "-d", env={"SIZE": "small"})
    assert stack.ps().keys() == {"app"}
    eventually(lambda: "url cloud://small" in stack.must("logs", "app").stdout)
    assert "nothing to do" in stack.must("plan").stdout
    stack.must("scale", "app=2")
    stack.must("up", "-d", env={"SIZE": "large"})
    eventually(lambda: "url cloud://large" in stack.must("logs", "app").stdout)
    ran = stack.must("run", "--rm", "-T", "app", "sh", "-c", "echo $DATABASE_URL", env={"SIZE": "large"})
    assert ran.stdout == "cloud://large\n"
    assert calls(tmp_path) == ["up", "up", "up"]
    stack.must("stop", "-t", "1")
    stack.must("down", "-t", "1")
    assert calls(tmp_path) == ["up", "up", "up", "down"]
