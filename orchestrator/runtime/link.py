"""The supervisor's end of the monitor's socket: requests with answers, events, and the loss of the monitor.

A `Link` belongs to one monitor process. When that is gone the link is too: every unanswered request raises `MonitorLost`,
and the client makes a new link to a new monitor.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import trio

from orchestrator.contracts.site import Site
from orchestrator.errors import HostError
from orchestrator.kernel import fdpass
from orchestrator.kernel import pidfd as pidfds
from orchestrator.kernel.identity import is_trusted
from orchestrator.kernel.plain import open_plain
from orchestrator.runtime import cradle
from orchestrator.runtime.monitor import wire
from orchestrator.runtime.reaping import reap_strays
from orchestrator.values import entity, field

SOCKET_NAME: Final = "monitor.sock"
_ANSWER_S = 45.0
"""A monitor that does not answer for so long is broken; it is treated as killed. Shorter than the scheduler waits for a
start: it would have given up by then, and nobody would have found out."""

_NOT_SENT: Final = (errno.ENOMEM, errno.ENOBUFS, errno.ETOOMANYREFS, errno.EMSGSIZE)
"""A packet that did not go out, on a connection that is well (unix(7)): to wait for a new monitor would be for ever."""

_PATIENCE_S = 2.0
"""How long a monitor that closed the connection may take to end by itself."""

OnEvent = Callable[["wire.Header"], None]


class MonitorLost(Exception):
    """The monitor ended before it answered."""


class StepFailed(Exception):
    """A program failed at `step` with `errno` (0: without one). `text`: what it is about, where that is not in the
    program: the interpreter that does not exist (ELIBACC), the place that is of another kind (ENOTDIR, EISDIR)."""

    def __init__(self, step: int, number: int, text: str = "") -> None:
        super().__init__(step, number)
        self.step, self.number, self.text = step, number, text


@entity
class Answer:
    """`items`: the answers before the last one, each with its descriptors; all are the receiver's."""

    header: dict[str, Any] = field(default_factory=dict)
    fds: list[int] = field(default_factory=list)
    items: list[tuple[dict[str, Any], list[int]]] = field(default_factory=list)


class _Waiter:
    __slots__ = ("answer", "done", "lost")

    def __init__(self) -> None:
        self.answer = Answer()
        self.done = trio.Event()
        self.lost = False


class Ending:
    """The end of a process that was made by ``exec``. `lost`: the monitor was killed before it told."""

    __slots__ = ("done", "lost", "status")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.status: int | None = None
        self.lost = False


