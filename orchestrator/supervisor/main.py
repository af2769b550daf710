"""The supervisor's life: lock, listen, adopt, serve, end.

Starting for the first time, after ``kill -9`` and after a reboot are one path: take the project's lock, open the control
socket, read what was wanted, ask the monitor what runs, reconcile, serve. It ends when the project is down, when a client
says so, or when nothing is left to supervise and nobody is connected: there is no daemon.

What starts it (`birth`, `options`) may wait at a pipe, ``--ready-fd``, on which one line is written once requests are
answered: ``ready``, or a JSON error object (docs/control-protocol.md) before the process ends.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress

import trio

from orchestrator.errors import EXIT_RUNTIME, only_error
from orchestrator.model.names import ProjectName
from orchestrator.runtime.host_check import require_host
from orchestrator.state import lock
from orchestrator.state.directory import prepare, site_of
from orchestrator.supervisor.api import Server, open_listener
from orchestrator.supervisor.logfile import write_to_log
from orchestrator.supervisor.options import Options
from orchestrator.supervisor.wiring import open_project


def live(options: Options) -> int:
    """The supervisor's life; returns its exit code. Raises what was not expected, after it has been told."""
    waiting = Waiting(options.ready_fd)
    try:
        trio.run(_supervise, options, waiting)
    except BaseException as exc:
        if (error := only_error(exc)) is not None:
            waiting.tell(_error_object(error.message, error.hint, error.exit_code))
            return error.exit_code
        message = f"the supervisor of project {options.project} failed: {type(exc).__name__}: {exc}"
        hint = "this is a bug in pystack; the traceback is in the project's supervisor.log"
        waiting.tell(_error_object(message, hint, EXIT_RUNTIME))
        raise
    return 0


async def _supervise(options: Options, waiting: Waiting) -> None:
    # Not the caller's: what is made for containers must be readable in them. Our own directories are 0700 at the top.
    os.umask(0o022)
    site = site_of(options.data_dir, options.run_dir, ProjectName(options.project))
    require_host()
    site = prepare(site)
    held = lock.acquire(site)
    write_to_log(site)
    try:
        with open_listener(site) as listener:
            async with open_project(site, options.argv) as opened:
                await opened.adopt()
                waiting.tell("ready")
                await Server(opened, listener).serve()
                ending = opened.ending()
            ending()
    finally:
        os.close(held)


def _error_object(message: str, hint: str | None, exit_code: int) -> str:
    return json.dumps({"error": {"message": message, "hint": hint, "exit_code": exit_code}})


class Waiting:
    """The client that waits for this supervisor, if one does (one that the monitor started again has none)."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    def tell(self, line: str) -> None:
        """One line, once: what comes later has no listener."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        with suppress(OSError):  # The client is gone.
            os.write(fd, line.encode() + b"\n")
        os.close(fd)
