"""What the monitor keeps for the supervisor: descriptors by name, the user namespace, the layers; and new namespaces."""

from __future__ import annotations

import errno
import os
import struct

from orchestrator.kernel import constants as c
from orchestrator.kernel import mounts, process
from orchestrator.kernel.suppress import suppress
from orchestrator.kernel.syscalls import close_from
from orchestrator.runtime.monitor.loop import Loop

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself would cost the monitor a megabyte
    import signal
    from collections.abc import Callable
else:  # `signal` makes enumerations of all of them
    import _signal as signal

USERNS = "userns"
_NUMBER = struct.Struct("=i")


class Store:
    """`kept`: name -> descriptors. `layers`: key -> number of the mount at /l/N."""

    def __init__(self) -> None:
        self.kept: dict[str, list[int]] = {}
        self.layers: dict[str, int] = {}
        self._next_layer = 1

    def keep(self, name: str, fds: list[int]) -> None:
        self.drop(name)
        self.kept[name] = fds

    def drop(self, name: str) -> None:
        for fd in self.kept.pop(name, []):
            os.close(fd)

    def drop_all_of(self, container: str) -> None:
        for name in [name for name in self.kept if name.partition(":")[2] == container]:
            self.drop(name)

    def user_namespace(self) -> int:
        return self.kept[USERNS][0]

    def add_layer(self, key: str, tree: int, *, plain: bool) -> int:
        """Idmap the detached mount `tree`, unless it is to be `plain`, and attach it for overlays. Raises OSError."""
        if (number := self.layers.get(key)) is not None:
            return number
        number = self._next_layer
        mounts.set_attributes(
            tree,
            c.MOUNT_ATTR_RDONLY | c.MOUNT_ATTR_NODEV,
            propagation=c.MS_PRIVATE,
            userns=None if plain else self.user_namespace(),
        )
        os.mkdir(f"/l/{number}")
        try:
            mounts.attach(tree, c.AT_FDCWD, b"/l/%d" % number)
        except OSError:
            os.rmdir(f"/l/{number}")
            raise
        self._next_layer += 1
        self.layers[key] = number
        return number

    def remove_layer(self, key: str) -> None:
        number = self.layers.pop(key, None)
        if number is not None:
            mounts.unmount(b"/l/%d" % number, c.MNT_DETACH)
            os.rmdir(f"/l/{number}")


def make_user_namespace(uids: list[list[int]], gids: list[list[int]]) -> int:
    """A descriptor of a new user namespace. `uids`, `gids`: the lines of its maps, as `IdMap.extents` (user_namespaces(7)).

    A child is needed to be in it while its maps are written; it is killed right after, and ends with us."""
    waiting, alive = os.pipe2(os.O_CLOEXEC)
    try:
        pid = process.clone3(c.CLONE_NEWUSER)
    except OSError:
        os.close(waiting)
        os.close(alive)
        raise
    if pid == 0:
        try:
            os.dup2(waiting, 0)
            close_from(1)
            os.read(0, 1)
        finally:
            os._exit(1)
    try:
        for name, extents in (("uid_map", uids), ("gid_map", gids)):
            lines = b"".join(b"%d %d %d\n" % tuple(extent) for extent in extents)
            fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, lines)
            finally:
                os.close(fd)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(waiting)
        os.close(alive)


def make_network_namespaces(
    loop: Loop, userns: int, count: int, done: Callable[[list[int], int], None]
) -> None:
    """New network namespaces owned by `userns`, at most a few thousand. They cost about half a millisecond each, so a child
    makes them: it shares our descriptor table, and tells the numbers by a pipe. `done`: with the descriptors that were made
    and an errno (0: all; EOWNERDEAD: the child was killed)."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    pid = process.clone3(c.CLONE_FILES)
    if pid == 0:
        _make_and_tell(userns, count, writer)
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        # Out of descriptors: so is the child, and it ends soon.
        os.waitpid(pid, 0)
        os.close(reader)
        os.close(writer)
        raise

    def ended(_: int) -> None:
        loop.remove(pidfd)
        # All that it told is in the pipe, which is never full: it holds 16,384 numbers.
        os.waitpid(pid, 0)
        data = b""
        with suppress(BlockingIOError):  # Killed before its first word.
            data = os.read(reader, 1 << 16)
        for fd in (pidfd, reader, writer):
            os.close(fd)
        numbers = [number for (number,) in _NUMBER.iter_unpack(data)]
        error = -numbers[-1] if numbers and numbers[-1] <= 0 else errno.EOWNERDEAD
        done([number for number in numbers if number > 0], error)

    loop.add(pidfd, ended)


def _make_and_tell(userns: int, count: int, writer: int) -> None:
    """In the child. A positive number is a descriptor; the last number is 0 or a negative errno.

    The table is shared: nothing may be closed here."""
    try:
        process.setns(userns, c.CLONE_NEWUSER)
        for _ in range(count):
            process.unshare(c.CLONE_NEWNET)
            fd = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            os.write(writer, _NUMBER.pack(fd))
        os.write(writer, _NUMBER.pack(0))
    except OSError as exc:
        os.write(writer, _NUMBER.pack(-(exc.errno or 1)))
    finally:
        os._exit(0)


def keep_only(fd: int) -> int:
    """For a child that becomes another program of ours: of all descriptors only stdin, stdout, stderr and `fd` stay,
    the latter as 3 and close-on-exec."""
    os.dup2(fd, 3, inheritable=False)
    close_from(4)
    return 3
