"""`pystack exec` with a real terminal on our side and a real pty on the other."""

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
import tty
from collections.abc import Iterator

import pytest

from tests.unit.cli.conftest import Bench
from tests.unit.cli.supervisor import Exchange


class Terminal:
    """A terminal with somebody who reads and types."""

    def __init__(self, bench: Bench, *words: str, rows: int = 24, columns: int = 80) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
        environment = {**os.environ, "TERM": "xterm"}
        self.process = subprocess.Popen(
            bench.command(*words), stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        self.slave = slave
        self.seen = b""

    def type(self, data: bytes) -> None:
        os.write(self.master, data)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def until(self, text: bytes) -> None:
        """Read until `text` has been shown."""
        while text not in self.seen:
            data = os.read(self.master, 4096)
            assert data, self.seen
            self.seen += data

    def raw(self) -> bool:
        return not termios.tcgetattr(self.slave)[3] & termios.ICANON

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def far() -> Iterator[tuple[int, int]]:
    """The container's pty: (master, slave)."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    yield master, slave
    for fd in (master, slave):
        with contextlib.suppress(OSError):
            os.close(fd)


def size(fd: int) -> tuple[int, int]:
    rows, columns, _, _ = struct.unpack("4H", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))
    return rows, columns


def test_keys_and_output_pass_both_ways_and_the_terminal_is_restored(bench: Bench, far: tuple[int, int]) -> None:
    master, slave = far
    finish = threading.Event()

    def script(exchange: Exchange) -> None:
        exchange.event({"tty": True}, (master,))
        os.write(slave, b"prompt$ ")
        assert finish.wait(20)
        os.write(slave, b"the last words")
        exchange.ok({"status": 42})

    server = bench.serve(exec=script)
    terminal = Terminal(bench, "exec", "db", "sh", rows=31, columns=97)
    try:
        terminal.until(b"prompt$ ")
        assert terminal.raw()
        assert size(master) == (31, 97)
        terminal.type(b"ls\r\x03")
        assert os.read(slave, 3) == b"ls\r"
        assert os.read(slave, 1) == b"\x03"
        terminal.resize(10, 20)
        terminal.type(b"!")
        assert os.read(slave, 1) == b"!"
        assert size(master) == (10, 20)
        finish.set()
        terminal.until(b"the last words")
        assert terminal.process.wait(20) == 42
        assert not terminal.raw()
    finally:
        terminal.close()
    args = server.last("exec")
    assert args["tty"] is True
    assert args["environment"] == {"TERM": "xterm"}


def test_a_terminated_exec_restores_the_terminal_and_leaves(bench: Bench, far: tuple[int, int]) -> None:
    master, slave = far

    def script(exchange: Exchange) -> None:
        exchange.event({"tty": True}, (master,))
        os.write(slave, b"ready")
        exchange.wait_closed()

    bench.serve(exec=script)
    terminal = Terminal(bench, "exec", "db", "sh")
    try:
        terminal.until(b"ready")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.process.wait(20) == 130
        assert not terminal.raw()
    finally:
        terminal.close()


def test_a_command_that_cannot_be_run_on_a_terminal_is_told(bench: Bench) -> None:
    bench.serve(exec=lambda exchange: exchange.error('"nope" does not exist in db', exit_code=127), ps=lambda e: e.ok([]))
    terminal = Terminal(bench, "exec", "db", "nope")
    try:
        terminal.until(b'error: "nope" does not exist in db')
        assert terminal.process.wait(20) == 127
    finally:
        terminal.close()


def test_no_tty_hands_over_our_own_descriptors(bench: Bench) -> None:
    def script(exchange: Exchange) -> None:
        stdin, stdout, stderr = exchange.fds
        data = os.read(stdin, 100)
        os.write(stdout, b"out:" + data)
        os.write(stderr, b"err:" + data)
        exchange.ok({"status": 0})

    bench.serve(exec=script)
    process = bench.spawn("exec", "db", "cat", stdin=subprocess.PIPE)
    out, err = process.communicate(b"hello", timeout=30)
    assert (process.returncode, out, err) == (0, b"out:hello", b"err:hello")


def test_ctrl_c_without_a_terminal_ends_the_command_by_leaving(bench: Bench) -> None:
    left = threading.Event()

    def script(exchange: Exchange) -> None:
        os.write(exchange.fds[1], b"running\n")
        exchange.wait_closed()
        left.set()

    bench.serve(exec=script)
    process = bench.spawn("exec", "db", "sleep", "99", stdin=subprocess.DEVNULL)
    assert process.stdout is not None
    assert process.stdout.readline() == b"running\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert left.wait(20)
