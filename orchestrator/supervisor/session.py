"""The `exec` verb: a process in a running container, with the client's own descriptors or a pty of the container's."""

from __future__ import annotations

import os

import trio

from orchestrator.contracts.control import Exec
from orchestrator.contracts.runtime import ExecSpec, Exit, Runtime
from orchestrator.errors import InputError, PystackError
from orchestrator.supervisor.control import ProjectControl
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
        masters, outgoing = trio.open_memory_channel[int](1)
        handed_over = trio.Event()

        async def hand_over() -> None:
            """The pty's master goes out before the result, also when the process ended at once."""
            async for master in outgoing:
                try:
                    await connection.send({"event": {"tty": True}}, fds=(master,))
                except Disconnected:
                    nursery.cancel_scope.cancel()
                finally:
                    os.close(master)
            handed_over.set()

        async def leave_with_client() -> None:
            await connection.wait_closed()
            nursery.cancel_scope.cancel()

        nursery.start_soon(leave_with_client)
        nursery.start_soon(hand_over)
        try:
            ended = await runtime.exec(container, spec, masters.send_nowait)
        except PystackError as exc:
            error = exc
        masters.close()
        await handed_over.wait()
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
