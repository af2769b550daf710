"""The control socket as a front of `ProjectControl` (docs/control-protocol.md).

Each request is acknowledged as soon as it is read, and worked on in its client's own task, with a beat every few seconds.
Clients are let in before what runs is adopted (`accept`) and answered afterwards (`serve`). Whatever goes wrong in a
request, a bug included, answers that request and ends nothing else.
"""

from __future__ import annotations

import os
import resource
import socket
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Any

import trio

from orchestrator.contracts.control import VERBS, Apply, Attach, Done, Events, Exec, Operation, Run
from orchestrator.contracts.protocol import BEAT_S, UNTIMED, VERSION
from orchestrator.contracts.site import Site
from orchestrator.errors import InputError, PystackError
from orchestrator.kernel.identity import is_trusted
from orchestrator.model.codec import from_json, to_json
from orchestrator.runtime.stdio import is_pipe
from orchestrator.scheduler.stdio import FirstRun
from orchestrator.supervisor.control import ProjectControl
from orchestrator.supervisor.door import Door, refuse, socket_path
from orchestrator.supervisor.faults import error_of, fault_of
from orchestrator.supervisor.session import attach, run_exec
from orchestrator.supervisor.stream import Listener
from orchestrator.supervisor.terminal import terminal_for
from orchestrator.supervisor.wire import Connection, Disconnected, Request, close_all
from orchestrator.supervisor.wiring import OpenProject

FIRST_CLIENT_S = 10.0
LEAST_CLIENTS = 16
DESCRIPTORS: Mapping[str, frozenset[int]] = {"exec": frozenset({0, 3}), "run": frozenset({0, 1})}
"""How many descriptors come with a verb; with all others none, and those that come uninvited are closed."""


