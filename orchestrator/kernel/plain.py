"""Opening a file of ours, whatever stands in its place: a FIFO must not make us wait, nor a device be touched, nor a link
be followed (open(2)).

Our directories are closed to others, so what is there was put there by root, or by a restored backup. It is told, not
removed.
"""

from __future__ import annotations

import os
import stat

from orchestrator.kernel.identity import is_trusted

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a directory",
}
_EINVAL = 22


def open_plain(path: str, flags: int, mode: int = 0o600, *, dir_fd: int | None = None) -> int:
    """As os.open, of a plain file of root's or ours. Raises OSError; its text says what else is there."""
    try:
        # Before: opening a device may do something.
        _check(os.stat(path, dir_fd=dir_fd, follow_symlinks=False), path)
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            raise
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode, dir_fd=dir_fd)
    try:
        _check(os.fstat(fd), path)
    except OSError:
        os.close(fd)
        raise
    return fd


def opener(path: str, flags: int) -> int:
    """For open()."""
    return open_plain(path, flags)


def _check(found: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise OSError(_EINVAL, f"it is {kind}, not a plain file", path)
    if not is_trusted(found.st_uid):
        raise OSError(_EINVAL, f"it belongs to user {found.st_uid}", path)
