"""The one place where a system call is made by number; every function raises OSError with the path it was about.

Standard library only: this also runs in the monitor and in its children, after which nothing may be imported any more.
"""

from __future__ import annotations

import ctypes
import os
import struct

from orchestrator.kernel.constants import CLOSE_RANGE_CLOEXEC, MACHINE, NR_CLOSE_RANGE, NR_OPENAT2, NUMBERS
from orchestrator.kernel.suppress import suppress

libc = ctypes.CDLL(None, use_errno=True)
_syscall = libc.syscall
_syscall.restype = ctypes.c_long
# c_void_p takes ints of any width and sign, bytes, buffers and None alike: the six registers.
_syscall.argtypes = [ctypes.c_long, *[ctypes.c_void_p] * 6]

Argument = int | bytes | ctypes.Array[ctypes.c_char] | None
_UINT_MAX = 0xFFFFFFFF


def fail(path: str | bytes | None = None) -> OSError:
    """The OSError for the errno of the call that just failed."""
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), path)


def call(
    number: int,
    a: Argument = 0,
    b: Argument = 0,
    c: Argument = 0,
    d: Argument = 0,
    e: Argument = 0,
    f: Argument = 0,
    *,
    path: str | bytes | None = None,
) -> int:
    """syscall(2). Raises OSError, with `path` as its file name."""
    result: int = _syscall(number, a, b, c, d, e, f)
    if result < 0:
        raise fail(path)
    return result


def number_of(name: str) -> int:
    """The number of one of the older system calls on this machine. Raises OSError(ENOSYS) on an unknown architecture."""
    try:
        return NUMBERS[MACHINE][name]
    except KeyError:
        raise OSError(38, f"the system call {name} is not known on {MACHINE}") from None


_MOST_RACES = 1000


def openat2(directory: int, path: bytes, flags: int, resolve: int, mode: int = 0) -> int:
    """openat2(2); O_CLOEXEC is added. The kernel gives up on a path with ``..`` in it (EAGAIN) while somebody, anywhere on
    the machine, renames or mounts something, since it cannot tell whether that led out of the directory: asked again."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, resolve)
    for _ in range(_MOST_RACES):
        with suppress(BlockingIOError):
            return call(NR_OPENAT2, directory, path, how, len(how), path=path)
    return call(NR_OPENAT2, directory, path, how, len(how), path=path)


def cloexec_from(first: int) -> None:
    """Mark every descriptor from `first` up close-on-exec (close_range(2))."""
    call(NR_CLOSE_RANGE, first, _UINT_MAX, CLOSE_RANGE_CLOEXEC)


def close_from(first: int) -> None:
    """Close every descriptor from `first` up (close_range(2))."""
    close_range(first, _UINT_MAX)


def close_range(first: int, last: int) -> None:
    """Close those from `first` to `last`, if that is any."""
    if first <= last:
        call(NR_CLOSE_RANGE, first, last, 0)


def sethostname(name: bytes) -> None:
    if libc.sethostname(name, ctypes.c_size_t(len(name))) != 0:
        raise fail(name)


def setdomainname(name: bytes) -> None:
    if libc.setdomainname(name, ctypes.c_size_t(len(name))) != 0:
        raise fail(name)


def syncfs(fd: int) -> None:
    """All of the file system of `fd` that was written until now is on the disk (syncfs(2))."""
    if libc.syncfs(ctypes.c_int(fd)) != 0:
        raise fail()


_statfs_buffer_size = 256


def filesystem_type(fd: int) -> int:
    """``f_type`` of fstatfs(2)."""
    buffer = ctypes.create_string_buffer(_statfs_buffer_size)
    if libc.fstatfs(ctypes.c_int(fd), buffer) != 0:
        raise fail()
    return int(struct.unpack_from("=q", buffer.raw)[0])
