"""A runtime in virtual time: containers that do what a FakeService says.

It checks its caller as it goes: a sandbox made without an intent on disk, a start before the sandbox or without its
network are AssertionErrors. Containers live on when the scheduler ends, so that another one can adopt them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from signal import SIGINT, SIGKILL, SIGTERM
from typing import Any

import trio

from orchestrator.contracts.runtime import (
    Attachment,
    ContainerState,
    ExecSink,
    ExecSpec,
    Exit,
    FirstProcess,
    GeneratedFile,
    OciConfig,
    Run,
    SandboxSpec,
    TtySink,
)
from orchestrator.errors import EXIT_NOT_FOUND, CommandError, OperationError, PystackError
from orchestrator.model.health import Look, ProbeResult
from orchestrator.model.names import ContainerId
from orchestrator.oci.namespaces import own_namespaces
from orchestrator.testing.fake_programs import COMMANDS, Act, is_at_end, look_in_time, run_command
from orchestrator.values import entity, field, frozen, replace

EPOCH = 1_700_000_000.0
"""Virtual time 0 as seconds since the epoch."""
STOP_SIGNALS = frozenset({int(SIGTERM), int(SIGINT)})


@frozen
class FakeService:
    """How a fake container behaves. Seconds count from the start of each run.

    `boot_s`: how long `start` takes. `healthy_after_s`: probes fail before, and looks see nothing. `ill_after_s`: for run
    1, 2, ... the time from which on probes fail (None: they do not); later runs stay well. `exits_after_s`: it ends then,
    with `exit_code`, or by `exit_signal`, or (`oom`) by the OOM killer; None: it runs until stopped. `crashes`: run 1, 2,
    ... ends after that time with code 1; later runs do as `exits_after_s` says. `stops_after_s`: from the stop signal to
    the end. `unkillable`: no signal ends it (it is stuck in the kernel). `probe_s`: how long a probe takes.
    `create_s`: how long `create` takes. `create_error`, `start_error`: raised by these.
    `reads_stdin`: it ends at once, with `exit_code`, where its stdin is at its end when it is started.
    `start_errors`: the first so many starts are refused with `start_error`; None: all are.
    """

    boot_s: float = 0.0
    healthy_after_s: float = 0.0
    ill_after_s: Sequence[float | None] = ()
    exits_after_s: float | None = None
    exit_code: int = 0
    exit_signal: int | None = None
    oom: bool = False
    crashes: Sequence[float] = ()
    ignores_sigterm: bool = False
    unkillable: bool = False
    stops_after_s: float = 0.0
    probe_s: float = 0.0
    create_s: float = 0.0
    create_error: PystackError | None = None
    start_error: PystackError | None = None
    start_errors: int | None = None
    reads_stdin: bool = False

    def end_of(self, number: int) -> tuple[float, Exit]:
        """When run `number` ends by itself, and how."""
        if number <= len(self.crashes):
            return self.crashes[number - 1], Exit(code=1)
        if self.exits_after_s is None:
            return math.inf, Exit()
        if self.oom:
            return self.exits_after_s, Exit(signal=int(SIGKILL), oom_killed=True)
        if self.exit_signal is not None:
            return self.exits_after_s, Exit(signal=self.exit_signal)
        return self.exits_after_s, Exit(code=self.exit_code)

    def well(self, number: int, age_s: float) -> bool:
        ill_s = self.ill_after_s[number - 1] if number <= len(self.ill_after_s) else None
        return age_s >= self.healthy_after_s and (ill_s is None or age_s < ill_s)


@entity
class _FakeRun:
    run: Run
    begun_s: float
    end_s: float
    exit: Exit
    left_s: float | None = None
    """While it is paused: how long it goes on afterwards."""
    waiting: list[tuple[float, Exit]] = field(default_factory=list)
    """Ends that signals will bring about then, so long after it."""
    moved: trio.Event = field(default_factory=trio.Event)
    inside: list[_FakeRun] = field(default_factory=list)
    """Those that are in its PID namespace."""

    @property
    def over(self) -> bool:
        return trio.current_time() >= self.end_s

    def end_at(self, at_s: float, exit: Exit) -> None:
        if at_s < self.end_s:
            self.end_s, self.exit = at_s, exit
            self.moved.set()
            self.moved = trio.Event()
            for other in self.inside:
                other.end_at(at_s, Exit(signal=int(SIGKILL)))

    def pause(self) -> None:
        if self.left_s is None:
            self.left_s, self.end_s = self.end_s - trio.current_time(), math.inf

    def resume(self) -> None:
        if self.left_s is not None:
            self.end_s, self.left_s = trio.current_time() + self.left_s, None
            self.moved.set()
            self.moved = trio.Event()
            for after_s, exit in self.waiting:
                self.end_at(trio.current_time() + after_s, exit)
            self.waiting.clear()

    def ended(self) -> Exit:
        return Exit(self.exit.code, self.exit.signal, self.exit.oom_killed, EPOCH + self.end_s)


@entity
class _FakeContainer:
    spec: SandboxSpec
    netns_fd: int
    runs: list[_FakeRun] = field(default_factory=list)
    refused: int = 0
    paused: bool = False
    prepared: bool = False

    @property
    def live(self) -> _FakeRun | None:
        return self.runs[-1] if self.runs and not self.runs[-1].over else None


class FakeRuntime:
    """`contracts.runtime.Runtime`. `behaviours`: by container; `otherwise`: how one that is not in there behaves.
    `recorded`: whether a container's intent is on disk; `attached`: whether it is on its networks."""

    def __init__(
        self,
        behaviours: Mapping[ContainerId, FakeService],
        *,
        otherwise: Callable[[ContainerId], FakeService] = lambda _container: FakeService(),
        recorded: Callable[[ContainerId], bool] = lambda _container: True,
        attached: Callable[[ContainerId], bool] = lambda _container: True,
    ) -> None:
        self.behaviours = dict(behaviours)
        self.acts: list[Act] = []
        self._otherwise = otherwise
        self._recorded = recorded
        self._attached = attached
        self._containers: dict[ContainerId, _FakeContainer] = {}
        self._last_fd = 1000
        self.tell_unlogged: Callable[[ContainerId, int, str], None] = lambda container, count, why: None
        self._pids = 100

    async def create(self, spec: SandboxSpec) -> int:
        container = spec.container
        assert self._recorded(container), f"{container} is made without an intent on disk"
        behaviour = self._behaviour(container)
        await _pass(behaviour.create_s)
        if behaviour.create_error is not None:
            raise behaviour.create_error
        for name in spec.shares.values():
            if name not in self._containers:
                raise OperationError(f'there is no container "{name}"')
        found = self._containers.get(container)
        if found is not None:
            found.spec, found.prepared = spec, False
            return found.netns_fd
        self._act("create", container)
        owner = spec.shares.get("network")
        if owner is None:
            self._last_fd += 1
        self._containers[container] = _FakeContainer(
            spec, self._last_fd if owner is None else self._containers[owner].netns_fd
        )
        return self._containers[container].netns_fd

    def prepared(self) -> list[ContainerId]:
        """Whose next run is prepared."""
        return [container for container, found in self._containers.items() if found.prepared]

    async def prepare(self, container: ContainerId) -> None:
        await trio.lowlevel.checkpoint()
        found = self._containers[container]
        assert not found.paused, f"{container} is prepared in a group that stands still"
        found.prepared = True

    async def unprepare(self, container: ContainerId) -> None:
        await trio.lowlevel.checkpoint()
        if (found := self._containers.get(container)) is not None:
            found.prepared = False

    async def start(
        self,
        container: ContainerId,
        *,
        stdin: int | None = None,
        on_tty: TtySink | None = None,
        size: tuple[int, int] = (0, 0),
    ) -> Run:
        assert stdin is None or on_tty is None, "a terminal is its own stdin"
        found = self._containers.get(container)
        assert found is not None, f"{container} is started before it is made"
        own = "network" in own_namespaces(found.spec.config) and "network" not in found.spec.shares
        assert not own or self._attached(container), f"{container} is started before it is on its networks"
        if found.live is not None:
            raise OperationError(f"{container} runs already")
        assert not found.paused, f"{container} is started in a group that stands still"
        behaviour = self._behaviour(container)
        await _pass(behaviour.boot_s)
        if behaviour.start_error is not None and (behaviour.start_errors is None or found.refused < behaviour.start_errors):
            found.refused += 1
            raise behaviour.start_error
        for kind, owner in found.spec.shares.items():
            if kind != "network" and self._live(owner) is None:
                raise OperationError(f"{owner}, whose namespaces {container} is in, does not run")
        self._pids += 1
        now = trio.current_time()
        run = Run(container, len(found.runs) + 1, self._pids, EPOCH + now)
        lasts_s, exit = behaviour.end_of(run.number)
        if behaviour.reads_stdin and on_tty is None and not found.spec.stdin_open and is_at_end(stdin):
            lasts_s, exit = 0.0, Exit(code=behaviour.exit_code)
        found.runs.append(_FakeRun(run, now, now + lasts_s, exit))
        found.prepared = False
        leader = self._live(found.spec.shares.get("pid", ContainerId("")))
        if leader is not None:
            leader.inside.append(found.runs[-1])
            found.runs[-1].end_at(leader.end_s, Exit(signal=int(SIGKILL)))
        self._act("start", container)
        if on_tty is not None:
            # Nothing is written to it, and nothing reads it.
            master, slave = os.openpty()
            os.close(slave)
            on_tty(master)
        return run

    async def attach(self, container: ContainerId) -> Attachment:
        """Nobody reads what is written."""
        await trio.lowlevel.checkpoint()
        if (live := self._live(container)) is None:
            raise OperationError(f"{container} does not run")
        spec = self._containers[container].spec
        tty = bool((spec.config.get("process") or {}).get("terminal"))
        fd = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC) if tty or spec.stdin_open else -1
        return Attachment(live.run, fd, tty, spec.stdin_open)

    async def wait(self, run: Run) -> Exit:
        found = self._containers[run.container].runs[run.number - 1]
        while not found.over:
            with trio.move_on_at(found.end_s):
                await found.moved.wait()
        await trio.lowlevel.checkpoint()
        return found.ended()

    async def signal(self, container: ContainerId, number: int) -> None:
        await trio.lowlevel.checkpoint()
        self._act(f"signal {number}", container)
        behaviour = self._behaviour(container)
        if (live := self._live(container)) is None or behaviour.unkillable:
            return
        if number == SIGKILL:
            live.end_at(trio.current_time(), Exit(signal=number))
        elif number in STOP_SIGNALS and not behaviour.ignores_sigterm:
            if live.left_s is not None:
                live.waiting.append((behaviour.stops_after_s, Exit(signal=number)))
            else:
                live.end_at(trio.current_time() + behaviour.stops_after_s, Exit(signal=number))

    async def first_process(self, container: ContainerId) -> FirstProcess | None:
        await trio.lowlevel.checkpoint()
        if self._live(container) is None:
            return None
        behaviour = self._behaviour(container)
        handled = frozenset() if behaviour.ignores_sigterm or behaviour.unkillable else STOP_SIGNALS
        return FirstProcess("sh", 1, handled)

    async def kill(self, container: ContainerId) -> None:
        await trio.lowlevel.checkpoint()
        self._act("kill", container)
        if (live := self._live(container)) is not None and not self._behaviour(container).unkillable:
            live.end_at(trio.current_time(), Exit(signal=int(SIGKILL)))

    async def pause(self, container: ContainerId) -> None:
        await trio.lowlevel.checkpoint()
        if (live := self._live(container)) is None:
            raise OperationError(f"{container} does not run")
        self._act("pause", container)
        self._containers[container].paused = True
        live.pause()

    async def resume(self, container: ContainerId) -> None:
        await trio.lowlevel.checkpoint()
        self._act("resume", container)
        if (found := self._containers.get(container)) is not None:
            found.paused = False
            if found.live is not None:
                found.live.resume()

    async def exhaust(self, container: ContainerId) -> None:
        await trio.lowlevel.checkpoint()
        if (live := self._live(container)) is None:
            raise OperationError(f"{container} does not run")
        self._act("exhaust", container)
        live.end_at(trio.current_time(), Exit(signal=int(SIGKILL), oom_killed=True))

    async def probe(self, container: ContainerId, argv: Sequence[str], timeout_s: float) -> ProbeResult:
        assert argv, "a probe without a command"
        if argv[0] in COMMANDS:
            return await run_command(argv, timeout_s)
        live = self._live(container)
        if live is None:
            await trio.lowlevel.checkpoint()
            return ProbeResult(126, "not running", 0.0)
        behaviour = self._behaviour(container)
        if behaviour.probe_s > timeout_s or live.left_s is not None:
            await trio.sleep(timeout_s)
            return ProbeResult(None, "", timeout_s)
        await _pass(behaviour.probe_s)
        well = behaviour.well(live.run.number, trio.current_time() - live.begun_s)
        return ProbeResult(0, "ok", behaviour.probe_s) if well else ProbeResult(1, "not well", behaviour.probe_s)

    async def look(self, container: ContainerId, wanted: Look, timeout_s: float) -> ProbeResult:
        await trio.lowlevel.checkpoint()
        if (live := self._live(container)) is None:
            raise OperationError(f"{container} does not run")
        if not wanted.once:
            return await self.probe(container, (str(wanted),), timeout_s)
        return await look_in_time(wanted, live.begun_s + self._behaviour(container).healthy_after_s, timeout_s)

    async def exec(
        self, container: ContainerId, spec: ExecSpec, on_tty: TtySink | None = None, on_start: ExecSink | None = None
    ) -> Exit:
        await trio.lowlevel.checkpoint()
        if (live := self._live(container)) is None:
            raise OperationError(f"{container} does not run")
        self._act(f"exec {' '.join(spec.argv)}", container)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_over, live, scope)
                result = await run_command(spec.argv, math.inf)
                nursery.cancel_scope.cancel()
        if scope.cancelled_caught:
            raise OperationError(f"{container} ended", exit_code=137)
        if result.exit_code == EXIT_NOT_FOUND:
            raise CommandError(result.output, exit_code=EXIT_NOT_FOUND)
        if spec.stdio is not None and result.output:
            os.write(spec.stdio[1], result.output.encode())
        return Exit(code=result.exit_code, finished_at=EPOCH + trio.current_time())

    async def update(self, container: ContainerId, resources: Mapping[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        found = self._existing(container)
        self._act("update", container)
        linux = {**(found.spec.config.get("linux") or {}), "resources": dict(resources)}
        found.spec = replace(found.spec, config=OciConfig({**found.spec.config, "linux": linux}))

    async def renew_files(self, container: ContainerId, files: Sequence[GeneratedFile]) -> None:
        await trio.lowlevel.checkpoint()
        found = self._existing(container)
        self._act("renew files", container)
        new = {file.path: file for file in files}
        found.spec = replace(found.spec, files=tuple(new.get(file.path, file) for file in found.spec.files))

    async def remove(self, container: ContainerId) -> None:
        await trio.lowlevel.checkpoint()
        self._act("remove", container)
        found = self._containers.pop(container, None)
        if found is not None and found.live is not None:
            found.live.end_at(trio.current_time(), Exit(signal=int(SIGKILL)))

    def on_unlogged(self, tell: Callable[[ContainerId, int, str], None]) -> None:
        self.tell_unlogged = tell

    async def containers(self) -> tuple[ContainerState, ...]:
        await trio.lowlevel.checkpoint()
        states = []
        for container, found in sorted(self._containers.items()):
            over = [run for run in found.runs if run.over]
            live = found.live
            states.append(
                ContainerState(
                    container,
                    live.run if live is not None else None,
                    len(found.runs),
                    over[-1].ended() if over else None,
                )
            )
        return tuple(states)

    def plant(self, container: ContainerId) -> None:
        """A sandbox that nobody has recorded: what a killed operation leaves."""
        self._last_fd += 1
        self._containers[container] = _FakeContainer(SandboxSpec(container, (), OciConfig({})), self._last_fd)

    def reboot(self) -> None:
        """Every container and sandbox is gone."""
        for found in self._containers.values():
            if found.live is not None:
                found.live.end_at(trio.current_time(), Exit())
        self._containers.clear()

    def alive(self) -> tuple[ContainerId, ...]:
        """What runs, sorted."""
        return tuple(sorted(container for container, found in self._containers.items() if found.live is not None))

    def existing(self) -> tuple[ContainerId, ...]:
        return tuple(sorted(self._containers))

    def _live(self, container: ContainerId) -> _FakeRun | None:
        return found.live if (found := self._containers.get(container)) is not None else None

    def _existing(self, container: ContainerId) -> _FakeContainer:
        if (found := self._containers.get(container)) is None:
            raise OperationError(f"container {container} does not exist")
        return found

    def _behaviour(self, container: ContainerId) -> FakeService:
        return self.behaviours.get(container) or self._otherwise(container)

    def _act(self, what: str, container: ContainerId) -> None:
        self.acts.append(Act(trio.current_time(), what, container))


async def _until_over(run: _FakeRun, scope: trio.CancelScope) -> None:
    while not run.over:
        with trio.move_on_at(run.end_s):
            await run.moved.wait()
    scope.cancel()


async def _pass(seconds: float) -> None:
    await trio.sleep(max(0.0, seconds))
