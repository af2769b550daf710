"""Errors a user can act on.

Each carries one clear sentence (lower case, no full stop, naming the object and its value), an optional hint that says
what to do next, and the exit code the command ends with (docs/exit-codes.md). A bug is an AssertionError, never one of
these. An error is wrapped once, at the boundary where it is understood, with ``raise ... from exc``.
"""

from __future__ import annotations

import errno

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_MOVED = 3
EXIT_RUNTIME = 125
EXIT_CANNOT_EXECUTE = 126
EXIT_NOT_FOUND = 127
EXIT_CANCELLED = 130


class PystackError(Exception):
    """Base of every error shown to the user: ``error: PLACE: MESSAGE`` then, if there is one, ``hint: HINT``.

    `kind` names the class on a wire. `place`: where in the user's files it is (``FILE:LINE:COLUMN: compose.path``), or "".
    A message may have an excerpt of such a file below its first line.
    """

    kind = "operation"
    exit_code = EXIT_FAILED

    def __init__(self, message: str, *, hint: str | None = None, exit_code: int | None = None, place: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.place = place
        if exit_code is not None:
            self.exit_code = exit_code

    @property
    def headline(self) -> str:
        """Without the lines of the user's file that the message may go on with."""
        return str(self).partition("\n")[0]

    def extended(self, more: str) -> str:
        """The message with `more` at the end of its first line."""
        first, newline, excerpt = str(self.args[0]).partition("\n")
        return first + more + newline + excerpt

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


class Ended(KeyboardInterrupt):
    """As Ctrl-C, by another signal that asks us to end. `number`: which; the exit code is 128 + it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class InputError(PystackError):
    """Something the user wrote is wrong: a compose file, an option, a name. Exit code 2."""

    kind = "input"
    exit_code = EXIT_USAGE


class HostError(PystackError):
    """This machine lacks or refuses something pystack needs: root, overlayfs, disk space. Exit code 125."""

    kind = "host"
    exit_code = EXIT_RUNTIME


class OperationError(PystackError):
    """What was asked for was tried and failed: a service did not come up, a port is in use. Exit code 1."""


class BusyError(PystackError):
    """Another command holds what this one needs. Exit code 1."""

    kind = "busy"


class MovedError(PystackError):
    """A plan was made for a world that is another one by now. Nothing was done. Exit code 3."""

    kind = "moved"
    exit_code = EXIT_MOVED


class CommandError(PystackError):
    """A container's command could not be executed: exit code 127 (not found) or 126 (may not be run)."""

    kind = "command"
    exit_code = EXIT_CANNOT_EXECUTE


class BugReport(PystackError):
    """What a process tells those who asked it something of a bug it met on the way. Exit code 125."""

    kind = "bug"
    exit_code = EXIT_RUNTIME


KINDS: dict[str, type[PystackError]] = {
    cls.kind: cls for cls in (InputError, HostError, OperationError, BusyError, MovedError, CommandError, BugReport)
}
"""By the name that an error has on a wire."""


def alone(exc: BaseException) -> BaseException:
    """What `exc` says, if that is one thing: nurseries wrap even a single exception in a group."""
    while isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc


_NO_THREAD = "can't start new thread"
"""All that CPython says of a pthread_create(3) that failed: a RuntimeError with this text."""


def refused(exc: BaseException) -> OSError | None:
    """What the operating system has refused, if that is what `exc` says."""
    if isinstance(exc, RuntimeError) and exc.args == (_NO_THREAD,):
        return OSError(errno.EAGAIN, "no more threads or processes")
    return exc if isinstance(exc, OSError) else None


def access_hint(exc: OSError) -> str | None:
    """What helps where the machine refuses something of pystack's own, which is root's: nobody else may even look."""
    return "pystack needs root: run it as root (sudo pystack ...)" if isinstance(exc, PermissionError) else None


def only_error(exc: BaseException) -> PystackError | None:
    """The error for the user, if that is all that `exc` says."""
    exc = alone(exc)
    return exc if isinstance(exc, PystackError) else None
