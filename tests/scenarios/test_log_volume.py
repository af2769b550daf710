"""Many megabytes of output: complete wherever they are shown, byte for byte, also when the log is rotated meanwhile."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from tests.machine import Pystack, Stack, eventually

pytestmark = pytest.mark.kernel

WRITING = """
services:
  lines:
    image: rootfs:{rootfs}
    command:
      - sh
      - -c
      - |
        echo ready; until [ -e /go ]; do sleep 0.05; done
        i=0; while [ $$i -lt {lines} ]; do echo $$i {padding}; i=$$((i+1)); done; printf end
    logging: {{options: {{max-size: 1m, max-file: "2"}}}}
  blocks:
    image: rootfs:{rootfs}
    command:
      - sh
      - -c
      - "seq 1 {blocks} > /numbers; echo ready; {wait}; dd if=/numbers bs=65536 2>/dev/null; echo end >&2"
    {logging}
"""
PADDING = "x" * 90
SMALL = "logging: {driver: local, options: {max-size: 300k, max-file: '1'}}"


WAIT = "until [ -e /go ]; do sleep 0.05; done"


def lines_of(count: int) -> bytes:
    return b"ready\n" + b"".join(b"%d %s\n" % (number, PADDING.encode()) for number in range(count)) + b"end"


def blocks_of(count: int) -> bytes:
    return b"ready\n" + b"".join(b"%d\n" % number for number in range(1, count + 1))


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def stack_of(pystack: Pystack, rootfs: Path, lines: int, blocks: int, logging: str, wait: str = WAIT) -> Stack:
    text = WRITING.format(rootfs=rootfs, lines=lines, padding=PADDING, blocks=blocks, logging=logging, wait=wait)
    return pystack.stack(text)


def begin(stack: Stack, out: Path | int, *words: str) -> subprocess.Popen[bytes]:
    """The command, with its stdout in a file (or in a pipe)."""
    target = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if isinstance(out, Path) else out
    try:
        return subprocess.Popen(
            stack.pystack.command("-p", stack.name, *words),
            cwd=stack.directory,
            env=stack.pystack.child_environment(),
            stdout=target,
            stderr=subprocess.DEVNULL,
        )
    finally:
        if isinstance(out, Path):
            os.close(target)


def check_all(stack: Stack, lines: int, blocks: int) -> None:
    """`up` in the foreground into a file, and `logs -f` of each service beside it, into a file and slowly into a pipe."""
    directory = stack.directory
    up = begin(stack, directory / "up", "up")
    eventually(lambda: (directory / "up").read_bytes().count(b"ready") == 2)
    following = begin(stack, directory / "blocks", "logs", "-f", "--no-log-prefix", "blocks")
    slow = begin(stack, subprocess.PIPE, "logs", "-f", "--no-log-prefix", "lines")
    pipe = slow.stdout
    assert pipe is not None
    read = pipe.readline()
    eventually(lambda: b"ready" in (directory / "blocks").read_bytes())
    for service in ("lines", "blocks"):
        stack.must("exec", "-T", service, "touch", "/go")
    assert up.wait(300) == 0
    with pipe:
        read += pipe.read()  # From here on: until now it was stuck after the first 64 KiB.
    assert (slow.wait(60), following.wait(60)) == (0, 0)
    assert digest(read) == digest(lines_of(lines))
    assert digest((directory / "blocks").read_bytes()) == digest(blocks_of(blocks))
    shown = (directory / "up").read_bytes().splitlines(keepends=True)
    ours = b"".join(line.removeprefix(b"lines-1   | ") for line in shown if line.startswith(b"lines-1   | "))
    assert digest(ours) == digest(lines_of(lines) + b"\n")
    others = b"".join(line.removeprefix(b"blocks-1  | ") for line in shown if line.startswith(b"blocks-1  | "))
    assert digest(others) == digest(blocks_of(blocks))


def test_twenty_megabytes_are_complete_in_up_and_in_logs_f_although_the_log_is_rotated(
    pystack: Pystack, busybox_rootfs: Path
) -> None:
    stack = stack_of(pystack, busybox_rootfs, 100_000, 1_300_000, SMALL)
    check_all(stack, 100_000, 1_300_000)
    logs = stack.log_file("blocks").parent

    def kept() -> int:
        sizes = []
        for file in logs.glob("*blocks-1.log*"):
            with contextlib.suppress(FileNotFoundError):  # Rotated away meanwhile.
                sizes.append(file.stat().st_size)
        return sum(sizes)

    stack.must("start", "blocks")
    eventually(lambda: kept() < 1 << 20)  # It has been read: the next run does away with it.


def test_twenty_megabytes_are_complete_in_logs_and_in_run(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = stack_of(pystack, busybox_rootfs, 10, 2_700_000, "", wait="true")
    stack.must("up", "-d", "--wait", "blocks")
    out, expected = stack.directory / "out", digest(blocks_of(2_700_000))
    eventually(lambda: stack.ps()["blocks"]["State"] == "exited")
    assert begin(stack, out, "logs", "--no-log-prefix", "blocks").wait(60) == 0
    assert digest(out.read_bytes()) == expected
    assert begin(stack, out, "logs", "blocks").wait(60) == 0
    assert digest(out.read_bytes().replace(b"blocks-1  | ", b"")) == expected
    assert begin(stack, out, "run", "--rm", "-T", "blocks").wait(60) == 0
    assert digest(out.read_bytes()) == expected


def test_a_service_without_a_log_is_told_and_its_one_off_shows_its_output(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(
        f"services:\n  quiet: {{image: 'rootfs:{busybox_rootfs}', command: [echo, hello], logging: {{driver: none}}}}\n"
    )
    told = "note: no log is kept of quiet (logging: {driver: none})"
    up = stack.must("up")
    assert up.stdout == ""
    assert "no log is kept of quiet" in up.stderr
    logs = stack.must("logs", "quiet")
    assert (logs.stdout, logs.stderr.strip()) == ("", told)
    assert stack.must("run", "--rm", "-T", "quiet").stdout == "hello\n"
