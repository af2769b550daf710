"""``post_start`` and ``pre_stop``: commands in a container that has started, or is to be stopped (docs/engine.md, "Hooks").

They belong to the run, not to the operation that began it: an `up` that is cancelled leaves them alone, a `stop` ends them.
"""

from __future__ import annotations

import os

import trio

from orchestrator.contracts.events import EventKind
from orchestrator.contracts.runtime import ExecSpec, Exit
from orchestrator.errors import CommandError, OperationError, PystackError
from orchestrator.model.hooks import Hook
from orchestrator.policy.exits import describe_exit
from orchestrator.scheduler.container import Container
from orchestrator.scheduler.engine_state import EngineState
from orchestrator.scheduler.faults import located
from orchestrator.scheduler.live_run import LiveRun
from orchestrator.units import format_duration

_ENDING_S = 1.0
"""In which a container that was ended is known to have; until then nobody can tell why a command in it failed."""
_PIECE_BYTES = 1 << 16
_PIECES_AT_ONCE = 16
_LAST_BYTES = 400


class Output:
    """What a hook writes, told as it comes, in whole lines while there are such; `last` is the last line that says
    something."""

    def __init__(self, container: Container, name: str) -> None:
        self._container = container
        self._name = name
        self._rest = b""
        self.last = ""

    def take(self, data: bytes) -> None:
        whole, newline, rest = (self._rest + data).rpartition(b"\n")
        self._rest = rest
        if newline:
            self._tell(whole)
        if len(self._rest) > _PIECE_BYTES:
            self.finish()

    def finish(self) -> None:
        """Also what has no newline."""
        rest, self._rest = self._rest, b""
        if rest:
            self._tell(rest)

    def _tell(self, data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        lines = [line for line in text.splitlines() if line.strip()]
        self.last = lines[-1].strip()[:_LAST_BYTES] if lines else self.last
        self._container.note(EventKind.HOOK_OUTPUT, text, hook=self._name)

    def after(self, what: str) -> str:
        """`what` happened, and the last that was said before."""
        return f"{what}: {self.last}" if self.last else what


def first_of(container: Container) -> str:
    """The ``post_start`` that a run begins with; "" for none."""
    return "post_start[0]" if container.definition.post_start else ""


async def post_start(state: EngineState, container: Container, run: LiveRun) -> None:
    """All of them, one after the other, unless the run is asked to end. The first that fails is the last; then nobody who
    needs the service is started, and it runs on, as with Docker Compose."""
    assert run.process is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_end_with, run, nursery.cancel_scope)
        for number, hook in enumerate(container.definition.post_start):
            run.hook = f"post_start[{number}]"
            await run.going.wait()
            if run.ending.is_set() or not await _run(state, container, run.hook, hook):
                break
        nursery.cancel_scope.cancel()
    run.hook = ""
    if run.ending.is_set():
        return
    container.amend(greeted=run.process.number)
    container.save()
    container.changed()
    if container.failed_hook is None and container.check is None:
        container.note(EventKind.SERVICE_READY, f"{container.label} is running")


async def pre_stop(state: EngineState, container: Container, run: LiveRun) -> None:
    """All of them, one after the other, for at most `run.hooks_s`. One that fails, or is not done by then, is told; the
    container is stopped in any case."""
    name, began_s = "", trio.current_time()
    with trio.CancelScope(deadline=began_s + run.hooks_s) as run.grace:
        for number, hook in enumerate(container.definition.pre_stop):
            name = f"pre_stop[{number}]"
            await _run(state, container, name, hook)
    over, run.grace = run.grace.cancelled_caught, None
    if over:
        took = format_duration(trio.current_time() - began_s)
        message = f"{name} of {container.label} was still running after {took}, and was killed"
        _fail(state, container, name, message, hint="a longer `stop_grace_period` gives it more time")


def cut_off(state: EngineState, container: Container, run: LiveRun, exit: Exit) -> None:
    """The run has ended. If it did by itself, and under the feet of a hook, that has failed."""
    name, run.hook = run.hook, ""
    if name and not run.ending.is_set():
        _fail(state, container, name, f"{name} of {container.label} was cut off: {container.label} {describe_exit(exit)}")


async def _end_with(run: LiveRun, scope: trio.CancelScope) -> None:
    await run.ending.wait()
    scope.cancel()


async def _run(state: EngineState, container: Container, name: str, hook: Hook) -> bool:
    """Whether it went well; what did not has been told."""
    about = f"{name} of {container.label}"
    container.note(EventKind.HOOK_STARTED, f"{about} begins", hook=name)
    output = Output(container, name)
    try:
        exit = await _execute(state, container, name, hook, output)
    except CommandError as error:
        _fail(state, container, name, f"{about}: {error.message}", error.hint, error.exit_code)
        return False
    except PystackError as error:
        # Did the container end? Then whoever waits for that cancels us, and says how.
        await trio.sleep(_ENDING_S)
        _fail(state, container, name, f"{about}: {error.message}", error.hint)
        return False
    if not exit.ok:
        # Docker Compose's words, and which one it was.
        message = output.after(f"{container.label} hook exited with status {exit.status} ({name})")
        _fail(state, container, name, message, status=exit.status)
    return exit.ok


def _fail(
    state: EngineState, container: Container, name: str, message: str, hint: str | None = None, status: int | None = None
) -> None:
    """For whoever waits for it, and for whoever watches."""
    error = located(OperationError(message, hint=hint), state.project, container.definition, name)
    if name.startswith("pre_stop"):
        container.failed_pre_stop = error
    else:  # Of the run's begin: nobody who stops it asked for that.
        container.failed_hook = error
    container.note(EventKind.HOOK_FAILED, message, hook=name, exit_status=status)
    container.changed()


async def _execute(state: EngineState, container: Container, name: str, hook: Hook, output: Output) -> Exit:
    """A hook of the kind that a supervisor before us has begun is ended; a ``pre_stop`` may begin while a ``post_start``
    is still being ended. Raises what `Runtime.exec` does."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(reader, False)
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    spec = ExecSpec(
        hook.command,
        (null, writer, writer),
        hook.environment,
        hook.working_dir,
        hook.user,
        privileged=hook.privileged,
        name=name.partition("[")[0].replace("_", ""),
    )
    ended: Exit | PystackError = Exit()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_follow, reader, output)
            try:
                ended = await state.adapters.runtime.exec(container.id, spec)
            except PystackError as error:
                ended = error  # Out of the nursery it would come as a group.
            nursery.cancel_scope.cancel()
    finally:
        os.close(null)
        os.close(writer)
        # What it left running may hold the other end for ever: what is there is all.
        _drain(reader, output)
        output.finish()
        os.close(reader)
    if isinstance(ended, PystackError):
        raise ended
    return ended


async def _follow(reader: int, output: Output) -> None:
    while True:
        await trio.lowlevel.wait_readable(reader)
        if not _drain(reader, output):
            return


def _drain(reader: int, output: Output) -> bool:
    """Whether more may come. Of who writes without end a piece at a time."""
    try:
        for _ in range(_PIECES_AT_ONCE):
            if not (data := os.read(reader, _PIECE_BYTES)):
                return False
            output.take(data)
    except BlockingIOError:
        pass
    return True
