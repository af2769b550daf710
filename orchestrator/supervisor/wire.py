"""Messages of the control protocol on a socket (docs/control-protocol.md): one JSON object a line, and descriptors.

Everything that a peer can make us hold is bounded: a message (8 MiB), the time for a line that it began (10 s), the time
without taking anything of what we send (60 s), descriptors with one request (8). Whoever connects has our uid, but a broken
client must not cost more than its own connection.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import trio

from orchestrator import __version__
from orchestrator.contracts.protocol import MAX_DESCRIPTORS, MAX_MESSAGE_BYTES, VERSION
from orchestrator.errors import InputError
from orchestrator.kernel import fdpass
from orchestrator.values import frozen

LINE_TIMEOUT_S = 10.0
SEND_TIMEOUT_S = 60.0
"""A command that was stopped (Ctrl-Z) for longer connects again."""
_CHUNK = 1 << 16


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

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._buffer = bytearray()
        self._scanned = 0
        self._fds: list[int] = []
        self._sending = trio.Lock()
        self._broken = False
        self._held = b""
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
        lines = (json.dumps(message, separators=(",", ":")).encode() + b"\n" for message in messages)
        await self.send_lines(b"".join(lines), fds)

    async def send_lines(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """`send` of messages that are lines of JSON already."""
        if self._sending.locked():
            await self._sending.acquire()
        else:
            self._sending.acquire_nowait()
        try:
            if self._broken:
                raise Disconnected
            # Until all is sent: after a part of a line there can be no other.
            self._broken = True
            data, self._held = self._held + data, b""
            await self._send_all(memoryview(data), fds)
            self._broken = False
        finally:
            self._sending.release()

    def hold(self, data: bytes) -> None:
        """Lines that go with what is sent next, which is about to be."""
        self._held += data

    async def _send_all(self, data: memoryview, fds: Sequence[int]) -> None:
        """Mostly at once. Raises Disconnected."""
        try:
            while True:
                with suppress(BlockingIOError):
                    sent = fdpass.send(self._socket, data, fds)
                    data, fds = data[sent:], ()
                if not data:
                    return
                with trio.fail_after(SEND_TIMEOUT_S):
                    await trio.lowlevel.wait_writable(self._socket)
        except (OSError, trio.ClosedResourceError, trio.TooSlowError) as exc:
            raise Disconnected from exc

    async def beat(self) -> None:
        """A sign of life, unless something is being sent, or the peer is gone."""
        if not self._sending.locked():
            with suppress(Disconnected), trio.CancelScope(shield=True):  # Or half a line could be left.
                await self.send({"beat": True})

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
        with suppress(OSError, trio.ClosedResourceError):
            while True:
                await trio.lowlevel.wait_readable(self._socket)
                with suppress(BlockingIOError):
                    if not self._socket.recv(4096):
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
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    async def _line(self) -> bytes:
        """A line; the time for it begins with its first byte."""
        while not self._buffer:
            await self._more()
        with trio.move_on_after(LINE_TIMEOUT_S):
            while (end := self._buffer.find(b"\n", self._scanned)) < 0:
                self._scanned = len(self._buffer)
                if self._scanned > MAX_MESSAGE_BYTES:
                    raise Disconnected
                await self._more()
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._scanned = 0
            return line
        raise Disconnected

    async def _more(self) -> None:
        try:
            while True:
                with suppress(BlockingIOError):
                    data, fds, cut = fdpass.receive(self._socket, _CHUNK)
                    break
                await trio.lowlevel.wait_readable(self._socket)
        except (OSError, trio.ClosedResourceError) as exc:
            raise Disconnected from exc
        self._fds.extend(fds)
        # Cut short: more descriptors came than there is room for, or than we may open; some are lost.
        if not data or cut or len(self._fds) > MAX_DESCRIPTORS:
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
