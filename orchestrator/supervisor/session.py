"""The verbs that last as long as a process: `exec`, and `attach` (docs/control-protocol.md, "Standard streams").

What the client says meanwhile is obeyed here: ``{"signal": N}``, and ``{"detach": true}`` of an exec. The process of an
exec lives in a task of the server's, not of the request's, so that it can outlive its client.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import aclosing, nullcontext, suppress

import trio

from orchestrator.contracts.control import Attach, Attached, Exec
from orchestrator.contracts.runtime import ExecSpec, Execution, Exit, Runtime, TtySink
from orchestrator.errors import InputError
from orchestrator.model.codec import to_json
from orchestrator.model.names import ContainerId
from orchestrator.supervisor.control import ProjectControl
from orchestrator.supervisor.terminal import terminal_for
from orchestrator.supervisor.wire import Connection, Disconnected, close_all

_READ_BYTES = 1 << 16
_SIGNALS = range(1, 65)


class _Job:
    """The process of an exec. `fds`: the client's, until it has been executed. `error`: what ended it, of any kind."""

    def __init__(self, fds: tuple[int, ...]) -> None:
        self.scope = trio.CancelScope()
        self.moved = trio.Event()
        """Set when it was executed, and when it is over."""
        self.over = trio.Event()
        self.process: Execution | None = None
        self.exit: Exit | None = None
        self.error: Exception | None = None
        self._fds = fds
        self._master = -1
        self._unread = trio.CancelScope()
        self._early: list[int] = []
        """Signals that came before it: what it wrote may be seen before we are told that it runs."""

    async def run(self, runtime: Runtime, container: ContainerId, spec: ExecSpec, on_tty: TtySink | None) -> None:
        """`on_tty`: for a `spec` with a terminal."""

        def take(master: int) -> None:
            assert on_tty is not None
            self._master = os.dup(master)
            on_tty(master)

        try:
            with self.scope:
                self.exit = await runtime.exec(container, spec, take, self._started)
        except Exception as exc:  # Of the request, which raises it, and not of the server.
            self.error = exc
        finally:
            self._unread.cancel()
            self._close()
            self.moved.set()
            self.over.set()

    def _started(self, process: Execution) -> None:
        self.process = process
        # The pipes' ends are the process's alone: it is told when its reader is gone, and the client when it stops reading.
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        for fd in self._fds:
            os.dup2(null, fd, inheritable=False)
        os.close(null)
        for number in self._early:
            process.signal(number)
        self.moved.set()

    def signal(self, number: int) -> None:
        if self.process is not None:
            self.process.signal(number)
        else:
            self._early.append(number)

    def release(self, nursery: trio.Nursery) -> None:
        """It goes on without its client. What it writes to its terminal is thrown away, so that it is not held up."""
        if self.process is not None:
            self.process.release()
            if self._master >= 0:
                nursery.start_soon(self._drain, self._master)

    async def _drain(self, master: int) -> None:
        with self._unread, suppress(OSError):
            while True:
                with suppress(BlockingIOError):
                    while os.read(master, _READ_BYTES):
                        pass
                await trio.lowlevel.wait_readable(master)

    def _close(self) -> None:
        if self._master >= 0:
            trio.lowlevel.notify_closing(self._master)
            os.close(self._master)
            self._master = -1


async def run_exec(
    runtime: Runtime,
    control: ProjectControl,
    connection: Connection,
    request: Exec,
    fds: tuple[int, ...],
    nursery: trio.Nursery,
) -> dict[str, int]:
    """Runs until the process ends; a client that closes its connection ends the process. `nursery`: what outlives the
    request."""
    spec = _spec(request, fds)
    container = control.running_container(request.service, request.index)
    job = _Job(fds)
    released = False

    def obey(word: str) -> bool:
        nonlocal released
        released = word == "detach" and job.process is not None
        return released

    async with terminal_for(connection) if request.tty else nullcontext() as on_tty:
        nursery.start_soon(job.run, runtime, container, spec, on_tty)
        over = job.moved if request.detach else job.over
        here = await _until(over, connection, job.signal, obey)
        if released or (request.detach and job.error is None and job.process is not None):
            job.release(nursery)
            return {"status": 0}
        if not here:
            job.scope.cancel()
            with trio.CancelScope(shield=True):  # It is killed: at once.
                await job.over.wait()
    if job.error is not None:
        raise job.error
    if job.exit is None:
        raise Disconnected
    return {"status": job.exit.status}


async def attach(
    runtime: Runtime, control: ProjectControl, connection: Connection, request: Attach
) -> dict[str, int]:
    """Until the run has ended and its log is whole. Nothing happens to it when the client leaves."""
    container = control.running_container(request.service, request.index)
    attached = await runtime.attach(container)
    fds = (attached.fd,) if attached.fd >= 0 else ()
    try:
        await connection.send({"event": to_json(Attached(container, attached.tty, attached.stdin))}, fds=fds)
    finally:
        close_all(fds)
    signals, outgoing = trio.open_memory_channel[int](16)
    over = trio.Event()
    exit_ = Exit()
    here = True
    async with trio.open_nursery() as nursery:

        async def end() -> None:
            nonlocal exit_
            exit_ = await runtime.wait(attached.run)
            over.set()

        async def pass_on() -> None:
            async for number in outgoing:
                await runtime.signal(container, number)

        def send(number: int) -> None:
            with suppress(trio.WouldBlock):
                signals.send_nowait(number)

        nursery.start_soon(end)
        nursery.start_soon(pass_on)
        here = await _until(over, connection, send, lambda word: False)
        nursery.cancel_scope.cancel()
    if not here:
        raise Disconnected
    return {"status": exit_.status}


async def _until(
    over: trio.Event, connection: Connection, on_signal: Callable[[int], object], obey: Callable[[str], bool]
) -> bool:
    """Until `over`, or until the client leaves (False), or says what `obey` ends the request for."""
    here = True
    async with trio.open_nursery() as nursery:

        async def listen() -> None:
            nonlocal here
            async with aclosing(connection.words()) as words:
                async for word in words:
                    number = word.get("signal")
                    if isinstance(number, int) and number in _SIGNALS:
                        on_signal(number)
                    if word.get("detach") is True and obey("detach"):
                        nursery.cancel_scope.cancel()
                        return
            here = False
            nursery.cancel_scope.cancel()

        nursery.start_soon(listen)
        await over.wait()
        nursery.cancel_scope.cancel()
    return here


def _spec(request: Exec, fds: tuple[int, ...]) -> ExecSpec:
    if not request.argv:
        raise InputError("exec needs a command", hint="pystack exec SERVICE COMMAND [ARG...]")
    stdio = None
    if not request.tty and not request.detach:
        if len(fds) != 3:
            raise InputError("exec without a terminal takes three pipes")
        stdio = fds[0], fds[1], fds[2]
    return ExecSpec(
        request.argv,
        stdio,
        request.environment or None,
        request.working_dir or None,
        request.user or None,
        request.tty,
        request.rows,
        request.columns,
        request.privileged,
    )
