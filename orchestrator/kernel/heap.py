"""The heap of malloc(3), of a process whose threads take turns in Python (mallopt(3))."""

from __future__ import annotations

import ctypes

from orchestrator.kernel.syscalls import libc

_M_ARENA_MAX = -8  # malloc.h


def share() -> None:
    """One heap for all threads. The GNU C library gives each of the first threads (eight a processor) a heap of its own,
    and each keeps what its thread once needed. Before any thread is started. Another library has no such setting."""
    try:
        mallopt = libc.mallopt
    except AttributeError:
        return
    mallopt(ctypes.c_int(_M_ARENA_MAX), ctypes.c_int(1))
