"""Messages of the control protocol on a trio socket (docs/control-protocol.md): one JSON object a line, and descriptors.

Everything that a peer can make us hold is bounded: a message (8 MiB), the time for a line that it began (10 s), the time
without taking anything of what we send (60 s), descriptors with one request (8). Whoever connects has our uid, but a broken
client must not cost more than its own connection.
"""

from __future__ import annotations

import array
import json
import os
import select
import socket
import struct
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import trio

from orchestrator import __version__
from orchestrator.contracts.protocol import BEAT_S, MAX_DESCRIPTORS, MAX_MESSAGE_BYTES, VERSION
from orchestrator.errors import InputError
from orchestrator.values import frozen

LINE_TIMEOUT_S = 10.0
SEND_TIMEOUT_S = 60.0
"""A command that was stopped (Ctrl-Z) for longer connects again."""
_ANCILLARY_BYTES = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)


@frozen
class Request:
    """`fds` belong to whoever handles the request."""

    verb: str
    args: Mapping[str, Any]
    fds: tuple[int, ...] = ()


class Disconnected(Exception):
    """The peer closed the connection, or does not keep to the bounds."""


class Connection:
    """One client. `pid` is the peer's process id by SO_PEERCRED, for "busy" messages."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._socket = sock
        self._buffer = bytearray()
        self._scanned = 0
        self._fds: list[int] = []
        self._sending = trio.Lock()
        self._broken = False
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        self.pid, self.uid, _ = struct.unpack("3i", credentials)

    async def receive(self) -> Request:
        """The next request. Raises Disconnected at the end, InputError for what is no request of our version."""
        line = await self._line()
        fds, self._fds = tuple(self._fds), []
        try:
            return _decode(line, fds)
        except InputError:
            close_all(fds)
            raise

    async def send(self, *messages: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        """Messages in this order, `fds` with the first. Raises Disconnected when the peer is gone, or takes nothing."""
        data = b"".join(json.dumps(message, separators=(",", ":")).encode() + b"\n" for message in messages)
        async with self._sending:
            if self._broken:
                raise Disconnected
            # Set until all is sent: after a part of a line there can be no other.
            self._broken = True
            with trio.move_on_after(SEND_TIMEOUT_S) as patience:
                try:
                    sent = 0
                    if fds:
                        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
                        sent = await self._socket.sendmsg([data], rights)
                    while sent < len(data):
                        sent += await self._socket.send(memoryview(data)[sent:])
                        patience.deadline = trio.current_time() + SEND_TIMEOUT_S
                except OSError as exc:
                    raise Disconnected from exc
                self._broken = False
            if self._broken:
                raise Disconnected

    async def beat(self) -> None:
        """Signs of life, until cancelled or the peer is gone."""
        try:
            while True:
                await trio.sleep(BEAT_S)
                if not self._sending.locked():
                    with trio.CancelScope(shield=True):  # Or half a line could be left.
                        await self.send({"beat": True})
        except Disconnected:
            return

    async def words(self) -> AsyncGenerator[Mapping[str, Any], None]:
        """What the peer says during its request, until it has closed its end, or does not keep to the bounds."""
        while True:
            try:
                line = await self._line()
                word = json.loads(line)
            except (Disconnected, RecursionError):
                return
            except ValueError:
                continue
            if isinstance(word, dict):
                yield word

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
        """A line; the time for it begins with its first byte."""
        with trio.CancelScope() as patience:
            while (end := self._buffer.find(b"\n", self._scanned)) < 0:
                self._scanned = len(self._buffer)
                if self._scanned > MAX_MESSAGE_BYTES:
                    raise Disconnected
                if self._buffer and patience.deadline == float("inf"):
                    patience.deadline = trio.current_time() + LINE_TIMEOUT_S
                await self._more()
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._scanned = 0
            return line
        raise Disconnected

    async def _more(self) -> None:
        try:
            data, ancillary, flags, _address = await self._socket.recvmsg(65536, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
        except OSError as exc:
            raise Disconnected from exc
        for level, kind, raw in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(raw[: len(raw) - len(raw) % fds.itemsize])
                self._fds.extend(fds)
        # MSG_CTRUNC: more descriptors came than there is room for, or than we may open; some are lost.
        if not data or flags & socket.MSG_CTRUNC or len(self._fds) > MAX_DESCRIPTORS:
            raise Disconnected
        self._buffer += data


def _decode(line: bytes, fds: tuple[int, ...]) -> Request:
    try:
        message = json.loads(line)
        if not isinstance(message, dict) or not isinstance(message.get("verb"), str):
            raise ValueError("not a request object")
        args = message.get("args") or {}
        if not isinstance(args, dict):
            raise ValueError("args is not an object")
    except (ValueError, RecursionError) as exc:
        raise InputError(f"malformed request: {exc}") from exc
    if (version := message.get("v")) != VERSION:
        raise InputError(
            f"this project's supervisor is of pystack {__version__} and speaks version {VERSION} of the control protocol, "
            f"not version {version!r}",
            hint="use the pystack that brought this project up last",
        )
    return Request(message["verb"], args, fds)


def close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
