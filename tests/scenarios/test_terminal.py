"""A real terminal in front of real containers: `exec`, and Ctrl-C during `up`."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.machine import Pystack, Stack, eventually

pytestmark = pytest.mark.kernel
CTRL_C = b"\x03"
DEADLINE_S = 20.0


class Terminal:
    """A terminal of 33 x 101 with a command on it (`pystack` with `words`, or `command`), in a session of its own."""

    def __init__(self, stack: Stack, *words: str, command: Sequence[str] = ()) -> None:
        self.master, slave = pty.openpty()
        self.slave = slave
        self.resize(33, 101)
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *(command or stack.pystack.command("-p", stack.name, *words))],
            cwd=stack.directory,
            env={**stack.pystack.child_environment(), "TERM": "xterm"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        self.seen = b""
        self.change = threading.Condition()
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def type(self, data: bytes) -> None:
        os.write(self.master, data)

    def until(self, text: bytes) -> None:
        """Wait until `text` is shown; what was shown up to it is passed over."""
        with self.change:
            shown = self.change.wait_for(lambda: text in self.seen, timeout=DEADLINE_S)
            assert shown, f"{text!r} is not shown: {self.seen!r}"
            self.seen = self.seen.partition(text)[2]

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(self.master, 4096):
                with self.change:
                    self.seen += data
                    self.change.notify()

    def end(self) -> int:
        return self.process.wait(timeout=DEADLINE_S)

    def is_canonical(self) -> bool:
        return bool(termios.tcgetattr(self.slave)[3] & termios.ICANON)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        os.close(self.slave)  # The last one: reading ends.
        self.reader.join()
        os.close(self.master)


@contextlib.contextmanager
def terminal(stack: Stack, *words: str, command: Sequence[str] = ()) -> Iterator[Terminal]:
    opened = Terminal(stack, *words, command=command)
    try:
        yield opened
    finally:
        opened.close()


def test_a_shell_in_a_container_has_a_terminal(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(f"services: {{web: {{image: 'rootfs:{busybox_rootfs}', command: [sleep, '3600'], init: true}}}}")
    stack.must("up", "-d")
    with terminal(stack, "exec", "web", "sh") as screen:
        screen.until(b"# ")  # What is typed before the terminal is raw is thrown away.
        screen.type(b"stty size; tty\n")
        screen.until(b"\n33 101\r\n/dev/pts/0\r\n")
        screen.resize(50, 120)
        screen.process.send_signal(signal.SIGWINCH)
        screen.type(b"until [ \"$(stty size)\" = '50 120' ]; do :; done; echo resized'!'\n")
        screen.until(b"\nresized!\r\n")
        screen.type(b"sh -c \"echo at'!'; exec sleep 3600\"\n")  # It says so when the terminal is its own already.
        screen.until(b"\nat!\r\n")
        screen.type(CTRL_C)
        screen.until(b"^C")
        screen.type(b"echo code=$?'!'\n")
        screen.until(b"code=130!")
        screen.type(b"exit 42\n")
        assert screen.end() == 42
        assert screen.is_canonical()


def test_an_interrupt_that_is_sent_ends_a_run_on_a_terminal(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(f"services: {{web: {{image: 'rootfs:{busybox_rootfs}', stop_grace_period: 0s}}}}")
    with terminal(stack, "run", "--rm", "web", "sh", "-c", "echo there'!'; exec sleep 3600") as screen:
        screen.until(b"there!")
        screen.process.send_signal(signal.SIGINT)
        assert screen.end() == 130
        assert screen.is_canonical()
    assert stack.ps() == {}


STUBBORN = """
services:
  stubborn:
    image: rootfs:{rootfs}
    command: [sh, -c, "trap '' TERM INT; echo ready'!'; while :; do sleep 1; done"]
    stop_grace_period: 10m
  waiting:
    image: rootfs:{rootfs}
    command: [sleep, "3600"]
    depends_on: {{never: {{condition: service_completed_successfully}}}}
  never:
    image: rootfs:{rootfs}
    command: [sleep, "3600"]
    stop_grace_period: 1s
"""


def test_ctrl_c_stops_and_a_second_one_kills(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(STUBBORN.format(rootfs=busybox_rootfs))
    with terminal(stack, "up") as screen:
        eventually(lambda: stack.log_file("stubborn").exists() and stack.log_file("stubborn").read_bytes())
        screen.type(CTRL_C)
        eventually(lambda: stack.ps()["never"]["State"] == "exited")
        assert stack.ps()["stubborn"]["Pid"]
        screen.type(CTRL_C)
        assert screen.end() == 130
        assert screen.is_canonical()
    assert {row["State"] for row in stack.ps().values()} <= {"exited", "created"}
    assert stack.ps()["stubborn"]["ExitCode"] == 137


def test_what_a_closed_terminal_leaves_goes_on_and_down_ends_it_also_amid_a_build(
    pystack: Pystack, busybox_rootfs: Path
) -> None:
    stack = pystack.stack(
        f"services:\n  web: {{image: 'rootfs:{busybox_rootfs}', command: [sleep, '600'], init: true}}\n"
        "  slow: {build: {context: ., dockerfile: slow}, command: [sleep, '600']}\n",
        files={"slow": f"FROM rootfs:{busybox_rootfs}\nRUN sleep 600\n"},
    )
    process = subprocess.Popen(
        stack.pystack.command("-p", stack.name, "up"),
        cwd=stack.directory,
        env=stack.pystack.child_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if b"2/2: RUN sleep" in line:
            break
    eventually(lambda: stack.ps()["web"]["State"] == "running")
    process.send_signal(signal.SIGHUP)
    process.stderr.close()
    assert process.wait(DEADLINE_S) == -signal.SIGHUP
    assert stack.ps()["web"]["State"] == "running"
    done = stack.must("down")
    assert done.seconds < 8, "down waited for a build that nobody needs"
    assert stack.must("up", "-d", "web").code == 0  # Nothing of the first supervisor is in the way.
    stack.must("down")
