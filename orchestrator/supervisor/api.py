"""The control API: the verbs of docs/control-protocol.md on a Unix socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import trio

from orchestrator import __version__
from orchestrator.contracts.site import Site
from orchestrator.errors import HostError, InputError, PystackError
from orchestrator.kernel.identity import is_trusted
from orchestrator.model.codec import to_json
from orchestrator.supervisor.arguments import services, typed
from orchestrator.supervisor.desk import Desk
from orchestrator.supervisor.session import run_exec
from orchestrator.supervisor.stream import Listener
from orchestrator.supervisor.wire import Connection, Disconnected, Request, close_all
from orchestrator.supervisor.wiring import OpenProject

HISTORY = 100
"""Events that `why` shows of a service at the most."""
FIRST_CLIENT_S = 10.0


def open_listener(site: Site) -> socket.socket:
    """The listening control socket. The caller holds the project's lock, so a socket file that is there is dead.

    Clients that connect from now on wait in its backlog until the supervisor has adopted what runs.
    """
    path = _socket_path(site)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with suppress(FileNotFoundError):
            os.unlink(path)
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen(128)
    except OSError as exc:
        listener.close()
        hint = "choose a shorter PYSTACK_RUN_DIR" if len(path) > 100 else None
        raise HostError(f"cannot listen on {path}: {exc.strerror or exc}", hint=hint) from exc
    return listener


class Server:
    """Answers clients until the supervisor has nothing left to do (`serve`)."""

    def __init__(self, opened: OpenProject, listener: socket.socket) -> None:
        self._opened = opened
        self._listener = trio.socket.from_stdlib_socket(listener)
        self._clients = 0
        self._awaiting_first = True
        self._changed = trio.Event()
        self._ending = False
        self._desk: Desk

    async def serve(self) -> None:
        """Returns after `down`, after `shutdown`, or when nothing runs or is wanted to and nobody is connected."""
        async with trio.open_nursery() as nursery, self._opened.stream.listen() as listener:
            self._desk = Desk(self._opened.site.project, nursery)
            nursery.start_soon(self._accept, nursery)
            nursery.start_soon(self._watch, listener)
            nursery.start_soon(self._expect_first_client)
            while not self._finished():
                await self._changed.wait()
                self._changed = trio.Event()
            # Whoever connects from now on is refused, and starts a new supervisor once this one's lock is free.
            with suppress(FileNotFoundError):
                os.unlink(_socket_path(self._opened.site))
            nursery.cancel_scope.cancel()
        self._listener.close()

    def _finished(self) -> bool:
        needed = self._awaiting_first or self._clients or self._desk.busy or self._opened.engine.running()
        return self._ending or not needed

    async def _expect_first_client(self) -> None:
        """Whoever started this supervisor connects as soon as it is ready, unless it was killed meanwhile."""
        await trio.sleep(FIRST_CLIENT_S)
        self._awaiting_first = False
        self._changed.set()

    async def _watch(self, listener: Listener) -> None:
        async for _event in listener.events:
            self._changed.set()

    async def _accept(self, nursery: trio.Nursery) -> None:
        while True:
            sock, _address = await self._listener.accept()
            nursery.start_soon(self._serve_client, sock)

    async def _serve_client(self, sock: trio.socket.SocketType) -> None:
        connection = Connection(sock)
        self._clients += 1
        self._awaiting_first = False
        try:
            if is_trusted(connection.uid):
                while True:
                    await self._serve_request(connection)
        except Disconnected:
            return
        finally:
            connection.close()
            self._clients -= 1
            self._changed.set()

    async def _serve_request(self, connection: Connection) -> None:
        request = Request("", {})
        reply: dict[str, Any]
        try:
            request = await connection.receive()
            if (verb := VERBS.get(request.verb)) is None:
                raise InputError(f"unknown verb {request.verb!r}")
            reply = {"ok": await verb(self, connection, request)}
        except PystackError as exc:
            reply = {"error": {"message": exc.message, "hint": exc.hint, "exit_code": exc.exit_code}}
        finally:
            close_all(request.fds)
        await connection.send(reply)
        # After the reply: ending cuts all connections.
        if request.verb == "shutdown" or (request.verb == "down" and not self._opened.engine.statuses()):
            self._ending = True
            self._changed.set()

    async def hello(self, connection: Connection, request: Request) -> Any:
        opened = self._opened
        about = {"version": __version__, "project": opened.site.project, "pid": os.getpid()}
        return about | {"monitor_pid": opened.runtime.monitor_pid, "boot_id": opened.boot_id, "since": opened.since}

    async def ps(self, connection: Connection, request: Request) -> Any:
        wanted = services(request.args)
        return [to_json(row) for row in self._opened.engine.statuses() if not wanted or row.service in wanted]

    async def why(self, connection: Connection, request: Request) -> Any:
        service = typed(request.args, "service", str, "")
        for row in self._opened.engine.statuses():
            if row.service == service:
                history = self._opened.log.tail(HISTORY, services=(service,))
                return {"status": to_json(row), "history": [to_json(event) for event in history]}
        raise InputError(
            f"project {self._opened.site.project} has no service {service!r}", hint="`pystack ps` lists its services"
        )

    async def plan(self, connection: Connection, request: Request) -> Any:
        plan = await self._opened.plan(typed(request.args, "verb", str, "up"), request.args)
        operations = [
            {"kind": item.kind.value, "service": item.service, "container": item.container, "cause": item.cause}
            for item in plan.operations
        ]
        return {"text": plan.render(), "operations": operations}

    async def shutdown(self, connection: Connection, request: Request) -> Any:
        return {}

    async def events(self, connection: Connection, request: Request) -> Any:
        """What was logged since then, and then what happens, until the client closes."""
        since = request.args.get("since")
        async with self._opened.stream.listen() as listener:
            if isinstance(since, int | float):
                for event in self._opened.log.since(since):
                    await connection.send({"event": to_json(event)})
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_forward, connection, listener, nursery.cancel_scope)
                await connection.wait_closed()
                nursery.cancel_scope.cancel()
        raise Disconnected

    async def exec(self, connection: Connection, request: Request) -> Any:
        return await run_exec(self._opened, connection, request)

    async def operate(self, connection: Connection, request: Request) -> Any:
        """Any operation: its events are streamed while it runs. It goes on when the client leaves."""
        work = partial(self._opened.operate, request.verb, request.args)
        interrupt = request.verb in ("stop", "kill") and typed(request.args, "interrupt", bool, False)
        result: Any = None
        error: PystackError | None = None
        async with self._opened.stream.listen() as listener, trio.open_nursery() as nursery:
            nursery.start_soon(_forward, connection, listener, nursery.cancel_scope)
            try:
                result = await self._desk.perform(
                    request.verb, connection.pid, work, interrupt=interrupt, gone=connection.gone
                )
            except PystackError as exc:
                error = exc
            listener.stop()  # `_forward` delivers what happened until now, and the nursery waits for that.
        if error is not None:
            raise error
        return result


async def _forward(connection: Connection, listener: Listener, scope: trio.CancelScope) -> None:
    """Send events until they end; a client that is gone ends `scope`, and the next use of the connection says so."""
    try:
        async for event in listener.events:
            await connection.send(*({"event": to_json(item)} for item in (event, *listener.more())))
    except Disconnected:
        scope.cancel()


def _socket_path(site: Site) -> str:
    return os.path.join(site.run_dir, "control.sock")


Verb = Callable[[Server, Connection, Request], Awaitable[Any]]
VERBS: Mapping[str, Verb] = {
    "hello": Server.hello,
    "ps": Server.ps,
    "why": Server.why,
    "plan": Server.plan,
    "events": Server.events,
    "exec": Server.exec,
    "shutdown": Server.shutdown,
} | dict.fromkeys(("up", "down", "start", "stop", "restart", "kill"), Server.operate)
