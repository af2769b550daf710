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
import traceback
from contextlib import suppress

import trio

from orchestrator.errors import BugReport, PystackError, only_error
from orchestrator.kernel import heap
from orchestrator.kernel.clean_start import start_clean
from orchestrator.kernel.limits import make_room
from orchestrator.model.codec import to_json
from orchestrator.model.names import ProjectName
from orchestrator.runtime.host_check import require_host
from orchestrator.state.directory import site_of
from orchestrator.state.lock import take
from orchestrator.supervisor.api import Server
from orchestrator.supervisor.door import open_listener
from orchestrator.supervisor.faults import fault_of, shortage_of
from orchestrator.supervisor.logfile import write_to_log
from orchestrator.supervisor.options import Options
from orchestrator.supervisor.wiring import open_project


def live(options: Options) -> int:
    """The supervisor's life; returns its exit code. Raises what was not expected, after it has been told."""
    waiting = Waiting(options.ready_fd)
    unclean = start_clean()  # Nothing of the caller's shell goes on to containers.
    make_room()
    heap.share()
    try:
        trio.run(_supervise, options, waiting, unclean)
    except BaseException as exc:
        what = f"the supervisor of project {options.project}"
        if (error := only_error(exc)) is None and (error := shortage_of(what, exc)) is not None:
            traceback.print_exception(exc)  # Where it was met; if nobody waits for us any more, that is all that is told.
        if error is not None:
            waiting.fail(error)
            return error.exit_code
        message = f"{what} failed: {type(exc).__name__}: {exc}"
        waiting.fail(BugReport(message, hint="this is a bug in pystack; the traceback is in the project's supervisor.log"))
        raise
    return 0


async def _supervise(options: Options, waiting: Waiting, unclean: tuple[str, ...]) -> None:
    site = site_of(options.data_dir, options.run_dir, ProjectName(options.project))
    host = require_host()
    site, held = take(site)
    write_to_log(site)
    try:
        with open_listener(site) as listener:
            server = Server(site, listener)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.accept)
                async with open_project(site, host, options.argv) as opened:
                    opened.untold += (*unclean, *host.lowered)
                    await opened.adopt()
                    waiting.tell("ready")
                    await server.serve(opened)
                    ending = opened.ending()
                nursery.cancel_scope.cancel()
        ending()
    finally:
        os.close(held)


class Waiting:
    """The client that waits for this supervisor, if one does (one that the monitor started again has none)."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    def fail(self, error: PystackError) -> None:
        self.tell(json.dumps({"error": to_json(fault_of(error))}))

    def tell(self, line: str) -> None:
        """One line, once: what comes later has no listener."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        with suppress(OSError):  # The client is gone.
            os.write(fd, line.encode() + b"\n")
        os.close(fd)
