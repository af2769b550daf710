"""`pystack exec` with a real terminal on our side and a real pty on the other."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import signal
import stat
import struct
import subprocess
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

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
    assert (args["tty"], args["rows"], args["columns"]) == (True, 31, 97)
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
        assert terminal.process.wait(20) == 128 + signal.SIGTERM
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


class Far(threading.Thread):
    """The process's end of an exec without a terminal. `pipes`: stdin, stdout, stderr."""

    def __init__(self, bench: Bench, act: Callable[[Far], int]) -> None:
        super().__init__()
        self.left = threading.Event()
        self.words: list[dict[str, int]] = []

        def script(exchange: Exchange) -> None:
            assert all(stat.S_ISFIFO(os.fstat(fd).st_mode) for fd in exchange.fds)
            self.pipes = exchange.fds
            self.exchange = exchange
            exchange.ok({"status": act(self)})

        bench.serve(exec=script)

    def hear(self) -> int:
        """The next signal; 0 when the client has left."""
        try:
            line = self.exchange.connection.recv(4096)
        except ConnectionResetError:
            return 0
        return int(json.loads(line)["signal"]) if line else 0


def test_without_a_terminal_all_that_passes_goes_through_pipes_of_ours(bench: Bench) -> None:
    def act(far: Far) -> int:
        stdin, stdout, stderr = far.pipes
        data = b""
        while more := os.read(stdin, 100):
            data += more
        os.write(stdout, b"out:" + data)
        os.write(stderr, b"err:" + data)
        return 3

    Far(bench, act)
    process = bench.spawn("exec", "db", "cat", stdin=subprocess.PIPE)
    out, err = process.communicate(b"hello", timeout=30)
    assert (process.returncode, out, err) == (3, b"out:hello", b"err:hello")


def test_stdin_that_never_ends_and_a_writer_that_stays_do_not_hold_up_the_end(bench: Bench) -> None:
    kept: list[int] = []

    def act(far: Far) -> int:
        kept.append(os.dup(far.pipes[1]))  # A process left in the background has it.
        os.write(far.pipes[1], b"x" * 60_000)
        return 0

    Far(bench, act)
    with bench.spawn("exec", "-T", "db", "true", stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read() == b"x" * 60_000
        assert process.wait(20) == 0
    with pytest.raises(BrokenPipeError):
        os.write(kept[0], b"y")
    os.close(kept[0])


def test_a_file_that_is_appended_to_is_written_too(bench: Bench, tmp_path: Path) -> None:
    Far(bench, lambda far: os.write(far.pipes[1], b"new\n") * 0)
    file = tmp_path / "file"
    file.write_text("old\n")
    command = bench.command("exec", "-T", "db", "echo")
    with open(file, "ab") as opened:
        ran = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=opened, timeout=20, cwd=bench.directory)
    assert (ran.returncode, file.read_text()) == (0, "old\nnew\n")


def test_nobody_who_reads_our_stdout_ends_the_process_s_stdout_as_a_pipe_would(bench: Bench) -> None:
    def act(far: Far) -> int:
        try:
            while True:
                os.write(far.pipes[1], b"line\n" * 1000)
        except BrokenPipeError:
            return 141

    Far(bench, act)
    process = bench.spawn("exec", "-T", "db", "yes", stdin=subprocess.DEVNULL)
    assert process.stdout is not None
    assert process.stdout.read(5) == b"line\n"
    process.stdout.close()
    assert process.wait(20) == 141
    process.stderr.close() if process.stderr else None


def test_stdin_is_not_connected_when_it_is_not_wanted(bench: Bench) -> None:
    Far(bench, lambda far: len(os.read(far.pipes[0], 10)))
    process = bench.spawn("exec", "--interactive=false", "db", "cat", stdin=subprocess.PIPE)
    process.communicate(b"never seen", timeout=20)
    assert process.returncode == 0


def test_signals_are_passed_on_and_the_third_ends_it_by_leaving(bench: Bench) -> None:
    heard: list[int] = []

    def act(far: Far) -> int:
        os.write(far.pipes[1], b"running\n")
        for number in (signal.SIGINT, signal.SIGTERM):
            process.send_signal(number)
            heard.append(far.hear())
        process.send_signal(signal.SIGINT)
        assert far.hear() == 0
        return 0

    far = Far(bench, act)
    process = bench.spawn("exec", "db", "sleep", "99", stdin=subprocess.DEVNULL)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert heard == [signal.SIGINT, signal.SIGTERM]
    assert far.pipes


def test_detached_it_returns_at_once_and_connects_nothing(bench: Bench) -> None:
    server = bench.serve(exec=lambda exchange: exchange.ok({"status": len(exchange.fds)}))
    process = bench.spawn("exec", "-d", "db", "sleep", "9", stdin=subprocess.DEVNULL)
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert server.last("exec")["detach"] is True


@pytest.mark.parametrize(("keys", "typed"), [(None, b"\x10\x11"), ("ctrl-x,q", b"\x18q")])
def test_the_detach_keys_leave_it_running(
    bench: Bench, far: tuple[int, int], keys: str | None, typed: bytes
) -> None:
    master, slave = far
    words: list[bytes] = []

    def script(exchange: Exchange) -> None:
        exchange.event({"tty": True}, (master,))
        os.write(slave, b"ready")
        words.append(exchange.connection.recv(4096))
        exchange.ok({"status": 0})

    bench.serve(exec=script)
    options = () if keys is None else ("--detach-keys", keys)
    terminal = Terminal(bench, "exec", *options, "db", "sh")
    try:
        terminal.until(b"ready")
        terminal.type(typed[:1] + b"a" + typed)
        assert os.read(slave, 10) == typed[:1] + b"a"
        assert terminal.process.wait(20) == 0
        assert not terminal.raw()
        terminal.until(b"detached")
    finally:
        terminal.close()
    assert [json.loads(word) for word in words] == [{"detach": True}]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT])
def test_the_terminal_is_restored_however_it_ends(bench: Bench, far: tuple[int, int], number: signal.Signals) -> None:
    master, slave = far

    def script(exchange: Exchange) -> None:
        exchange.event({"tty": True}, (master,))
        os.write(slave, b"ready")
        exchange.wait_closed()

    bench.serve(exec=script)
    terminal = Terminal(bench, "exec", "db", "sh")
    try:
        terminal.until(b"ready")
        terminal.process.send_signal(number)
        assert terminal.process.wait(20) == 128 + number
        assert not terminal.raw()
    finally:
        terminal.close()
