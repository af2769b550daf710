"""Messages of the control protocol on a trio socket (docs/control-protocol.md): one JSON object a line, and descriptors.

A message is bounded (8 MiB) and so is the time a peer may take for the rest of a line it began (10 s): whoever connects to
the socket has our uid, but a broken client must not cost more than its own connection.
"""

from __future__ import annotations

import array
import json
import os
import select
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import trio

from orchestrator.errors import InputError
from orchestrator.values import frozen

VERSION = 1
MAX_MESSAGE_BYTES = 8 << 20
_LINE_TIMEOUT_S = 10.0
_MAX_FDS = 8
_ANCILLARY_BYTES = socket.CMSG_SPACE(_MAX_FDS * array.array("i").itemsize)


@frozen
class Request:
    """`fds` belong to whoever handles the request."""

    verb: str
    args: Mapping[str, Any]
    fds: tuple[int, ...] = ()


class Disconnected(Exception):
    """The peer closed the connection."""


class Connection:
    """One client. `pid` is the peer's process id by SO_PEERCRED, for "busy" messages."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._socket = sock
        self._buffer = bytearray()
        self._fds: list[int] = []
        self._sending = trio.Lock()
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        self.pid, self.uid, _ = struct.unpack("3i", credentials)

    async def receive(self) -> Request:
        """The next request. Raises Disconnected at the end, InputError for what is no request."""
        line = await self._line()
        fds, self._fds = tuple(self._fds), []
        try:
            message = json.loads(line)
            if not isinstance(message, dict) or not isinstance(message.get("verb"), str):
                raise ValueError("not a request object")
            args = message.get("args") or {}
            if not isinstance(args, dict):
                raise ValueError("args is not an object")
        except (ValueError, RecursionError) as exc:
            close_all(fds)
            raise InputError(f"malformed request: {exc}") from exc
        if message.get("v") != VERSION:
            close_all(fds)
            raise InputError(
                f"control protocol version {message.get('v')!r} is not spoken here, only {VERSION}",
                hint="another version of pystack brought this project up: take it down with that one",
            )
        return Request(message["verb"], args, fds)

    async def send(self, *messages: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        """Messages in this order, `fds` with the first. Raises Disconnected when the peer is gone."""
        data = b"".join(json.dumps(message, separators=(",", ":")).encode() + b"\n" for message in messages)
        async with self._sending:
            try:
                sent = 0
                if fds:
                    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
                    sent = await self._socket.sendmsg([data], rights)
                while sent < len(data):
                    sent += await self._socket.send(memoryview(data)[sent:])
            except OSError as exc:
                raise Disconnected from exc

    async def wait_closed(self) -> None:
        """Returns when the peer has closed its end; what it still sends is thrown away (there is one request at a time)."""
        try:
            while await self._socket.recv(4096):
                pass
        except OSError:
            return

    def gone(self) -> bool:
        """Whether the peer has closed its end, or we have closed ours."""
        if self._socket.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLRDHUP)
        return bool(poll.poll(0))

    def close(self) -> None:
        close_all(self._fds)
        self._fds = []
        self._socket.close()

    async def _line(self) -> bytes:
        started = False
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > MAX_MESSAGE_BYTES:
                raise Disconnected
            with trio.move_on_after(_LINE_TIMEOUT_S if started else float("inf")) as scope:
                await self._more()
            if scope.cancelled_caught:
                raise Disconnected
            started = True
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    async def _more(self) -> None:
        try:
            data, ancillary, _flags, _address = await self._socket.recvmsg(65536, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
        except OSError as exc:
            raise Disconnected from exc
        for level, kind, raw in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(raw[: len(raw) - len(raw) % fds.itemsize])
                self._fds.extend(fds)
        if not data or len(self._fds) > _MAX_FDS:
            raise Disconnected
        self._buffer += data


def close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
