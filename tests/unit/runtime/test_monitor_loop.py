"""Whatever a handler or a timer raises, the monitor's loop goes on."""

from __future__ import annotations

import errno
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.runtime.monitor import loop as loops
from orchestrator.runtime.monitor.loop import Connection, Loop

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def fail(error: Exception) -> Callable[..., None]:
    def action(*_: object) -> None:
        raise error

    return action


def stop_soon(loop: Loop, seconds: float = 0.0) -> None:
    def stop() -> None:
        loop.stopped = True

    loop.later(seconds, stop)


@pytest.mark.parametrize("error", [OSError(errno.EAGAIN, "no processes"), ValueError("a bug"), MemoryError()])
def test_a_timer_that_raises_ends_neither_the_loop_nor_the_other_timers(
    error: Exception, capfd: pytest.CaptureFixture[str]
) -> None:
    loop, done = Loop(), []
    loop.later(0, fail(error))
    loop.later(0, lambda: done.append(True))
    stop_soon(loop)
    loop.run()
    assert done == [True]
    assert type(error).__name__ in capfd.readouterr().err


def test_a_failure_is_told_once_per_kind(capfd: pytest.CaptureFixture[str]) -> None:
    loop = Loop()
    for _ in range(5):
        loop.later(0, fail(ValueError("one")))
        loop.later(0, fail(OSError(1, "two")))
    stop_soon(loop)
    loop.run()
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all("told once" in line for line in lines)


def test_a_handler_that_raises_rests_and_is_called_again(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loops, "_RETRY_S", 0.01)
    loop, calls = Loop(), 0

    def handler(_: int) -> None:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise OSError(errno.EMFILE, "too many")
        loop.stopped = True

    os.write(pipe[1], b"x")
    loop.add(pipe[0], handler)
    loop.run()
    assert calls == 3
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_what_was_removed_while_it_rested_is_not_called_again(pipe: tuple[int, int]) -> None:
    """Its number may be another's by then."""
    loop = Loop()
    os.write(pipe[1], b"x")
    loop.add(pipe[0], fail(AssertionError("called")))
    loop.rest(pipe[0], 0)
    loop.remove(pipe[0])
    loop.add(pipe[0], lambda _: stop_soon(loop))
    loop.run()


def test_a_resting_descriptor_comes_back_with_the_events_asked_for_meanwhile(pipe: tuple[int, int]) -> None:
    loop = Loop()

    def writable(_: int) -> None:
        loop.stopped = True

    loop.add(pipe[1], writable, 0)
    loop.rest(pipe[1], 0)
    loop.change(pipe[1], 4)
    loop.run()


def test_a_request_whose_descriptors_do_not_fit_is_answered_and_the_connection_stays() -> None:
    """In a process of its own: the limit would be everybody's."""
    program = f"""
import os, resource, socket, json
from orchestrator.kernel import fdpass
from orchestrator.runtime.monitor.loop import Connection, Loop
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
loop, seen = Loop(), []
def message(connection, header, body, fds):
    seen.append(header["op"])
    loop.stopped = True
connection = Connection(loop, theirs, message, lambda connection: None)
fdpass.send(ours, json.dumps({{"op": "keep", "id": 7}}).encode(), [0, 1, 2])
fdpass.send(ours, json.dumps({{"op": "next", "id": 8}}).encode())
used = max(map(int, os.listdir("/proc/self/fd")))
resource.setrlimit({resource.RLIMIT_NOFILE}, (used, used))
loop.run()
answer = json.loads(ours.recv(1000))
print(seen, answer["re"], answer["errno"], connection.closed)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == f"['next'] 7 {errno.EMFILE} False"


def test_a_client_that_closes_is_told_to_its_owner() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    loop, closed = Loop(), []

    def on_close(connection: Connection) -> None:
        closed.append(connection.silent)
        loop.stopped = True

    Connection(loop, theirs, lambda *_: None, on_close)
    ours.close()
    loop.run()
    assert closed == [False]
