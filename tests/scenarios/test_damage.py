"""Damaged files of a project whose supervisor and monitor are gone: `down` says which, and leaves nothing all the same."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest

from tests.leaks import files
from tests.machine import Pystack, Stack, eventually

pytestmark = pytest.mark.kernel

STACK = """
services:
  db:
    image: rootfs:{rootfs}
    init: true
    command: [sleep, "3600"]
    volumes: ["data:/data", "/anonymous"]
    networks: [default, back]
  web:
    image: rootfs:{rootfs}
    init: true
    command: [sleep, "3600"]
networks: {{default: , back: {{internal: true}}}}
volumes: {{data: }}
"""


@pytest.fixture
def stack(pystack: Pystack, busybox_rootfs: Path) -> Stack:
    made = pystack.stack(STACK.format(rootfs=busybox_rootfs))
    made.must("up", "-d", timeout_s=60)
    return made


def lose_all_processes(stack: Stack) -> None:
    """As a power cut, but that the kernel's other objects stay. A monitor or a supervisor starts the other one again."""

    def gone() -> bool:
        for pid in stack.pystack.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not stack.pystack.processes()

    eventually(gone)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["wanted.json"], "wanted.json is damaged: wanted.json.copy was read instead"),
        (["wanted.json.copy", "ids", "lock"], ""),
        (["records.journal", "exits.journal", "events.jsonl"], "records.journal has a damaged line"),
        (["../../volumes/{name}_data/volume.json"], ""),
    ],
    ids=lambda value: Path(value[0]).name if isinstance(value, list) else "",
)
def test_down_leaves_nothing_and_says_what_was_damaged(stack: Stack, names: list[str], told: str) -> None:
    lose_all_processes(stack)
    for name in names:
        path = stack.pystack.data_dir / "projects" / stack.name / name.format(name=stack.name)
        data = bytearray(path.read_bytes())
        data[len(data) // 3] ^= 0x11
        path.write_bytes(data)
    said = stack.must("down", "-v", timeout_s=60)
    assert told in said.stderr, str(said)
    assert stack.pystack.processes() == {}
    assert files(stack.pystack.run_dir) == []
    assert not (stack.pystack.data_dir / "projects" / stack.name).exists()
    assert os.listdir(stack.pystack.data_dir / "volumes") == []
