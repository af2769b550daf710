"""Errors on their way to a client, and bugs, which end the request that met them and nothing else."""

from __future__ import annotations

import errno
import resource
import traceback
from collections.abc import Iterator

from orchestrator.contracts.control import Fault
from orchestrator.contracts.refusals import LIMIT_HINT
from orchestrator.errors import BugReport, HostError, PystackError, only_error, refused

_ROOM_HINT = "make room on the disks of the data and the run directory, and run the command again"
_SHORTAGES = {
    errno.EMFILE: LIMIT_HINT,
    errno.ENFILE: LIMIT_HINT,
    errno.ENOSPC: _ROOM_HINT,
    errno.EDQUOT: _ROOM_HINT,
    errno.ENOMEM: "the machine is out of memory: run the command again when there is some",
    errno.EAGAIN: "a limit of processes was met (`ulimit -u`, or the pids limit of a control group above us)",
    errno.EIO: "a disk is broken (`dmesg` says which): run the command again when it is well",
}
"""By errno: what to do."""


def fault_of(error: PystackError) -> Fault:
    return Fault(error.kind, error.message, error.hint or "", error.place, error.exit_code)


def error_of(what: str, exc: Exception) -> PystackError:
    """The error that `exc` is, or the report of a bug in `what`; its traceback then goes to stderr (supervisor.log)."""
    if (error := only_error(exc)) is not None:
        return error
    if (lacking := shortage_of(f'"{what}"', exc)) is not None:
        return lacking
    traceback.print_exception(exc)
    return BugReport(
        f'"{what}" failed: {type(exc).__name__}: {exc}',
        hint="this is a bug in pystack; the traceback is in the project's supervisor.log",
    )


def shortage_of(what: str, exc: BaseException) -> HostError | None:
    """That `what` failed because the machine has no more of something, or a disk is broken: no bug, whoever met it."""
    cause = None
    for leaf in _leaves(exc):
        cause = refused(leaf)
        if cause is None or cause.errno not in _SHORTAGES:
            return None
    assert cause is not None
    assert cause.errno is not None
    if cause.errno in (errno.EMFILE, errno.ENFILE):
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        reason = f"the supervisor is out of file descriptors (its limit is {limit})"
        return HostError(f"{what} failed: {reason}", hint=LIMIT_HINT)
    where = f": {cause.filename}" if cause.filename else ""
    return HostError(f"{what} failed: {cause.strerror}{where}", hint=_SHORTAGES[cause.errno])


def _leaves(exc: BaseException) -> Iterator[BaseException]:
    if not isinstance(exc, BaseExceptionGroup):
        yield exc
        return
    for part in exc.exceptions:
        yield from _leaves(part)