class Server:
    """Answers clients until the supervisor has nothing left to do."""

    def __init__(self, site: Site, listener: socket.socket) -> None:
        self._site = site
        self._door = Door(listener)
        self._clients: dict[Connection, trio.CancelScope] = {}
        self._idle: dict[Connection, None] = {}
        """Those without a request, the longest idle first."""
        self._readers: dict[Connection, list[FirstRun]] = {}
        """What a client has run in the foreground."""
        self._waiting: set[Connection] = set()
        """Those that are told in between that their request is worked on."""
        self._beating = False
        self._awaiting_first = True
        self._changed = trio.Event()
        self._ending = False
        self._open = trio.Event()
        self._accepting = trio.CancelScope()
        self._opened: OpenProject
        self._control: ProjectControl
        self._nursery: trio.Nursery

    async def accept(self) -> None:
        """Let clients in, until `serve` ends. Their requests are acknowledged, and wait for `serve` to begin."""
        try:
            with self._accepting:
                async with trio.open_nursery() as nursery:
                    while True:
                        sock = await self._door.accept()
                        if self._has_room():
                            nursery.start_soon(self._serve_client, sock, nursery)
                        else:
                            full = f"the supervisor has {len(self._clients)} clients at work, as many as it can serve"
                            refuse(sock, full)
        finally:
            self._door.close()

    async def serve(self, opened: OpenProject) -> None:
        """Returns after `down`, after `shutdown`, or when nothing runs or is wanted to and nobody is connected."""
        async with trio.open_nursery() as nursery, opened.stream.listen() as listener:
            self._opened, self._control, self._nursery = opened, ProjectControl(opened, nursery), nursery
            self._open.set()
            nursery.start_soon(self._watch, listener)
            nursery.start_soon(self._expect_first_client)
            while not self._finished():
                await self._changed.wait()
                self._changed = trio.Event()
            # Whoever connects from now on is refused, and starts a new supervisor once this one's lock is free. That also
            # holds for one who has been let in already, and whose task has not begun: it must not hear a first answer.
            self._ending = True
            with suppress(FileNotFoundError):
                os.unlink(socket_path(self._site))
            self._accepting.cancel()
            nursery.cancel_scope.cancel()

    def _finished(self) -> bool:
        return self._ending or not (self._awaiting_first or self._clients or self._control.needed)

    def _has_room(self) -> bool:
        """Whether one more can be served; the client that has been idle for longest makes room for it."""
        if len(self._clients) < capacity():
            return True
        if self._idle:
            oldest = next(iter(self._idle))
            del self._idle[oldest]
            self._clients[oldest].cancel()
            return True
        return False

    async def _expect_first_client(self) -> None:
        """Whoever started this supervisor connects as soon as it is ready, unless it was killed meanwhile."""
        await trio.sleep(FIRST_CLIENT_S)
        self._awaiting_first = False
        self._changed.set()

    async def _watch(self, listener: Listener) -> None:
        async with aclosing(listener.bursts()) as bursts:
            async for _burst in bursts:
                self._changed.set()

    async def _beat(self, nursery: trio.Nursery) -> None:
        """Signs of life for all who wait for an answer, as long as there are any: one task for all of them."""
        while self._waiting:
            await trio.sleep(BEAT_S)
            for connection in self._waiting:
                nursery.start_soon(connection.beat)
        self._beating = False

    async def _serve_client(self, sock: socket.socket, nursery: trio.Nursery) -> None:
        if self._ending:
            sock.close()
            return
        with trio.CancelScope() as scope:
            connection = Connection(sock)
            self._clients[connection] = scope
            self._awaiting_first = False
            try:
                while is_trusted(connection.uid):
                    await self._serve_request(connection, nursery)
            except Disconnected:
                pass
            except Exception as exc:
                traceback.print_exception(exc)
            finally:
                connection.close()
                for first in self._readers.pop(connection, ()):
                    self._control.done_reading(first)
                del self._clients[connection]
                self._idle.pop(connection, None)
                self._changed.set()

    async def _serve_request(self, connection: Connection, nursery: trio.Nursery) -> None:
        self._idle[connection] = None
        try:
            request = await connection.receive()
        except PystackError as exc:
            await connection.send({"v": VERSION, "error": to_json(fault_of(exc))})
            return
        finally:
            self._idle.pop(connection, None)
        try:
            await connection.send({"v": VERSION, "ack": True})
            reply = await self._reply(connection, request, nursery)
            await connection.send(reply)
        finally:
            close_all(request.fds)
            # After the reply: ending cuts all connections.
            if request.verb in ("down", "apply", "shutdown") and self._open.is_set() and self._control.ended:
                self._ending = True
                self._changed.set()

    async def _reply(self, connection: Connection, request: Request, nursery: trio.Nursery) -> Mapping[str, Any]:
        """What ends the request. `nursery`: for what is not the request's alone. Raises Disconnected."""
        try:
            if request.verb not in UNTIMED:
                self._waiting.add(connection)
                if not self._beating:
                    self._beating = True
                    nursery.start_soon(self._beat, nursery)
            reply = await self._outcome(connection, request)
        finally:
            self._waiting.discard(connection)
        if reply is None:
            raise Disconnected
        return reply

    async def _outcome(self, connection: Connection, request: Request) -> Mapping[str, Any] | None:
        """None: the client has left."""
        try:
            return {"ok": to_json(await self._answer(connection, request))}
        except Exception as exc:
            return None if _has_left(exc) else {"error": to_json(fault_of(error_of(request.verb, exc)))}

    async def _answer(self, connection: Connection, request: Request) -> Any:
        if request.verb not in VERBS:
            raise InputError(f"unknown verb {request.verb!r}")
        wanted = DESCRIPTORS.get(request.verb)
        if wanted is not None and len(request.fds) not in wanted:
            raise InputError(
                f"{request.verb} takes {' or '.join(map(str, sorted(wanted)))} descriptors, not {len(request.fds)}"
            )
        try:
            value: Any = from_json(VERBS[request.verb], request.args, request.verb)
        except ValueError as exc:
            raise InputError(str(exc)) from exc
        if not self._open.is_set():
            await self._open.wait()
        if not all(map(is_pipe, request.fds if wanted else ())):
            raise InputError(
                f"{request.verb} takes pipes, not descriptors of the caller's own",
                hint="use the pystack that brought this project up last",
            )
        if isinstance(value, Exec):
            return await run_exec(self._opened.runtime, self._control, connection, value, request.fds, self._nursery)
        if isinstance(value, Attach):
            return await attach(self._opened.runtime, self._control, connection, value)
        if isinstance(value, Events):
            return await self._stream(connection, value)
        if isinstance(value, Operation | Apply):
            return await self._operate(connection, value, request)
        answer: Callable[[Any], Awaitable[Any]] = getattr(self._control, request.verb)
        return await answer(value)

    async def _stream(self, connection: Connection, request: Events) -> None:
        """Until the client closes, or without `follow` the end of the log. Raises Disconnected."""
        whole = False
        async with trio.open_nursery() as nursery:

            async def leave_with_client() -> None:
                await connection.wait_closed()
                nursery.cancel_scope.cancel()

            nursery.start_soon(leave_with_client)
            async with aclosing(self._control.events(request)) as events:
                async for event in events:
                    await connection.send({"event": to_json(event)})
            whole = not request.follow  # Or it has fallen too far behind.
            nursery.cancel_scope.cancel()
        if not whole:
            raise Disconnected
        return None

    async def _operate(self, connection: Connection, request: Operation | Apply, raw: Request) -> Any:
        """Any operation: its events are streamed while it runs. It goes on when the client leaves."""
        result: Done | None = None
        error: PystackError | None = None
        async with self._opened.stream.listen() as listener, trio.open_nursery() as nursery:
            nursery.start_soon(_forward, connection, listener, nursery.cancel_scope)
            try:
                if isinstance(request, Run):
                    result = await self._run(connection, request, raw)
                elif isinstance(request, Apply):
                    result = await self._control.apply(request)
                else:
                    result = await self._control.operate(request)
            except PystackError as exc:
                error = exc
            listener.stop()  # `_forward` delivers what happened until now, and the nursery waits for that.
        if error is not None:
            raise error
        return result

    async def _run(self, connection: Connection, request: Run, raw: Request) -> Done:
        """A one-off: its standard input comes with the request, its terminal goes with an event. With ``remove`` it stays
        until the connection ends, so that the client can read all that it wrote."""
        stdin = os.dup(raw.fds[0]) if request.interactive and raw.fds else None
        first = FirstRun(stdin, reading=not request.detach)
        self._readers.setdefault(connection, []).append(first)
        done: Done | None = None
        error: PystackError | None = None
        async with terminal_for(connection) as on_tty:
            first.on_tty, first.size = on_tty if request.tty else None, (request.rows, request.columns)
            try:
                done = await self._control.operate(request, first)
            except PystackError as exc:  # Not through the nursery: in a group it would not be known again.
                error = exc
        if done is None:
            raise error or Disconnected
        return done


async def _forward(connection: Connection, listener: Listener, scope: trio.CancelScope) -> None:
    """Send events until they end; a client that is gone ends `scope`, and the next use of the connection says so."""
    try:
        async with aclosing(listener.bursts()) as bursts:
            async for burst in bursts:
                data = b"".join(b'{"event": %s}\n' % told.text for told in burst)
                if listener.stopped:
                    connection.hold(data)  # The answer is next.
                else:
                    await connection.send_lines(data)
    except Disconnected:
        scope.cancel()


def _has_left(exc: Exception) -> bool:
    """Whether `exc` says that the client is gone and nothing else; nurseries wrap even that."""
    if isinstance(exc, ExceptionGroup):
        return exc.split(Disconnected)[1] is None
    return isinstance(exc, Disconnected)


def capacity() -> int:
    """How many clients at once: half of the descriptors, the other half is for containers."""
    return max(LEAST_CLIENTS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
