"""Asking the host's own resolvers for names that are not ours.

Messages are passed through byte for byte, except for the id, which is chosen anew for each question and, with the random
source port, keeps others from forging an answer (RFC 5452). EDNS and DNSSEC pass unseen (RFC 5625).
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence

import trio

from orchestrator.network import wire
from orchestrator.network.cache import AnswerCache
from orchestrator.network.pieces import Pieces, extended, joined

_RESOLV_CONF = "/etc/resolv.conf"
_MAX_SERVERS = 3
_ROUNDS = 2
_UDP_S = 1.5
_TCP_S = 5.0
_LONGEST = 65535
_ROOM = memoryview(bytearray(_LONGEST))
"""Of the event loop: nothing is in it while a task waits."""


class Upstream:
    """The resolvers that resolv.conf(5) names, read again whenever the file changes."""

    def __init__(self, path: str = _RESOLV_CONF, port: int = 53) -> None:
        self._path = path
        self._port = port
        self._stamp: tuple[int, ...] | None = None
        self._servers: tuple[str, ...] = ()
        self._cache = AnswerCache()

    def servers(self) -> tuple[str, ...]:
        """From any thread."""
        try:
            status = os.stat(self._path)
            stamp = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size)
            if stamp != self._stamp:
                with open(self._path, encoding="utf-8", errors="replace") as file:
                    servers = parse_servers(file.read(65536))
                self._servers, self._stamp = servers, stamp
        except OSError:
            self._servers, self._stamp = parse_servers(""), None
        return self._servers

    def known(self, message: bytes, servers: Sequence[str] = ()) -> bytes | None:
        """What was answered to `message` before, while that holds. From any thread."""
        return self._cache.find(servers or self.servers(), message)

    async def ask(self, message: bytes, stream: bool, servers: Sequence[str] = ()) -> bytes | None:
        """The answer of the first resolver (of `servers`, else the host's) that has one, with `message`'s id; None when
        none answered in time. By UDP a truncated answer is returned as it is: the client will ask again by TCP
        (`stream`)."""
        asked = tuple(servers or self.servers())
        if (known := self._cache.find(asked, message)) is not None:
            return known
        answer = await self._ask(message, stream, asked)
        if answer is not None and not stream:  # by TCP it may be larger than who asks by UDP can take
            self._cache.keep(asked, message, answer)
        return answer

    async def _ask(self, message: bytes, stream: bool, servers: Sequence[str]) -> bytes | None:
        try:
            question = wire.section(message)
        except ValueError:
            return None
        failed: bytes | None = None
        for _ in range(1 if stream else _ROUNDS):
            for server in servers:
                with trio.move_on_after(_TCP_S if stream else _UDP_S):
                    try:
                        ask = self._by_tcp if stream else self._by_udp
                        answer = await ask(server, os.urandom(2) + message[2:], question)
                    except (OSError, EOFError):
                        continue
                    answer = message[:2] + answer[2:]
                    if answer[3] & 0xF not in (wire.SERVFAIL, wire.REFUSED):
                        return answer
                    failed = answer
        return failed

    async def _by_udp(self, server: str, message: bytes, question: bytes) -> bytes:
        with trio.socket.socket(_family(server), socket.SOCK_DGRAM) as sock:
            await sock.connect((server, self._port))
            await sock.send(message)
            while True:
                answer = await _received(sock, _LONGEST)
                if _belongs(answer, message, question):
                    return answer

    async def _by_tcp(self, server: str, message: bytes, question: bytes) -> bytes:
        with trio.socket.socket(_family(server), socket.SOCK_STREAM) as sock:
            await sock.connect((server, self._port))
            await send_framed(sock, message)
            while True:
                answer = await receive_framed(sock)
                if _belongs(answer, message, question):
                    return answer


def parse_servers(text: str) -> tuple[str, ...]:
    """The ``nameserver`` lines; without any it is the local host, says resolv.conf(5)."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            address = words[1]
            try:
                socket.inet_pton(_family(address), address.partition("%")[0])
            except OSError:
                continue
            found.append(address)
    return tuple(found[:_MAX_SERVERS]) or ("127.0.0.1",)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _belongs(answer: bytes, message: bytes, question: bytes) -> bool:
    if len(answer) < 12 or answer[:2] != message[:2] or not answer[2] & 0x80:
        return False
    try:
        return wire.section(answer) == question
    except ValueError:
        return False


async def send_framed(sock: trio.socket.SocketType, message: bytes) -> None:
    """A message with its length before it (RFC 1035, 4.2.2)."""
    data = memoryview(struct.pack(">H", len(message)) + message)
    while data:
        data = data[await sock.send(data) :]


async def receive_framed(sock: trio.socket.SocketType, most: int = _LONGEST) -> bytes:
    """Raises EOFError when the peer has closed, and when it begins a message of more than `most` bytes."""
    (length,) = struct.unpack(">H", await _exactly(sock, 2))
    if length > most:
        raise EOFError
    return await _exactly(sock, length)


async def _exactly(sock: trio.socket.SocketType, count: int) -> bytes:
    pieces: Pieces = ()
    while count:
        part = await _received(sock, count)
        if not part:
            raise EOFError
        pieces = extended(pieces, part)
        count -= len(part)
    return joined(pieces)


async def _received(sock: trio.socket.SocketType, most: int) -> bytes:
    """A datagram, or what is there of a stream; empty at its end. Received in `_ROOM` and copied from there: recv(2) with
    as much room of its own would leave each message, while it waits for its rest, at the beginning of a hole of 64 KB."""
    while True:
        await trio.lowlevel.wait_readable(sock)
        try:
            length = os.readv(sock.fileno(), [_ROOM[:most]])
        except BlockingIOError:
            continue
        return bytes(_ROOM[:length])
