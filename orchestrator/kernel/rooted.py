"""Paths of a container, resolved inside its root and never by the host's names (openat2(2), RESOLVE_IN_ROOT).

An image's symbolic link ``/etc -> /../../etc`` stays within the root here; ``/proc``'s magic links are refused.
"""

from __future__ import annotations

import errno
import os
import stat

from orchestrator.kernel import constants as c
from orchestrator.kernel.suppress import suppress
from orchestrator.kernel.syscalls import openat2

IN_ROOT = c.RESOLVE_IN_ROOT | c.RESOLVE_NO_MAGICLINKS
BELOW = c.RESOLVE_BENEATH | c.RESOLVE_NO_MAGICLINKS
"""A link that leads out is an error (EXDEV) instead of being bent to the root."""
_MOST_LINKS = 40


def open_in(root: int, path: bytes, flags: int = os.O_PATH) -> int:
    """Open an existing `path` inside the directory `root`. Raises OSError."""
    return openat2(root, path, flags, IN_ROOT)


def ensure(root: int, path: bytes, *, directory: bool, mode: int = 0o755) -> int:
    """An O_PATH descriptor of `path` inside `root`; what is missing is made: directories, at the end a directory or an
    empty file. A dangling link is followed and its target made. Raises OSError."""
    with suppress(FileNotFoundError):
        return open_in(root, path)
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    at, links = 0, 0
    while at < len(parts):
        try:
            os.close(open_in(root, b"/".join(parts[: at + 1])))
        except FileNotFoundError:
            link = _make(root, parts[:at], parts[at], directory or at + 1 < len(parts), mode)
            if link is not None:
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path) from None
                before = [] if link.startswith(b"/") else parts[:at]
                parts = [p for p in (*before, *link.split(b"/"), *parts[at + 1 :]) if p not in (b"", b".")]
                at = 0
                continue
        at += 1
    return open_in(root, b"/".join(parts))


def _make(root: int, parent: list[bytes], name: bytes, directory: bool, mode: int) -> bytes | None:
    """Make one name; if it is a dangling link, its text instead."""
    above = open_in(root, b"/".join(parent) or b".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        if directory:
            os.mkdir(name, mode, dir_fd=above)
        else:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=above))
    except FileExistsError:
        return os.readlink(name, dir_fd=above)
    finally:
        os.close(above)
    return None


def read_small_file(root: int, path: bytes, limit_bytes: int = 1 << 20) -> bytes | None:
    """The content of a regular file of at most `limit_bytes`; None if it is missing, too big or anything else (a FIFO, a
    device): a hostile image can neither block us nor feed us without end."""
    try:
        fd = open_in(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size > limit_bytes:
            return None
        data = b""
        while len(data) <= limit_bytes and (more := os.read(fd, limit_bytes + 1 - len(data))):
            data += more
        return data if len(data) <= limit_bytes else None
    except OSError:
        return None
    finally:
        os.close(fd)