class Link:
    """`run` must be running for answers to arrive."""

    def __init__(self, sock: socket.socket, pid: int, pidfd: int, on_event: OnEvent) -> None:
        sock.setblocking(False)
        self.pid = pid
        self.version = wire.LOWEST_VERSION
        """Of the protocol, as far as both speak it; known after hello."""
        self._sock = sock
        self._pidfd = pidfd
        self._on_event = on_event
        self._waiters: dict[int, _Waiter] = {}
        self._endings: dict[int, Ending] = {}
        self._next = 1
        self._sending = trio.Lock()
        self.lost = False
        self.ended = trio.Event()
        """The monitor's process has ended and, if it was our child, was reaped."""

    async def request(self, op: str, body: bytes = b"", fds: Sequence[int] = (), **fields: Any) -> Answer:
        """Raises MonitorLost, StepFailed, OSError (what the monitor's system call said) or HostError."""
        return await self._outcome(await self._begin(self._new_id(), op, body, fds, **fields))

    async def announce(self, op: str, body: bytes = b"", fds: Sequence[int] = (), **fields: Any) -> None:
        """A request whose answer nobody waits for. Raises MonitorLost, OSError."""
        self._waiters.pop(await self._begin(self._new_id(), op, body, fds, **fields))

    async def request_exec(self, body: bytes, fds: Sequence[int], **fields: Any) -> tuple[Answer, Ending]:
        """``exec``, and where its end will be told. Raises as `request`."""
        number = self._new_id()
        ending = self._endings[number] = Ending()
        try:
            return await self._outcome(await self._begin(number, "exec", body, fds, **fields)), ending
        except BaseException:
            self._endings.pop(number, None)
            raise

    def _new_id(self) -> int:
        number = self._next
        self._next += 1
        return number

    async def _begin(self, number: int, op: str, body: bytes, fds: Sequence[int], **fields: Any) -> int:
        if self.lost:
            raise MonitorLost
        self._waiters[number] = _Waiter()
        try:
            await self._send({"op": op, "id": number, **fields}, body, fds)
        except BaseException:
            del self._waiters[number]
            raise
        return number

    async def _outcome(self, number: int) -> Answer:
        waiter = self._waiters[number]
        try:
            with trio.move_on_after(_ANSWER_S) as scope:
                await waiter.done.wait()
            if scope.cancelled_caught:
                self.end_monitor()
                raise MonitorLost
        except BaseException:
            for _, item_fds in waiter.answer.items:
                fdpass.close_all(item_fds)
            fdpass.close_all(waiter.answer.fds)
            raise
        finally:
            self._waiters.pop(number, None)
        if waiter.lost:
            raise MonitorLost
        return _checked(waiter.answer)

    async def _send(self, header: wire.Header, body: bytes, fds: Sequence[int]) -> None:
        packet, numbers, memfd = wire.pack(header, body, fds)
        try:
            # A packet goes whole or not at all: mostly at once, and without waiting for a turn.
            while True:
                try:
                    fdpass.send(self._sock, packet, numbers)
                    return
                except BlockingIOError:
                    async with self._sending:
                        await trio.lowlevel.wait_writable(self._sock)
        except (OSError, trio.ClosedResourceError) as exc:
            # EBADF: one of `fds` was closed meanwhile, if it is not the connection itself.
            not_sent = (*_NOT_SENT, errno.EBADF) if self._sock.fileno() >= 0 else _NOT_SENT
            if isinstance(exc, OSError) and exc.errno in not_sent:
                raise
            self.lost = True  # Who asks again at once would find the same: `run` may not have seen it yet.
            raise MonitorLost from None
        finally:
            if memfd is not None:
                os.close(memfd)

    async def run(self) -> None:
        """Receive until the monitor is gone, then wait until its process has ended, and reap it."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive, nursery.cancel_scope)
            # A process that it was making when it was killed may hold its end of the connection open for ever.
            await trio.lowlevel.wait_readable(self._pidfd)
            nursery.cancel_scope.cancel()
        with contextlib.suppress(OSError, ValueError):
            self._take_all()
        self.lost = True
        for waiter in self._waiters.values():
            if not waiter.done.is_set():  # Answered with its last breath, and not yet looked at.
                waiter.lost = True
                waiter.done.set()
        for ending in self._endings.values():
            ending.lost = True
            ending.done.set()
        self._endings.clear()
        self._sock.close()
        with trio.move_on_after(_PATIENCE_S):
            await trio.lowlevel.wait_readable(self._pidfd)
        # Two monitors of one project must not be: one whose connection broke is ended.
        self.end_monitor()
        await trio.lowlevel.wait_readable(self._pidfd)
        with contextlib.suppress(ChildProcessError):  # Ours only if we started it, or are the subreaper it was left to.
            pidfds.reap(self._pidfd)
        # Its starter ends with it, and so do those of its session that are no more than begun.
        await reap_strays(session=self.pid)
        self.ended.set()

    async def _receive(self, until: trio.CancelScope) -> None:
        """Until the end of the connection, which ends `until`."""
        with contextlib.suppress(OSError, ValueError):
            while True:
                await trio.lowlevel.wait_readable(self._sock)
                with contextlib.suppress(BlockingIOError):
                    self._take_all()
                    break
        until.cancel()

    def _take_all(self) -> None:
        """What has arrived; returns at the end of the connection. Raises BlockingIOError, OSError, ValueError."""
        while (message := wire.receive(self._sock)) is not None:
            self._dispatch(*message)

    def end_monitor(self) -> None:
        pidfds.send(self._pidfd, 9)

    def _dispatch(self, header: wire.Header, _: bytes, fds: list[int]) -> None:
        waiter = self._waiters.get(header.get("re", -1))
        if waiter is None:
            fdpass.close_all(fds)
            if header.get("event") == "ended":
                if (ending := self._endings.pop(header["exec"], None)) is not None:
                    ending.status = header["status"]
                    ending.done.set()
            elif "event" in header:
                self._on_event(header)
        elif "item" in header:
            waiter.answer.items.append((header, fds))
        else:
            waiter.answer.header, waiter.answer.fds = header, fds
            waiter.done.set()

    def close(self) -> None:
        """Let go of the monitor, which lives on or has ended. Idempotent."""
        self._sock.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


def _checked(answer: Answer) -> Answer:
    match answer.header.get("error"):
        case None:
            return answer
        case "step":
            raise StepFailed(answer.header["step"], answer.header["errno"], answer.header.get("text", ""))
        case "os":
            number = answer.header["errno"] or 0
            raise OSError(number, os.strerror(number), answer.header.get("path"))
        case text:
            raise HostError(f"the monitor refused: {text}")


def connect(site: Site, on_event: OnEvent) -> Link | None:
    """A link to the monitor that runs already, or None."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        directory = os.open(site.run_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # By the descriptor: a socket's path may not be longer than 107 bytes.
            sock.connect(f"/proc/self/fd/{directory}/{SOCKET_NAME}")
        finally:
            os.close(directory)
        if not is_trusted(wire.peer_uid(sock)):
            raise HostError(f"{site.run_dir}/{SOCKET_NAME} belongs to somebody else")
        pid = int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], sys.byteorder)
        return Link(sock, pid, os.pidfd_open(pid), on_event)
    except (FileNotFoundError, ConnectionRefusedError, ProcessLookupError):
        sock.close()
        return None
    except BaseException:
        sock.close()
        raise


def launch(site: Site, on_event: OnEvent) -> Link:
    """Start a monitor (or take the one that was begun ahead), which listens from its first moment on: we listen for it.
    Raises HostError."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    directory = os.open(site.run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    path = f"/proc/self/fd/{directory}/{SOCKET_NAME}"
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SOCKET_NAME, dir_fd=directory)
        listener.bind(path)
        os.chmod(SOCKET_NAME, 0o600, dir_fd=directory)
        listener.listen(16)
        monitor = _started(site, listener.fileno())
        sock.connect(path)
        return Link(sock, monitor.pid, monitor.pidfd, on_event)
    except OSError as exc:
        sock.close()
        raise HostError(f"cannot start the monitor: {exc.strerror}: {exc.filename or site.run_dir}") from exc
    finally:
        os.close(directory)
        listener.close()


def _started(site: Site, listener_fd: int) -> cradle.Monitor:
    log = open_plain(f"{site.data_dir}/monitor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        with contextlib.suppress(BrokenPipeError):  # The one that was begun ahead has been killed since.
            return _handed(site, listener_fd, log)
        return _handed(site, listener_fd, log)
    finally:
        os.close(log)


def _handed(site: Site, listener_fd: int, log: int) -> cradle.Monitor:
    monitor = cradle.take(site.data_dir)
    try:
        monitor.hand(site, listener_fd, log)
    except OSError:
        monitor.abandon()
        raise
    return monitor
