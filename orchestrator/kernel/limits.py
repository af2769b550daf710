"""Resource limits (getrlimit(2)): what a container has where nothing is said, and setting them as near as we may.

A container's limits are these or those of its config, and never what the shell had that typed `up`. What a memory, process
or processor limit is for, control groups do; so most are unlimited here. `RLIMIT_NOFILE` is systemd's default: a soft limit
that programs with select(2) survive, a hard one that every server is content with.

Only CAP_SYS_RESOURCE of the initial user namespace can raise a hard limit. Without it (root in most containers) one that
was lowered before us stays, and containers get what is left of it; `lowered` says so.
"""

from __future__ import annotations

import errno
import os
import resource

UNLIMITED = resource.RLIM_INFINITY

DEFAULTS = (
    ("RLIMIT_CPU", 0, UNLIMITED, UNLIMITED),
    ("RLIMIT_FSIZE", 1, UNLIMITED, UNLIMITED),
    ("RLIMIT_DATA", 2, UNLIMITED, UNLIMITED),
    ("RLIMIT_STACK", 3, 8 << 20, UNLIMITED),
    ("RLIMIT_CORE", 4, 0, UNLIMITED),
    ("RLIMIT_RSS", 5, UNLIMITED, UNLIMITED),
    ("RLIMIT_NPROC", 6, UNLIMITED, UNLIMITED),
    ("RLIMIT_NOFILE", 7, 1024, 524_288),
    ("RLIMIT_MEMLOCK", 8, 8 << 20, 8 << 20),
    ("RLIMIT_AS", 9, UNLIMITED, UNLIMITED),
    ("RLIMIT_LOCKS", 10, UNLIMITED, UNLIMITED),
    ("RLIMIT_SIGPENDING", 11, 65_536, 65_536),
    ("RLIMIT_MSGQUEUE", 12, 819_200, 819_200),
    ("RLIMIT_NICE", 13, 0, 0),
    ("RLIMIT_RTPRIO", 14, 0, 0),
    ("RLIMIT_RTTIME", 15, UNLIMITED, UNLIMITED),
)
"""Name, number (asm-generic/resource.h), soft, hard. Bytes, processes, files, signals; microseconds for RTTIME."""

_ROOM = 4096
"""Descriptors: half a thousand containers. It is 32 KiB of memory."""

NUMBERS = {name: number for name, number, _, _ in DEFAULTS}


def above(one: int, other: int) -> bool:
    """Whether the limit `one` allows more than `other`."""
    if UNLIMITED in (one, other):
        return one == UNLIMITED and other != UNLIMITED
    return one > other


def set_limit(number: int, soft: int, hard: int) -> None:
    """Of this process. Raises OSError: EPERM when `hard` may not be raised so far, EINVAL when `soft` is above it."""
    if above(soft, hard):
        raise OSError(errno.EINVAL, "")
    try:
        resource.setrlimit(number, (soft, hard))
    except ValueError:  # Python's words for EPERM, once EINVAL is excluded.
        raise OSError(errno.EPERM, "") from None


def attainable(number: int, soft: int, hard: int) -> tuple[int, int]:
    """`soft` and `hard`, or what is left of them where the hard limit of this process is lower and may not be raised.
    Raises the hard limit already, so that either pair can be set from now on."""
    own_soft, own_hard = resource.getrlimit(number)
    if above(hard, own_hard):
        try:
            set_limit(number, own_soft, hard)
        except OSError:
            return (own_hard if above(soft, own_hard) else soft), own_hard
    return soft, hard


def make_room() -> None:
    """Let the table of descriptors have its size from the beginning. The kernel doubles it at need, and a process that has
    threads, or shares its table, waits an RCU grace period for that (fs/file.c, expand_fdtable): 10 ms each time."""
    last = min(_ROOM, resource.getrlimit(resource.RLIMIT_NOFILE)[0]) - 1
    reader, writer = os.pipe2(os.O_CLOEXEC)
    if last > writer:
        os.close(os.dup2(reader, last, inheritable=False))
    os.close(reader)
    os.close(writer)


def lowered() -> tuple[str, ...]:
    """A sentence for each hard limit that is lower than the default and than the machine's (process 1 has that), and that
    we may not raise: containers get what is left. Changes nothing."""
    found = []
    for name, number, _, hard in DEFAULTS:
        own = resource.getrlimit(number)
        try:
            machine = resource.prlimit(1, number)[1]
        except (OSError, ValueError):
            return ()
        if above(hard, own[1]) and above(machine, own[1]):
            try:
                set_limit(number, own[0], hard)
            except OSError:
                found.append(f"the hard limit {name} is {own[1]}, and only CAP_SYS_RESOURCE could raise it again")
            else:
                resource.setrlimit(number, own)
    return tuple(found)
