"""The monitor's own mount namespace: a tmpfs with nothing but what its children need.

    /c          the project's container bundles (a bind mount)
    /d/null     the null device, checked; the source of masks      /d/empty  an empty read-only directory, likewise
    /l/N        image layers, idmapped
    /proc /sys  whole and unmounted-over: without them the kernel refuses new ones in a user namespace
    /r /f       where a child attaches its root, and the file system of its generated files

Copying a mount namespace costs per mount, so every start is cheap here; and nothing of the host has a name in a child.
"""

from __future__ import annotations

import os
import stat

from orchestrator.kernel import constants as c
from orchestrator.kernel import mounts
from orchestrator.kernel.process import command_line_area, unshare
from orchestrator.runtime.monitor import init

_NULL = os.makedev(1, 3)


class MountNamespaces:
    """`host_ns` and `own_ns`: mount namespaces. `own_pids`: the monitor's pid namespace. `null`: the null device, open for
    reading and writing. `words`: where the monitor's command line is in memory. `init`: the init's program (-1: none).

    (No dataclass: that module would cost the monitor two megabytes.)"""

    __slots__ = ("host_ns", "init", "null", "own_ns", "own_pids", "words")

    def __init__(self, host_ns: int, own_ns: int, null: int) -> None:
        self.host_ns, self.own_ns, self.null = host_ns, own_ns, null
        self.own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self.words = command_line_area()
        self.init = init.open_program()

    def descriptors(self) -> tuple[int, ...]:
        return self.host_ns, self.own_ns, self.own_pids, self.null, self.init


def _open_null() -> int:
    fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    found = os.fstat(fd)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != _NULL:
        raise OSError(19, "this is not the null device", "/dev/null")
    return fd


def enter_own(data_dir: str) -> MountNamespaces:
    """Leave the host's mount namespace for a new, nearly empty one. Relative to held descriptors only from now on."""
    host_ns = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    null = _open_null()
    bundles = mounts.open_tree(c.AT_FDCWD, os.fsencode(f"{data_dir}/containers"))
    null_tree = mounts.open_tree(null, b"")
    mask = c.MOUNT_ATTR_RDONLY | c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NOEXEC
    mounts.set_attributes(null_tree, mask, propagation=c.MS_PRIVATE)
    unshare(c.CLONE_NEWNS)
    mounts.set_attributes(c.AT_FDCWD, propagation=c.MS_PRIVATE, recursive=True, path=b"/")
    mounts.set_attributes(bundles, propagation=c.MS_PRIVATE)
    root = mounts.new_filesystem(b"tmpfs", [(b"mode", b"0755"), (b"size", b"1m")], c.MOUNT_ATTR_NODEV)
    for name in ("c", "d", "d/empty", "l", "proc", "sys", "r", "f"):
        os.mkdir(name, 0o755, dir_fd=root)
    os.close(os.open("d/null", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=root))
    mounts.attach(root, c.AT_FDCWD, os.fsencode(data_dir))
    mounts.pivot_to(root)
    empty = mounts.new_filesystem(b"tmpfs", [(b"mode", b"0755"), (b"ro", None)], mask | c.MOUNT_ATTR_NODEV)
    plain = c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NODEV | c.MOUNT_ATTR_NOEXEC
    for tree, where in (
        (bundles, b"/c"),
        (null_tree, b"/d/null"),
        (empty, b"/d/empty"),
        (mounts.new_filesystem(b"proc", [], plain), b"/proc"),
        (mounts.new_filesystem(b"sysfs", [], plain), b"/sys"),
    ):
        mounts.attach(tree, c.AT_FDCWD, where)
        os.close(tree)
    os.close(root)
    own_ns = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    return MountNamespaces(host_ns, own_ns, null)
