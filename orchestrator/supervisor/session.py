"""The `exec` verb: a process in a running container, with the client's own descriptors or a pty of the container's."""

from __future__ import annotations

import os
from typing import Any

import trio

from orchestrator.contracts.events import Phase
from orchestrator.contracts.runtime import ExecSpec, Exit
from orchestrator.errors import InputError, OperationError, PystackError
from orchestrator.model.names import ContainerId
from orchestrator.supervisor.arguments import string_map, strings, typed
from orchestrator.supervisor.wire import Connection, Disconnected, Request
from orchestrator.supervisor.wiring import OpenProject


async def run_exec(opened: OpenProject, connection: Connection, request: Request) -> dict[str, Any]:
    """Runs until the process ends; a client that closes its connection ends the process."""
    spec = _spec(request)
    container = _running_container(opened, typed(request.args, "service", str, ""))
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
            ended = await opened.runtime.exec(container, spec, masters.send_nowait)
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


def _spec(request: Request) -> ExecSpec:
    argv = strings(request.args, "argv")
    if not argv:
        raise InputError("exec needs a command", hint="pystack exec SERVICE COMMAND [ARG...]")
    if len(request.fds) != 3:
        raise InputError(f"exec needs three descriptors, not {len(request.fds)}")
    return ExecSpec(
        argv,
        (request.fds[0], request.fds[1], request.fds[2]),
        string_map(request.args, "environment") or None,
        typed(request.args, "working_dir", str, "") or None,
        typed(request.args, "user", str, "") or None,
        typed(request.args, "tty", bool, False),
    )


def _running_container(opened: OpenProject, service: str) -> ContainerId:
    for row in opened.engine.statuses():
        if row.service == service:
            if row.pid is None or row.phase not in (Phase.RUNNING, Phase.STARTING, Phase.STOPPING):
                message = f"service {service!r} is not running: {row.phase.value}"
                raise OperationError(message, hint=f"`pystack why {service}` says why")
            return row.container
    raise InputError(f"project {opened.site.project} has no service {service!r}", hint="`pystack ps` lists its services")
