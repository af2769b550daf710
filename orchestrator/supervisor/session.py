"""The `exec` verb: a process in a running container, with the client's own descriptors or a pty of the container's."""

from __future__ import annotations

import trio

from orchestrator.contracts.control import Exec
from orchestrator.contracts.runtime import ExecSpec, Exit, Runtime
from orchestrator.errors import InputError, PystackError
from orchestrator.supervisor.control import ProjectControl
from orchestrator.supervisor.terminal import terminal_for
from orchestrator.supervisor.wire import Connection, Disconnected


async def run_exec(
    runtime: Runtime, control: ProjectControl, connection: Connection, request: Exec, fds: tuple[int, ...]
) -> dict[str, int]:
    """Runs until the process ends; a client that closes its connection ends the process."""
    spec = _spec(request, fds)
    container = control.running_container(request.service, request.index)
    ended: Exit | None = None
    error: PystackError | None = None
    async with trio.open_nursery() as nursery:

        async def leave_with_client() -> None:
            await connection.wait_closed()
            nursery.cancel_scope.cancel()

        nursery.start_soon(leave_with_client)
        try:
            async with terminal_for(connection) as on_tty:
                ended = await runtime.exec(container, spec, on_tty)
        except PystackError as exc:
            error = exc
        nursery.cancel_scope.cancel()
    if error is not None:
        raise error
    if ended is None:
        raise Disconnected
    return {"status": ended.status}


def _spec(request: Exec, fds: tuple[int, ...]) -> ExecSpec:
    if not request.argv:
        raise InputError("exec needs a command", hint="pystack exec SERVICE COMMAND [ARG...]")
    stdin, stdout, stderr = fds
    return ExecSpec(
        request.argv,
        (stdin, stdout, stderr),
        request.environment or None,
        request.working_dir or None,
        request.user or None,
        request.tty,
    )
