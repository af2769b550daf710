"""Something else stands where a file of ours should: no command waits for it, and who needs the file says what is there."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.state.directory import FILES
from tests.machine import Pystack, Stack
from tests.scenarios.test_damage import lose_all_processes

pytestmark = pytest.mark.kernel

STACK = """
services:
  web:
    image: rootfs:{rootfs}
    init: true
    command: [sh, -c, "echo here; exec sleep 3600"]
    volumes: ["data:/data"]
volumes: {{data: }}
"""
KINDS = ("fifo", "device", "link", "socket", "foreign", "directory")
NEVER_S = 20.0
"""No command takes so long, unless it hangs."""


@pytest.fixture
def stack(pystack: Pystack, busybox_rootfs: Path) -> Stack:
    return pystack.stack(STACK.format(rootfs=busybox_rootfs))


def names_below(stack: Stack) -> list[Path]:
    """Each file of ours below the data and run directories of a project that lives, without what containers wrote; and
    what would be there a moment before or later."""
    data = stack.pystack.data_dir
    project = data / "projects" / stack.name
    found = {path for path in project.rglob("*") if path.is_file() and not {"upper", "work", "logs"} & set(path.parts)}
    found |= {project / name for name in FILES if name not in ("containers", "logs")}
    found |= {path for path in (data / "lock", *data.glob("volumes/*/*.json")) if path.exists()}
    found |= {path.with_name(f".{path.name}.new") for path in found if path.suffix in (".json", "") and path.name != "lock"}
    found |= {path for path in stack.pystack.run_dir.rglob("*") if path.is_socket()}
    return sorted(found)


def put(path: Path, kind: str) -> None:
    """In place of what is there."""
    content = b""
    if path.exists():
        content = path.read_bytes() if path.is_file() else b""
        path.unlink()
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "device":
            os.mknod(path, 0o600 | 0o020000, os.makedev(5, 1))
        case "link":
            path.symlink_to("/dev/zero")
        case "socket":
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(f"/proc/self/fd/{os.open(path.parent, os.O_PATH)}/{path.name}")
        case "foreign":
            path.write_bytes(content)
            os.chown(path, 4242, 4242)
        case "directory":
            path.mkdir()


def check(stack: Stack, path: Path, kind: str) -> Iterator[str]:
    """What is wrong with what the commands do when `path` is of `kind`."""
    for verb in (("ps", "--all"), ("logs",), ("up", "-d"), ("ps",), ("down", "-v", "-t", "0")):
        try:
            said = stack.run(*verb, timeout_s=NEVER_S)
        except AssertionError as exc:
            yield f"{verb[0]}: {exc}"
            lose_all_processes(stack)
            continue
        errors = [line for line in said.stderr.splitlines() if line.startswith("error")]
        if said.code not in (0, 1, 125) or (said.code and not errors) or "Traceback" in said.stderr:
            yield f"{verb[0]}: {said}"
        elif said.code and path.name.removeprefix(".").removesuffix(".new") not in said.stderr:
            yield f"{verb[0]} does not say which: {said}"


def look(stack: Stack, names: list[Path], kind: str) -> list[str]:
    wrong = []
    for path in names:
        stack.must("up", "-d")
        lose_all_processes(stack)
        put(path, kind)
        wrong += [f"{path.relative_to(stack.pystack.root)}: {text}" for text in check(stack, path, kind)]
        lose_all_processes(stack)
        if os.path.lexists(path):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        stack.must("down", "-v", "-t", "0")
    return wrong


@pytest.mark.parametrize("name", ["lock", "exits.journal"])
def test_no_command_hangs_when_a_fifo_stands_at_a_name_of_ours(stack: Stack, name: str) -> None:
    wrong = look(stack, [stack.pystack.data_dir / "projects" / stack.name / name], "fifo")
    assert not wrong, "\n".join(wrong)


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_no_command_hangs_whatever_stands_at_any_name_of_ours(stack: Stack, kind: str) -> None:
    stack.must("up", "-d")
    names = names_below(stack)
    stack.must("down", "-v", "-t", "0")
    wrong = look(stack, names, kind)
    assert not wrong, "\n".join(wrong)
