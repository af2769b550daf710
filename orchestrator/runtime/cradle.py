"""A monitor that has been started and waits for its socket: what the supervisor does first, and its imports meanwhile.

The monitor's interpreter and imports need nothing of the project. It begins when `Monitor.hand` sends it the socket that it
is to listen on, its log and its ids; when the connection closes before, it ends, and has touched nothing.
"""

from __future__ import annotations

import os
import sys

from orchestrator.kernel import jsontext, mounts
from orchestrator.kernel.constants import AT_FDCWD, MOUNT_ATTR_RDONLY
from orchestrator.kernel.spawn import spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket as sockets

    from orchestrator.contracts.site import Site
else:
    import _socket as sockets  # `socket` takes longer to import than a monitor to be started

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "monitor", "__main__.py")


class Monitor:
    """`pidfd`: the receiver's of `hand`. One of `hand` and `abandon` is called, once."""

    def __init__(self, pid: int, connection: sockets.socket) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self._connection = connection

    def hand(self, site: Site, listener_fd: int, log_fd: int) -> None:
        """Let it begin. Raises OSError when it has ended."""
        words = {"data_dir": site.data_dir, "extents": [list(extent) for extent in site.ids.extents()]}
        fds = b"".join(fd.to_bytes(4, sys.byteorder) for fd in (listener_fd, log_fd))
        try:
            self._connection.sendmsg(
                [jsontext.dumps(words).encode()], [(sockets.SOL_SOCKET, sockets.SCM_RIGHTS, fds)], sockets.MSG_NOSIGNAL
            )
        finally:
            self._connection.close()

    def abandon(self) -> None:
        """End it, and reap it."""
        self._connection.close()
        os.kill(self.pid, 9)  # Our child, and not waited for: the number is still its own.
        os.waitpid(self.pid, 0)
        os.close(self.pidfd)


def begin(data_dir: str) -> Monitor:
    """Start a monitor; `data_dir` is in its command line for people. Raises OSError."""
    ours, its = sockets.socketpair(sockets.AF_UNIX, sockets.SOCK_SEQPACKET | sockets.SOCK_CLOEXEC)
    try:
        # `-I -S`: nothing of the user's environment or of site-packages gets into the monitor.
        argv = (sys.executable, "-I", "-S", "-X", "utf8", PROGRAM, str(its.fileno()), data_dir)
        with _out_of_reach(sys.executable) as program:
            return Monitor(spawn(argv, output=2, keep=(its.fileno(),), program=program), ours)
    except BaseException:
        ours.close()
        raise
    finally:
        its.close()


class _out_of_reach:
    """A name of the program `path` by a mount that is read-only and that nobody can change, for it is nowhere attached.

    A container of the host's user namespace may have ``#!/proc/self/exe`` executed, and would else write into our
    interpreter with the rights of the machine's root (CVE-2019-5736). Without the right to mount there is no such
    container."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._tree = -1

    def __enter__(self) -> str:
        try:
            self._tree = mounts.open_tree(AT_FDCWD, os.fsencode(self._path))
            mounts.set_attributes(self._tree, MOUNT_ATTR_RDONLY)
        except OSError:
            return self._path
        return f"/proc/self/fd/{self._tree}"

    def __exit__(self, *_: object) -> None:
        if self._tree >= 0:
            os.close(self._tree)


_ahead: dict[str, Monitor] = {}


def begin_ahead(data_dir: str) -> None:
    """As `begin`, for whoever takes it later: this process has something else to do first."""
    _ahead[data_dir] = begin(data_dir)


def take(data_dir: str) -> Monitor:
    """The one that was begun ahead, else a new one. Raises OSError."""
    return _ahead.pop(data_dir, None) or begin(data_dir)


def discard(data_dir: str) -> None:
    """One that was begun ahead is not needed: there is a monitor already."""
    if (monitor := _ahead.pop(data_dir, None)) is not None:
        monitor.abandon()
