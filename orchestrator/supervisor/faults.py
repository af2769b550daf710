"""Errors on their way to a client, and bugs, which end the request that met them and nothing else."""

from __future__ import annotations

import errno
import resource
import traceback

from orchestrator.contracts.control import Fault
from orchestrator.errors import BugReport, HostError, PystackError, only_error

LIMIT_HINT = "`ulimit -n` in the shell of the first `pystack up` sets the limit"


def fault_of(error: PystackError) -> Fault:
    return Fault(error.kind, error.message, error.hint or "", error.place, error.exit_code)


def error_of(what: str, exc: Exception) -> PystackError:
    """The error that `exc` is, or the report of a bug in `what`; its traceback then goes to stderr (supervisor.log)."""
    if (error := only_error(exc)) is not None:
        return error
    if isinstance(exc, OSError) and exc.errno in (errno.EMFILE, errno.ENFILE):
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return HostError(
            f'"{what}" failed: the supervisor is out of file descriptors (its limit is {limit})', hint=LIMIT_HINT
        )
    traceback.print_exception(exc)
    return BugReport(
        f'"{what}" failed: {type(exc).__name__}: {exc}',
        hint="this is a bug in pystack; the traceback is in the project's supervisor.log",
    )
