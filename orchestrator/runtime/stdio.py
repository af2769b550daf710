"""What a process in a container gets for stdin, stdout and stderr: pipes, descriptors of the caller's, or a terminal."""

from __future__ import annotations

import os
import socket
from types import TracebackType

from orchestrator.contracts.runtime import TtySink
from orchestrator.kernel import fdpass
from orchestrator.kernel.constants import PIPEFS_MAGIC
from orchestrator.kernel.syscalls import filesystem_type


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


def give_pipe(fd: int, owner: tuple[int, int]) -> None:
    """Let `owner` (host ids) open the pipe `fd` again, as /dev/stdin and the like. Whatever is no pipe made by pipe(2), a
    file or a terminal of the user's, stays as it is: a change of owner would be seen by others."""
    if filesystem_type(fd) == PIPEFS_MAGIC:
        os.fchown(fd, *owner)
