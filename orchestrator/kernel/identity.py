"""Who we are: the one place that asks for the user id, and what follows from it for others."""

from __future__ import annotations

import os


def own_uid() -> int:
    """The effective user id."""
    return os.geteuid()


def own_gid() -> int:
    """The effective group id."""
    return os.getegid()


def is_trusted(uid: int) -> bool:
    """Whether `uid` (the other end of a socket: SO_PEERCRED, unix(7)) may do what we may: it is root's or ours."""
    return uid in (0, own_uid())
