from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from orchestrator.kernel import fdpass


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def test_descriptors_arrive_with_the_bytes_and_close_on_exec(pair: tuple[socket.socket, socket.socket]) -> None:
    reader, writer = os.pipe()
    assert fdpass.send(pair[0], b"two", [reader, writer]) == 3
    data, fds, cut = fdpass.receive(pair[1], 100)
    assert (data, len(fds), cut) == (b"two", 2, False)
    os.write(fds[1], b"through")
    assert os.read(reader, 10) == b"through"
    assert not any(os.get_inheritable(fd) for fd in fds)
    fdpass.close_all([*fds, reader, writer])


def test_as_many_as_there_may_be(pair: tuple[socket.socket, socket.socket]) -> None:
    fdpass.send(pair[0], b"x", [0] * fdpass.MOST_FDS)
    _, fds, cut = fdpass.receive(pair[1], 1)
    assert (len(fds), cut) == (fdpass.MOST_FDS, False)
    fdpass.close_all(fds)


def test_bytes_without_descriptors_and_the_end(pair: tuple[socket.socket, socket.socket]) -> None:
    fdpass.send(pair[0], b"plain")
    assert fdpass.receive(pair[1], 100) == (b"plain", [], False)
    pair[0].close()
    assert fdpass.receive(pair[1], 100) == (b"", [], False)


def test_a_cut_packet_says_so(pair: tuple[socket.socket, socket.socket]) -> None:
    fdpass.send(pair[0], b"too long", [0])
    data, fds, cut = fdpass.receive(pair[1], 3)
    fdpass.close_all(fds)
    assert (data, cut) == (b"too", True)


def test_a_receiver_without_room_for_descriptors_is_told() -> None:
    """In a process of its own: the limit would be everybody's."""
    program = (
        "import os, resource, socket\n"
        "from orchestrator.kernel import fdpass\n"
        "a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "fdpass.send(a, b'x', [0, 1, 2])\n"
        "used = max(map(int, os.listdir('/proc/self/fd')))\n"
        f"resource.setrlimit({resource.RLIMIT_NOFILE}, (used + 1, used + 1))\n"
        "data, fds, cut = fdpass.receive(b, 10)\n"
        "print(data, len(fds), cut)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "b'x'"
    assert int(done.stdout.split()[1]) < 3
    assert done.stdout.split()[2] == "True"


def test_closing_goes_on_after_a_descriptor_that_is_closed_already() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    fdpass.close_all([reader, writer])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(writer)
