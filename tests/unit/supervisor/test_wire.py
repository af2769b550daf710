"""Messages and descriptors over a real socket pair."""

from __future__ import annotations

import json
import os
import socket

import pytest
import trio
from trio.testing import MockClock

from orchestrator.errors import InputError
from orchestrator.supervisor import wire
from orchestrator.supervisor.wire import Connection, Disconnected


def pair() -> tuple[Connection, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return Connection(ours), theirs


async def test_a_request_arrives_with_its_descriptors() -> None:
    connection, client = pair()
    reader, writer = os.pipe()
    socket.send_fds(client, [b'{"v": 2, "verb": "exec", "args": {"argv": ["ls"]}}\n'], [writer])
    request = await connection.receive()
    assert (request.verb, request.args) == ("exec", {"argv": ["ls"]})
    os.write(request.fds[0], b"x")
    assert os.read(reader, 1) == b"x"
    for fd in (reader, writer, *request.fds):
        os.close(fd)
    connection.close()
    client.close()


async def test_two_requests_in_one_packet_are_two_requests() -> None:
    connection, client = pair()
    client.sendall(b'{"v": 2, "verb": "ps"}\n{"v": 2, "verb": "hello"}\n')
    assert [(await connection.receive()).verb for _ in range(2)] == ["ps", "hello"]
    connection.close()
    client.close()


NO_REQUESTS = [b"nonsense\n", b"[]\n", b'{"verb": 1}\n', b'{"v": 2, "verb": "up", "args": 3}\n', b"[" * 99999 + b"\n"]


@pytest.mark.parametrize("line", NO_REQUESTS)
async def test_what_is_no_request_is_refused_and_the_connection_goes_on(line: bytes) -> None:
    connection, client = pair()
    client.sendall(line + b'{"v": 2, "verb": "ps"}\n')
    with pytest.raises(InputError, match="malformed request"):
        await connection.receive()
    assert (await connection.receive()).verb == "ps"
    connection.close()
    client.close()


async def test_another_version_is_named() -> None:
    connection, client = pair()
    client.sendall(b'{"v": 9, "verb": "ps"}\n')
    with pytest.raises(InputError, match="speaks version 2 of the control protocol, not version 9"):
        await connection.receive()
    connection.close()
    client.close()


async def test_a_client_that_stops_in_the_middle_of_a_line_is_cut_off(autojump_clock: MockClock) -> None:
    connection, client = pair()
    client.sendall(b'{"v": 2,')
    with pytest.raises(Disconnected):
        await connection.receive()
    connection.close()
    client.close()


async def test_a_message_without_an_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_MESSAGE_BYTES", 1000)
    connection, client = pair()
    client.sendall(b"x" * 5000)
    with pytest.raises(Disconnected):
        await connection.receive()
    connection.close()
    client.close()


async def test_a_large_answer_arrives_whole(nursery: trio.Nursery) -> None:
    connection, client = pair()
    nursery.start_soon(connection.send, {"ok": "x" * 3_000_000})
    line = await trio.to_thread.run_sync(lambda: client.makefile("rb").readline())
    assert json.loads(line) == {"ok": "x" * 3_000_000}
    connection.close()
    client.close()


async def test_a_peer_that_left_is_known_without_reading() -> None:
    connection, client = pair()
    client.sendall(b"not read yet")
    assert not connection.gone()
    client.close()
    assert connection.gone()
    connection.close()
    assert connection.gone()
