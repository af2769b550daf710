"""A bind mount taken apart: the mounts below a directory, each a detached copy of its own.

A copy of the whole tree (open_tree(2), AT_RECURSIVE) gets its ids mapped as a whole or not at all, and the mounts in it
cannot be changed one by one (mount_setattr(2)).
"""

from __future__ import annotations

import errno
import os

from orchestrator.kernel import mounts
from orchestrator.kernel.rooted import BELOW
from orchestrator.kernel.syscalls import openat2

_ESCAPES = {b"\\040": b" ", b"\\011": b"\t", b"\\012": b"\n", b"\\134": b"\\"}
_MOST_NAMED = 8


class Part:
    """`path`: below the directory. `tree`: a detached copy of the mount. `kind`: its type of file system."""

    __slots__ = ("kind", "path", "tree")

    def __init__(self, path: bytes, tree: int, kind: bytes) -> None:
        self.path, self.tree, self.kind = path, tree, kind


def parts_below(directory: int) -> list[Part]:
    """The mounts below, as they are seen from it: parents first, without what is hidden under another mount and what is
    not to be copied (unbindable). `directory` may be open by O_PATH. Raises OSError."""
    top = os.readlink(b"/proc/self/fd/%d" % directory).rstrip(b"/") + b"/"
    found: list[Part] = []
    for point, number, kind in sorted(_table(), key=lambda row: row[0].count(b"/")):
        if not point.startswith(top) or point == top:
            continue
        path = point[len(top) :]
        try:
            where = openat2(directory, path, os.O_PATH | os.O_NOFOLLOW, BELOW)
        except OSError as exc:
            if exc.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV, errno.EACCES):
                continue  # Under another mount, or renamed meanwhile.
            raise
        try:
            if mount_of(where) == number:
                found.append(Part(path, mounts.open_tree(where, b""), kind))
        except OSError as exc:
            if exc.errno != errno.EINVAL:
                raise
        finally:
            os.close(where)
    return found


def _table() -> list[tuple[bytes, bytes, bytes]]:
    """Point, number and type of all mounts (proc_pid_mountinfo(5))."""
    rows = []
    for line in _read(b"/proc/thread-self/mountinfo").splitlines():
        fields = line.split(b" ")
        point = fields[4]
        if b"\\" in point:
            for escape, byte in _ESCAPES.items():
                point = point.replace(escape, byte)
        rows.append((point, fields[0], fields[fields.index(b"-", 6) + 1]))
    return rows


def mount_of(fd: int) -> bytes:
    """The number of the mount that `fd` is in."""
    for line in _read(b"/proc/thread-self/fdinfo/%d" % fd).splitlines():
        if line.startswith(b"mnt_id:"):
            return line.split()[1]
    return b""


def kind_of(fd: int) -> bytes:
    """The type of the file system that `fd` is in, in the caller's mount namespace; "" for one that is elsewhere."""
    number = mount_of(fd)
    return next((kind for _, other, kind in _table() if other == number), b"")


def named(places: list[tuple[bytes, bytes]]) -> bytes:
    """Paths and types of file systems, as a list for people."""
    texts = [b"%s (%s)" % place for place in places[:_MOST_NAMED]]
    if len(places) > _MOST_NAMED:
        texts.append(b"%d more" % (len(places) - _MOST_NAMED))
    return b", ".join(texts)


def _read(path: bytes) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()
