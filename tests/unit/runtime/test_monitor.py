"""The monitor's own modules, without a kernel: messages, and what it may import."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.kernel import fdpass
from orchestrator.runtime.monitor import wire

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("size", [0, 1, wire.INLINE_BYTES, wire.INLINE_BYTES + 1, 3_000_000])
def test_a_body_of_any_size_arrives_with_its_descriptors(pair: tuple[socket.socket, socket.socket], size: int) -> None:
    ours, theirs = pair
    body = os.urandom(size)
    reader, writer = os.pipe()
    packet, fds, memfd = wire.pack({"op": "x", "id": 1}, body, [writer])
    fdpass.send(ours, packet, fds)
    if memfd is not None:
        os.close(memfd)
    message = wire.receive(theirs)
    assert message is not None
    header, received, (copy,) = message
    assert (header["op"], received) == ("x", body)
    os.close(writer)
    os.write(copy, b"through")
    assert os.read(reader, 10) == b"through"
    assert not os.get_inheritable(copy)
    os.close(copy)
    os.close(reader)


def test_the_end_and_nonsense_are_told_apart(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    for nonsense in (b"{", b"[1]", b'{"memfd": true}'):
        ours.send(nonsense)
        with pytest.raises(ValueError):
            wire.receive(theirs)
    ours.close()
    assert wire.receive(theirs) is None


def test_the_monitor_imports_nothing_heavy() -> None:
    """It has to stay small, for each start copies it twice: the first of these modules cost one to three megabytes each."""
    program = "import sys; sys.path.append(sys.argv[1]); import orchestrator.kernel.clean_start"
    program += "; import orchestrator.runtime.monitor.server; print(*sys.modules)"
    argv = [sys.executable, "-I", "-S", "-c", program, str(ROOT)]
    loaded = set(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split())
    assert "orchestrator.runtime.monitor.steps" in loaded
    assert loaded.isdisjoint({"typing", "dataclasses", "inspect", "subprocess", "pathlib", "asyncio", "trio", "logging"})
    assert loaded.isdisjoint({"json", "re", "enum", "socket", "signal", "contextlib", "functools", "collections"})
