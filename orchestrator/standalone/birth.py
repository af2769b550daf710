"""How a process comes to be in its control groups: it is born in the unified one (CLONE_INTO_CGROUP, clone(2)) and enters
the v1 ones itself by ``tasks``. To be moved by its pid and ``cgroup.procs`` makes the kernel wait for all forks and exits
of the machine: 4 to 16 ms a time, where this is free.

Where it cannot be born there (the group may be threaded, or not ours), or is killed at that (docs/runtime.md, "cgroup.kill
and CLONE_INTO_CGROUP"), it is moved after all.
"""

from __future__ import annotations

import os

from orchestrator.errors import OperationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import NoReturn

    from orchestrator.standalone.groups import Group
else:  # Both would make enumerations of all that they have
    import _socket as socket

MOST_WORD = 65536
BORN = b"b"
"""Its first word: it is in the groups that it enters itself."""


class Birth:
    """One process to be. `group`: None for no control groups. `below`: a group of the container's own. `direct`: it may be
    born in the unified group. `pid`: its own, once it is there. Raises HostError."""

    def __init__(self, group: Group | None, below: str = "", *, direct: bool = True) -> None:
        self.group, self.below = group, below
        self.pid = 0
        self.tasks = [] if group is None else group.open_tasks(below)
        self._unified = group.open_unified(below) if group is not None and direct else None

    def give(
        self,
        clone: Callable[[int | None], int],
        child: Callable[[socket.socket], NoReturn],
        failure: Callable[[bytes], Exception],
        note: Callable[[int], None] = lambda pid: None,
    ) -> socket.socket:
        """The connection to the process that `clone` (clone3(2) into the group of a descriptor) has made, once it is in all
        its groups. `child` gets its end, and is to call `enter` first. `failure`: the error that its first word tells of.
        `note` is told of the pid, of each one if there are two, before it may do anything. Raises OSError, HostError,
        OperationError."""
        tries = (self._unified, None) if self._unified is not None else (None,)
        for cgroup in tries:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
            try:
                pid = clone(cgroup)
            except OSError:
                if cgroup is None:
                    raise
                continue
            if pid == 0:
                ours.close()
                child(theirs)
            theirs.close()
            self.pid = pid
            note(pid)
            said = ours.recv(MOST_WORD)
            if said == BORN:
                break
            if said:
                raise failure(said)
            os.waitpid(pid, 0)
        else:
            raise OperationError("the container's first process was killed")
        if cgroup is None and self.group is not None:
            self.group.join_unified(pid, self.below)
        for fd in (*self.tasks, *(() if self._unified is None else (self._unified,))):
            os.close(fd)
        return ours

    def enter(self, channel: socket.socket) -> None:
        """In the child. Raises OSError."""
        for fd in self.tasks:
            os.write(fd, b"0")
            os.close(fd)
        channel.send(BORN)
