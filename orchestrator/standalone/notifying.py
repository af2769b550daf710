"""Who is told of a container: that it is ready (sd_notify(3)), and by a pidfd.

A container's ``READY=1`` is told to whoever waits for it at ``NOTIFY_SOCKET``. The container has a socket of its own, in a
directory that is mounted where the caller's socket is named; the caller's own is never shown to it, and nothing but
``READY=1`` goes on: a container says nothing of main processes or descriptors.
"""

from __future__ import annotations

import os

from orchestrator.errors import HostError
from orchestrator.kernel import constants as c
from orchestrator.kernel import fdpass, mounts
from orchestrator.standalone.plans import Mount
from orchestrator.standalone.records import NOTIFY, StateRoot

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
else:  # It would make enumerations of all that it has
    import _socket as socket

_READY = b"READY=1"
_MOST_WORD = 4096


def make_place(records: StateRoot, name: str, caller: str) -> Mount:
    """The directory for the container's socket, as a mount that only lets it be used. Raises OSError."""
    place = os.fsencode(records.path(name, NOTIFY))
    os.mkdir(place)
    os.chmod(place, 0o755)
    tree = mounts.open_tree(c.AT_FDCWD, place)
    attributes = c.MOUNT_ATTR_RDONLY | c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NODEV | c.MOUNT_ATTR_NOEXEC
    mounts.set_attributes(tree, attributes, propagation=c.MS_PRIVATE)
    target = os.fsencode(caller)
    return Mount(target, b"mount the notify socket at " + target, tree)


class Readiness:
    """The container's socket. Whoever of the container's users writes to it may."""

    def __init__(self, records: StateRoot, name: str, caller: str) -> None:
        self.caller = caller
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        place = os.open(records.path(name, NOTIFY), os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        before = os.umask(0)
        try:
            self.sock.bind(f"/proc/self/fd/{place}/{NOTIFY}")
        finally:
            os.umask(before)
            os.close(place)

    def fileno(self) -> int:
        return self.sock.fileno()

    def close(self) -> None:
        self.sock.close()

    def hear(self, pid: int) -> bool:
        """Read what is there and pass it on; whether it was that it is ready. A caller that is not there is not told."""
        try:
            said = self.sock.recv(_MOST_WORD, socket.MSG_DONTWAIT)
        except OSError:
            return False
        if _READY not in said.split(b"\n"):
            return False
        caller = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            for word in (_READY, b"MAINPID=%d" % pid):
                caller.sendto(word, socket.MSG_DONTWAIT, self.caller)
        except OSError:
            return True
        finally:
            caller.close()
        return True

    def wait(self, pid: int, process: int) -> None:
        """Until it is ready, or has ended."""
        import select

        poll = select.poll()
        poll.register(self.sock.fileno(), select.POLLIN)
        poll.register(process, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if self.sock.fileno() in ready and self.hear(pid):
                return
            if process in ready:
                return


def send_pidfd(path: str, pid: int) -> None:
    """Raises HostError."""
    process = os.pidfd_open(pid)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.connect(path)
        fdpass.send(sock, b"\0", [process])
    except OSError as exc:
        place = "annotations.run.oci.pidfd_receiver"
        raise HostError(f"cannot send a pidfd to {path}: {exc.strerror}", place=place) from exc
    finally:
        sock.close()
        os.close(process)
