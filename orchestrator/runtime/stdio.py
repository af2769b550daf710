"""What a process in a container gets for stdin, stdout and stderr: pipes, descriptors of the caller's, or a terminal."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from orchestrator.contracts.runtime import TtySink
from orchestrator.kernel import fdpass
from orchestrator.kernel.constants import PIPEFS_MAGIC
from orchestrator.kernel.syscalls import filesystem_type

KEPT_TERMINAL = 5
"""The version of the monitor's protocol from which on it can keep a terminal."""


class Terminal:
    """A terminal that a process in a container makes for itself, in the container's own devpts; its master comes over a
    socket (`monitor.final`, ``terminal``). A context manager: who leaves it before `hand_over` closes the master too."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)

    @property
    def descriptors(self) -> dict[str, int]:
        """What the process needs, by the names of docs/monitor-protocol.md."""
        return {"pty": self._theirs.fileno()}

    def hand_over(self, on_tty: TtySink | None) -> None:
        """Once the process has been executed: it sent the master before that. `on_tty` gets it and owns it."""
        _, masters, _ = fdpass.receive(self._ours, 1)
        if on_tty is None:
            fdpass.close_all(masters)
        else:
            on_tty(masters[0])

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ours.close()
        self._theirs.close()


class Streams:
    """Standard streams of a run until it has been started: pipes for its log, given to `owner`; a terminal whose master
    `on_tty` gets; or, `terminal` without it, one that the monitor keeps. `stdin` stays the caller's. A context manager."""

    def __init__(
        self, owner: tuple[int, int], stdin: int | None, on_tty: TtySink | None, *, terminal: bool = False
    ) -> None:
        self.descriptors: dict[str, int] = {}
        """By the names of docs/monitor-protocol.md."""
        self.fields: dict[str, bool] = {"terminal": True} if terminal and on_tty is None else {}
        """Of the request's header."""
        self._owner, self._stdin, self._on_tty = owner, stdin, on_tty
        self._terminal: Terminal | None = None
        self._logs: list[int] = []
        self._theirs: list[int] = []

    def __enter__(self) -> Streams:
        if self.fields:
            return self
        for name, read in (("stdout", "out"), ("stderr", "err")):
            reader, writer = os.pipe2(os.O_CLOEXEC)
            self._logs.append(reader)
            self._theirs.append(writer)
            self.descriptors |= {name: writer, read: reader}
        if self._on_tty is not None:
            # Nobody gets the pipes' write ends, and the log ends before it begins.
            self._terminal = Terminal()
            del self.descriptors["stdout"], self.descriptors["stderr"]
            self.descriptors |= self._terminal.descriptors
            return self
        if self._stdin is not None:
            self.descriptors["stdin"] = self._stdin
            give_pipe(self._stdin, self._owner)
        for writer in self._theirs:
            _give(writer, self._owner)
        return self

    def taken(self, masters: list[int]) -> dict[int, int]:
        """Stream -> what the log is read from: the receiver's from now on. `masters`: what the monitor answered with."""
        logs, self._logs = masters or self._logs, []
        return dict(enumerate(logs, 1))

    def hand_over(self) -> None:
        """Once it has been started."""
        if self._terminal is not None:
            self._terminal.hand_over(self._on_tty)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        fdpass.close_all([*self._logs, *self._theirs])
        if self._terminal is not None:
            self._terminal.__exit__(kind, value, trace)


def is_pipe(fd: int) -> bool:
    """Whether it was made by pipe(2): it has no name that anybody else could open it by."""
    return filesystem_type(fd) == PIPEFS_MAGIC


def give_pipe(fd: int, owner: tuple[int, int]) -> None:
    """Let `owner` (host ids), and whom it becomes later, open the pipe `fd` again, as /dev/stdin and the like: only who may
    look into a process's /proc/PID/fd can try. Whatever is no pipe, a file or a terminal of the user's, stays as it is: a
    change of owner would be seen by others."""
    if is_pipe(fd):
        _give(fd, owner)


def _give(pipe: int, owner: tuple[int, int]) -> None:
    os.fchown(pipe, *owner)
    os.fchmod(pipe, 0o666)


def written_anew(pipe: int) -> int:
    """Another open file description of `pipe`'s write end, which does not block: its flags are its holder's own. -1 when
    nobody reads it any more."""
    try:
        return os.open(f"/proc/self/fd/{pipe}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        if exc.errno != errno.ENXIO:
            raise
        return -1


@contextmanager
def closing(*fds: int) -> Iterator[list[int]]:
    """Close them in the end; what is removed from the list is not closed."""
    owned = list(fds)
    try:
        yield owned
    finally:
        fdpass.close_all(owned)
