"""What a RUN wrote becomes a layer: the upper directory of its container, moved out of the bundle and put in order.

overlayfs has written it as the container's ids, with attributes of its own. A layer has the ids of the image, what
overlayfs needs to show it (whiteouts, ``opaque``) and nothing else; and neither the places where the runtime mounted
something, which nobody asked for. Nothing is copied: owners are changed, extended attributes are removed.

The tree is a container's work: its depth and names are as it likes. The walk holds one directory open, whatever the depth.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
from collections.abc import Iterable

from orchestrator.contracts.site import IdMap
from orchestrator.errors import HostError
from orchestrator.images.unpack.merged import Merged
from orchestrator.kernel import constants as c
from orchestrator.kernel.syscalls import openat2

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPAQUE = "trusted.overlay.opaque"
_OVERLAY = ("trusted.overlay.", "user.overlay.")
CAPABILITY = "security.capability"
ACLS = ("system.posix_acl_access", "system.posix_acl_default")
_CAPS_2, _CAPS_3, _CAPS_REVISION = 0x02000000, 0x03000000, 0xFF000000
"""linux/capability.h: VFS_CAP_REVISION_2, _3 and _MASK."""
_ACL_USER, _ACL_GROUP = 0x02, 0x08
"""linux/posix_acl.h: the tags of the entries that name an id."""


def settle(tree: str, below: Merged, ids: IdMap, stubs: Iterable[str], times_at_most_s: int | None) -> None:
    """Put the upper directory `tree`, which no process writes into any more, in order. `below`: what it lay upon. `ids`:
    the container's. `stubs`: where the runtime mounted something, resolved, absolute; what it made for that is taken away
    again if it is still empty. `times_at_most_s`: SOURCE_DATE_EPOCH. Blocking. Raises HostError."""
    try:
        _Settling(tree, below, ids, times_at_most_s).run()
        root = os.open(tree, _DIRECTORY)
        try:
            for path in sorted(set(stubs), key=len, reverse=True):
                _remove_stub(root, below, path.strip("/"))
        finally:
            os.close(root)
    except OSError as exc:
        raise HostError(f"cannot make a layer of {tree}: {exc.filename or ''}: {exc.strerror}") from exc


class _Settling:
    """`todo`: for each level the directories still to be entered. `names` lead to the directory `current`."""

    def __init__(self, tree: str, below: Merged, ids: IdMap, times_at_most_s: int | None) -> None:
        self.below = below
        self.ids = ids
        self.latest_ns = None if times_at_most_s is None else times_at_most_s * 10**9
        self.current = os.open(tree, _DIRECTORY)
        self.names: list[str] = []
        self.todo: list[list[str]] = []

    def run(self) -> None:
        try:
            self.todo.append(self._settle_names())
            while True:
                if self.todo[-1]:
                    self._enter(self.todo[-1].pop())
                    continue
                # Directories last: taking away what lies in one changes its time.
                self._settle(".", os.fstat(self.current))
                self.todo.pop()
                if not self.todo:
                    return
                self._leave()
        finally:
            os.close(self.current)

    def _enter(self, name: str) -> None:
        inner = os.open(name, _DIRECTORY, dir_fd=self.current)
        os.close(self.current)
        self.current = inner
        self.names.append(name)
        self.todo.append(self._settle_names())

    def _leave(self) -> None:
        above = os.open("..", _DIRECTORY, dir_fd=self.current)
        os.close(self.current)
        self.current = above
        self.names.pop()

    def _settle_names(self) -> list[str]:
        """All in the current directory but its directories, whose names are given."""
        directories = []
        with os.scandir(self.current) as entries:
            names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for name, is_directory in names:
            if is_directory:
                directories.append(name)
            else:
                self._settle(name, os.stat(name, dir_fd=self.current, follow_symlinks=False))
        return directories

    def _settle(self, name: str, found: os.stat_result) -> None:
        """Owner, then what a change of the owner takes away, then the time."""
        if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
            return  # A whiteout: it has no owner in a layer.
        # By descriptor where it can be opened without waking anybody, else by a path that no link can be in the way of.
        plain = stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)
        path = f"/proc/self/fd/{self.current}/{name}"
        attributes = os.listxattr(path, follow_symlinks=False)
        kept = {each: os.getxattr(path, each, follow_symlinks=False) for each in attributes if each == CAPABILITY}
        owner, group = self._own(found.st_uid), self._own(found.st_gid)
        if (owner, group) != (found.st_uid, found.st_gid):
            os.chown(name, owner, group, dir_fd=self.current, follow_symlinks=False)
            if plain and stat.S_IMODE(found.st_mode) & 0o6000:
                os.chmod(path, stat.S_IMODE(found.st_mode))
        for each in attributes:
            if each.startswith(_OVERLAY):
                self._settle_mark(path, each, name)
            elif each in ACLS:
                value = os.getxattr(path, each, follow_symlinks=False)
                os.setxattr(path, each, own_acl(value, self.ids), follow_symlinks=False)
        if CAPABILITY in kept and (value_inside := own_capability(kept[CAPABILITY], self.ids)) is not None:
            os.setxattr(path, CAPABILITY, value_inside, follow_symlinks=False)
        if self.latest_ns is not None and found.st_mtime_ns > self.latest_ns:
            times = (self.latest_ns, self.latest_ns)
            os.utime(name, ns=times, dir_fd=self.current, follow_symlinks=False)

    def _own(self, number: int) -> int:
        return own_id(number, self.ids)

    def _settle_mark(self, path: str, attribute: str, name: str) -> None:
        """Of overlayfs' own marks, only ``opaque`` means something in a layer, and only where something lies below. (It
        marks every new directory: that saves it a look-up.)"""
        kind = attribute.rpartition(".")[2]
        if kind in ("redirect", "metacopy"):
            what = f"this kernel's overlayfs uses {kind}, which no image knows"
            raise OSError(errno.EOPNOTSUPP, what, "/".join(self.names))
        where = "/" + "/".join(self.names if name == "." else [*self.names, name])
        if attribute == _OPAQUE:
            hidden = self.below.stat(where)
            if hidden is not None and stat.S_ISDIR(hidden.st_mode):
                return
        os.removexattr(path, attribute, follow_symlinks=False)


def own_id(number: int, ids: IdMap) -> int:
    """A host's id as the container has it."""
    inside = ids.inside(number)
    return number if inside is None else inside


