"""What an adapter says when the machine refuses it something that it has no better words for: it is out of descriptors, of
memory, of room, or a disk is broken, at any of its system calls."""

from __future__ import annotations

import errno
import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from orchestrator.errors import HostError, alone, refused

Adapter = TypeVar("Adapter", bound=type)
HINT = "what the machine was short of may be there again: run the command again"
LIMIT_HINT = "`ulimit -n` in the shell of the first `pystack up` sets the limit"
"""For who is out of file descriptors."""


def refusing(**doing: str) -> Callable[[Adapter], Adapter]:
    """Of a class: an OSError that leaves its coroutine method NAME, alone or in a group, is a HostError there: ``cannot
    DOING WHOM: REASON: FILE``. WHOM is the first argument, or the container or the name that this is about."""

    def decorate(adapter: Adapter) -> Adapter:
        for name, text in doing.items():
            setattr(adapter, name, _told(getattr(adapter, name), text))
        return adapter

    return decorate


def _told(method: Callable[..., Awaitable[Any]], doing: str) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(method)
    async def told(self: object, *args: Any, **kwargs: Any) -> Any:
        try:
            return await method(self, *args, **kwargs)
        except Exception as exc:
            if (cause := refused(alone(exc))) is not None:
                whom = _name(args[0]) if args else ""
                where = f": {cause.filename}" if isinstance(cause.filename, str) else ""
                message = f"cannot {doing}{whom}: {cause.strerror or cause}{where}"
                raise HostError(message, hint=LIMIT_HINT if cause.errno == errno.EMFILE else HINT) from exc
            raise

    return told


def _name(about: object) -> str:
    for attribute in ("container", "name"):
        about = getattr(about, attribute, about)
    return f" {about}" if isinstance(about, str) else ""
