"""The netlink thread: the one thread of the supervisor that talks to the kernel about networks.

Calls wait for the kernel's RTNL lock, which is held for long while network namespaces are being destroyed, and would stall
the event loop. It is a thread of our own and not one of trio's shared ones because it enters containers' network namespaces
(setns(2) changes the calling thread only): should it ever fail to return, it refuses all further work, instead of doing
somebody else's in a container's namespace. One thread also means that the sockets and mirrors used on it need no locks.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

import trio

from orchestrator.errors import HostError
from orchestrator.values import entity

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
_OWN_NAMESPACE = "/proc/thread-self/ns/net"
_JOIN_S = 30.0

_libc = ctypes.CDLL(None, use_errno=True)


def enter_namespace(fd: int) -> None:
    """setns(2): move the calling thread into the network namespace `fd`. Raises OSError."""
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "setns to a network namespace")


class _Lost(BaseException):
    """The thread could not return to its own namespace."""


@entity
class _Job:
    function: Callable[[], Any]
    task: trio.lowlevel.Task
    result: Any = None
    failure: BaseException | None = None


class NetlinkThread:
    """Runs functions one after the other; made and closed by `open_thread`."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._token = trio.lowlevel.current_trio_token()
        self._home = -1
        self._ended = trio.Event()
        self._dead = False
        self.closed = False
        self._thread = threading.Thread(target=self._work, name="pystack-netlink", daemon=True)

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """Call ``function(*args)`` on the thread. Not cancellable once begun: the kernel's answer always comes."""
        assert not self.closed, "networking was used after it was closed"
        await trio.lowlevel.checkpoint_if_cancelled()
        job = _Job(partial(function, *args), trio.lowlevel.current_task())
        self._jobs.put(job)

        def abort(_: Any) -> trio.lowlevel.Abort:
            # The job uses its caller's file descriptors: it must end before the caller does.
            return trio.lowlevel.Abort.FAILED

        await trio.lowlevel.wait_task_rescheduled(abort)
        if job.failure is not None:
            raise job.failure
        result: T = job.result
        return result

    @contextmanager
    def inside(self, netns_fd: int) -> Iterator[None]:
        """On the thread only: be in the network namespace `netns_fd` for a while."""
        enter_namespace(netns_fd)
        with self._away():
            yield

    def new_namespace(self) -> int:
        """On the thread only: a descriptor of a new network namespace, which lasts while something holds it. Raises
        OSError."""
        if _libc.unshare(CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), "a new network namespace")
        with self._away():
            return os.open(_OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)

    @contextmanager
    def _away(self) -> Iterator[None]:
        try:
            yield
        finally:
            try:
                enter_namespace(self._home)
            except OSError as exc:
                raise _Lost from exc

    def _work(self) -> None:
        self._home = os.open(_OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while (job := self._jobs.get()) is not None:
                self._do(job)
                self._token.run_sync_soon(trio.lowlevel.reschedule, job.task)
                del job
        finally:
            os.close(self._home)
            self._token.run_sync_soon(self._ended.set)

    def _do(self, job: _Job) -> None:
        if self._dead:
            job.failure = HostError("the netlink thread has ended in a foreign namespace")
            return
        try:
            job.result = job.function()
        except _Lost as exc:
            self._dead = True
            job.failure = HostError(f"cannot leave a container's network namespace: {exc.__cause__}")
        except BaseException as exc:
            job.failure = exc


@asynccontextmanager
async def open_thread() -> AsyncIterator[NetlinkThread]:
    """The thread starts in the network namespace of the calling thread; it is gone when the block is left."""
    thread = NetlinkThread()
    thread._thread.start()
    try:
        yield thread
    finally:
        thread.closed = True
        thread._jobs.put(None)
        # Shielded, or a cancelled supervisor would leave the thread's sockets to chance; every job ends by itself.
        with trio.move_on_after(_JOIN_S, shield=True):
            await thread._ended.wait()
            thread._thread.join()