def own_acl(value: bytes, ids: IdMap) -> bytes:
    """acl(5) as the kernel has it in an extended attribute: a version, then tag, permissions and id of each entry."""
    entries = bytearray(value)
    for offset in range(4, len(value) - 7, 8):
        tag, _, number = struct.unpack_from("<HHI", value, offset)
        if tag in (_ACL_USER, _ACL_GROUP):
            struct.pack_into("<I", entries, offset + 4, own_id(number, ids))
    return bytes(entries)


def own_capability(value: bytes, ids: IdMap) -> bytes | None:
    """Of revision 3, with the container's root, becomes revision 2: for the image's own root (capabilities(7)). None for
    one of a user namespace inside the container: nobody's out here."""
    (magic,) = struct.unpack_from("<I", value)
    if magic & _CAPS_REVISION != _CAPS_3:
        return value
    (root,) = struct.unpack_from("<I", value, 20)
    return struct.pack("<I", magic & ~_CAPS_REVISION | _CAPS_2) + value[4:20] if root in (0, ids.host_base) else None


def _remove_stub(root: int, below: Merged, path: str) -> None:
    """Take away what was made at `path` for a mount, and above it what was made for that alone; and the copy that overlayfs
    made of a directory from below only to put it there."""
    while path and below.stat(f"/{path}") is None:
        if not _remove_empty(root, path):
            return
        path = path.rpartition("/")[0]
    while path and _is_mere_copy(root, below, path):
        if not _remove_empty(root, path):
            return
        path = path.rpartition("/")[0]


def _remove_empty(root: int, path: str) -> bool:
    """Whether it is gone, or was never there: an empty directory or an empty file. The directory that it was in keeps its
    time."""
    parent, _, name = path.rpartition("/")
    try:
        above = openat2(root, os.fsencode(parent or "."), _DIRECTORY, c.RESOLVE_IN_ROOT | c.RESOLVE_NO_SYMLINKS)
    except OSError as exc:
        return exc.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
    try:
        times = os.fstat(above)
        found = os.stat(name, dir_fd=above, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            os.rmdir(name, dir_fd=above)
        elif stat.S_ISREG(found.st_mode) and found.st_size == 0 and found.st_nlink == 1:
            os.unlink(name, dir_fd=above)
        else:
            return False
        os.utime(above, ns=(times.st_atime_ns, times.st_mtime_ns))
    except FileNotFoundError:
        return True
    except OSError as exc:
        if exc.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    finally:
        os.close(above)
    return True


def _is_mere_copy(root: int, below: Merged, path: str) -> bool:
    """Whether the directory at `path` of the upper tree says nothing of itself that the one below does not say. (Its time
    is that of the mount.)"""
    known = below.stat(f"/{path}")
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        fd = openat2(root, os.fsencode(path), _DIRECTORY, c.RESOLVE_IN_ROOT | c.RESOLVE_NO_SYMLINKS)
        try:
            found = os.fstat(fd)
            if known is None or (found.st_mode, found.st_uid, found.st_gid) != (known.st_mode, known.st_uid, known.st_gid):
                return False
            return not os.listxattr(fd)
        finally:
            os.close(fd)
    return False
