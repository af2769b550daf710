"""The runtime of one project (`contracts.runtime.Runtime`), by way of its monitor. docs/runtime.md tells the story.

This file decides what is asked of the monitor and of the cgroups, in which order; `session` keeps what survives a killed
monitor, `sandbox` what belongs to one container, `processes` runs execs and
probes, `programs` says what a container's processes do before their execve.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from orchestrator.contracts.host import Host
from orchestrator.contracts.refusals import refusing
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
from orchestrator.contracts.site import Site
from orchestrator.errors import CommandError, HostError, OperationError, PystackError
from orchestrator.kernel import fdpass
from orchestrator.kernel import pidfd as pidfds
from orchestrator.model.health import Look, ProbeResult
from orchestrator.model.names import ContainerId, cgroup_path
from orchestrator.oci.namespaces import own_namespaces
from orchestrator.oci.validate import validate
from orchestrator.runtime import bundle, freezing
from orchestrator.runtime.adopting import Adopting
from orchestrator.runtime.cgroup_parents import parents_made, remove_parents
from orchestrator.runtime.cgroups import ContainerCgroup, open_existing
from orchestrator.runtime.ends import Ends
from orchestrator.runtime.exec import Output
from orchestrator.runtime.first_process import first_process
from orchestrator.runtime.history import History, exit_of
from orchestrator.runtime.link import MonitorLost
from orchestrator.runtime.live_files import with_contents, write_anew
from orchestrator.runtime.owners import asked_owners
from orchestrator.runtime.processes import END_S, is_ending, run_process
from orchestrator.runtime.programs import layer_paths
from orchestrator.runtime.propagation import check_propagation
from orchestrator.runtime.rootfs import fill_volume
from orchestrator.runtime.sandbox import Sandbox
from orchestrator.runtime.session import Session
from orchestrator.runtime.sharing import check_shares, network_of, with_shared_files
from orchestrator.runtime.shortage import Shortages
from orchestrator.runtime.starts import BornKilled, Starts, end_leftovers
from orchestrator.runtime.stdio import Terminal, closing, written_anew
from orchestrator.values import replace

if TYPE_CHECKING:
    from orchestrator.runtime.looking import Looks

_START_TRIES = 3


@asynccontextmanager
async def open_runtime(
    site: Site, host: Host, *, respawn_argv: tuple[str, ...] | None = None
) -> AsyncIterator[MonitorRuntime]:
    """The runtime of `site` on `host`. Connects to the monitor that runs, or starts one. `respawn_argv`: what the monitor
    executes when this process is killed while containers run. Raises HostError."""
    Adopting.begin()
    # A container costs about six descriptors here; the usual soft limit is 1,024.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    bundle.prepare_site(site)
    async with trio.open_nursery() as nursery:
        session = Session(site, respawn_argv, nursery)
        runtime = MonitorRuntime(site, host, session)
        try:
            await session.open()
            runtime.ends.complete_last()
            yield runtime
        finally:
            await runtime.leave()
            await session.close()
            runtime.close()
            Adopting.end()
            nursery.cancel_scope.cancel()


@refusing(create="make the sandbox of", start="start", attach="attach to", kill="kill", pause="pause", resume="resume",
          exhaust="use up the memory of", probe="probe", look="look at", exec="run a process in", update="update",
          renew_files="renew the files of", remove="remove")  # fmt: skip
class MonitorRuntime:
    def __init__(self, site: Site, host: Host, session: Session) -> None:
        self._site = site
        self._host = host
        self._session = session
        self._layout = host.cgroups
        self._sandboxes: dict[ContainerId, Sandbox] = {}
        self._begun: list[SandboxSpec] = []
        """Whose layers are being asked for."""
        self._generation = 0
        self._shortages = Shortages(site, self._layout)
        self._looks: Looks | None = None
        self.ends = Ends(site, self._layout, session, self._sandboxes)
        self._starts = Starts(site, session, self.ends)
        session.completed = self.ends.completed
        session.outlives = self.ends.kill_outliving

    @property
    def monitor_pid(self) -> int:
        return self._session.monitor_pid

    async def keep(self, name: str, fds: Sequence[int]) -> None:
        """Let the monitor keep duplicates of `fds`, for a supervisor to come. Replaces what was kept under `name`."""
        await self._session.keep(name, fds)

    async def fetch(self, name: str) -> tuple[int, ...]:
        """What is kept under `name`; nothing: an empty tuple. The descriptors stay the runtime's: dup what you close."""
        return self._session.fetch(name)

    async def drop(self, name: str) -> None:
        await self._session.drop(name)

    async def leave(self) -> None:
        await self._starts.leave()

    def close(self) -> None:
        for sandbox in self._sandboxes.values():
            sandbox.close()

    # Sandboxes.

    async def create(self, spec: SandboxSpec) -> int:
        container = spec.container
        validate(spec.config, self._site.ids, cgroup_path(self._site.key, container))
        check_shares(self._site, spec)
        asked_owners(spec.config)
        await self._starts.give_up(container)
        spec = bundle.with_kept_files(self._site, with_shared_files(self._site, spec))
        existed = bundle.write_bundle(self._site, spec)
        bundle.make_bind_sources(spec)
        running = container in self._session.active
        cgroup = self._open_cgroup(spec)
        try:
            if existed and not running and cgroup.populated():
                await end_leftovers(cgroup)
            for fill in spec.fills:
                await trio.to_thread.run_sync(fill_volume, fill, spec.lowers)
            check_propagation(spec)
            bundle.limit_storage(self._site, spec)
            netns = await network_of(self._session, self._site, spec)
            layers = await self._layers(spec)
        except OSError as exc:
            cgroup.close()
            raise HostError(f"cannot make the sandbox of {container}: {exc.strerror}") from exc
        except BaseException:
            cgroup.close()
            raise
        old = self._sandboxes.pop(container, None)
        if old is not None:
            old.close()
        self._sandboxes[container] = Sandbox(self._site, self._host, spec, cgroup, layers)
        return netns

    async def _layers(self, spec: SandboxSpec) -> tuple[int, ...]:
        self._begun.append(spec)  # Or a container that goes meanwhile would take them along.
        try:
            return await self._session.layers(layer_paths(spec), plain=_has_hosts_ids(spec))
        finally:
            self._begun.remove(spec)

    def _open_cgroup(self, spec: SandboxSpec) -> ContainerCgroup:
        resources: Mapping[str, object] = (spec.config.get("linux") or {}).get("resources") or {}
        group = bundle.group_of(self._site, spec)
        with parents_made(self._layout, group):
            return ContainerCgroup.create(self._layout, group, resources)

    async def _sandbox(self, container: ContainerId) -> Sandbox:
        """The container's sandbox; after a restart of the supervisor from its bundle. Raises OperationError."""
        if self._generation != self._session.generation:
            # Another monitor numbers the layers anew.
            for sandbox in list(self._sandboxes.values()):
                sandbox.renew(await self._layers(sandbox.spec))
            self._generation = self._session.generation
        if container not in self._sandboxes:
            spec = bundle.read_bundle(self._site, container)
            await self.create(spec)
        return self._sandboxes[container]

    # Runs.

    async def start(
        self,
        container: ContainerId,
        *,
        stdin: int | None = None,
        on_tty: TtySink | None = None,
        size: tuple[int, int] = (0, 0),
    ) -> Run:
        assert stdin is None or on_tty is None, "a terminal is its own stdin"
        await self._shortages.over(container)
        sandbox = await self._sandbox(container)
        if sandbox.starting or container in self._session.active:
            raise OperationError(f"container {container} is running already")
        bundle.check_log(self._site, container)
        sandbox.starting = True
        try:
            for _ in range(_START_TRIES):
                with contextlib.suppress(MonitorLost, BornKilled):
                    return await self._starts.start(await self._sandbox(container), stdin, on_tty, size)
                # Killed in the middle: whatever was made of it ends, and we begin again.
                await end_leftovers(sandbox.cgroup)
                sandbox.spoil(sandbox.cgroup)
            raise HostError(f"cannot start {container}: its first process, or the monitor, is killed again and again")
        finally:
            sandbox.starting = False

    async def prepare(self, container: ContainerId) -> None:
        with contextlib.suppress(PystackError):
            sandbox = await self._sandbox(container)
            if not sandbox.starting:
                sandbox.starting = True
                try:
                    await self._starts.prepare(sandbox)
                finally:
                    sandbox.starting = False

    async def unprepare(self, container: ContainerId) -> None:
        await self._starts.give_up(container)

    async def attach(self, container: ContainerId) -> Attachment:
        sandbox = await self._running(container)
        if (active := self._session.active.get(container)) is None:
            raise OperationError(f"container {container} is not running")
        if (master := active.pipes.get(1, -1)) >= 0 and os.isatty(master):
            return Attachment(active.run, os.dup(master), tty=True, stdin=sandbox.spec.stdin_open)
        kept = self._session.fetch(f"stdin:{container}") if sandbox.spec.stdin_open else ()
        fd = written_anew(kept[0]) if kept else -1
        return Attachment(active.run, fd, stdin=fd >= 0)

    async def wait(self, run: Run) -> Exit:
        active = self._session.active.get(run.container)
        if active is not None and active.run.number == run.number:
            await active.ended.wait()
            assert active.exit is not None
            return active.exit
        history = self._session.history.get(run.container)
        return (history.exits.get(run.number) if history else None) or Exit()

    async def signal(self, container: ContainerId, number: int) -> None:
        active = self._session.active.get(container)
        if active is not None:
            active.killed = active.killed or number == signal.SIGKILL
            pidfds.send(active.pidfd, number)

    async def first_process(self, container: ContainerId) -> FirstProcess | None:
        active = self._session.active.get(container)
        return None if active is None else first_process(active.run.pid, active.pidfd)

    async def kill(self, container: ContainerId) -> None:
        active = self._session.active.get(container)
        if active is not None:
            active.killed = True
            sandbox = self._sandboxes.get(container)
            if sandbox is not None:
                sandbox.kill(sandbox.cgroup)
            else:
                with open_existing(self._layout, bundle.group_path(self._site, container)) as group:
                    group.kill()
            # The group may be a ruin; the end of PID 1 is the end of all in its namespace in any case.
            pidfds.send(active.pidfd, signal.SIGKILL)

    async def pause(self, container: ContainerId) -> None:
        await self._running(container)
        await trio.to_thread.run_sync(freezing.pause, self._site, container, self._layout)

    async def resume(self, container: ContainerId) -> None:
        thaw = partial(freezing.resume, self._site, container, self._layout)
        await trio.to_thread.run_sync(thaw, abandon_on_cancel=True)

    async def exhaust(self, container: ContainerId) -> None:
        await self._running(container)
        await self._shortages.bring_about(container, self._session.active.get(container))

    # Further processes.

    async def probe(self, container: ContainerId, argv: Sequence[str], timeout_s: float) -> ProbeResult:
        began = trio.current_time()
        sandbox = await self._running(container)
        group = sandbox.probe_group()
        spec = ExecSpec(tuple(argv))
        status: int | None = None
        with contextlib.ExitStack() as stack:
            reader, writer = os.pipe2(os.O_CLOEXEC)
            stack.enter_context(closing(reader))
            ends = stack.enter_context(closing(writer))
            output = Output(reader)
            try:
                with trio.move_on_after(timeout_s) as deadline:
                    stdio = {"stdout": writer, "stderr": writer}
                    async with run_process(self._session, sandbox, group, spec, stdio, probing=True) as process:
                        fdpass.close_all(ends)
                        ends.clear()
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(output.drain)
                            status = await process.wait()
                            nursery.cancel_scope.cancel()
            except CommandError as exc:
                return ProbeResult(exc.exit_code, exc.message, trio.current_time() - began)
            output.read_now()
        took_s = trio.current_time() - began
        if deadline.cancelled_caught:
            return ProbeResult(None, output.text, took_s)
        return ProbeResult(exit_of(status, 0).status, output.text, took_s)

    async def look(self, container: ContainerId, wanted: Look, timeout_s: float) -> ProbeResult:
        from orchestrator.runtime.looking import Looks  # Few stacks ask for it.

        sandbox = await self._running(container)
        if (active := self._session.active.get(container)) is None:
            raise OperationError(f"container {container} is not running")
        self._looks = self._looks or Looks(self._site, self._layout)
        return await self._looks.look(sandbox, active, wanted, timeout_s)

    async def exec(
        self, container: ContainerId, spec: ExecSpec, on_tty: TtySink | None = None, on_start: ExecSink | None = None
    ) -> Exit:
        sandbox = await self._running(container)
        if spec.name:
            sandbox.end_named(spec.name)
        group = sandbox.exec_group(spec.name)
        with contextlib.ExitStack() as stack:
            stack.callback(sandbox.let_go, group, again=not spec.name)
            terminal = stack.enter_context(Terminal()) if spec.tty else None
            given = dict(zip(("stdin", "stdout", "stderr"), spec.stdio, strict=True)) if spec.stdio is not None else {}
            stdio = terminal.descriptors if terminal is not None else given
            async with run_process(self._session, sandbox, group, spec, stdio) as process:
                if terminal is not None:
                    terminal.hand_over(on_tty)
                if on_start is not None:
                    on_start(process)
                ended = exit_of(await process.wait(), 0.0)
        if ended.signal == signal.SIGKILL and await is_ending(self._session.active.get(container)):
            raise OperationError(f"container {container} ended while the command ran in it", exit_code=ended.status)
        return ended

    # Limits.

    async def update(self, container: ContainerId, resources: Mapping[str, Any]) -> None:
        await self._shortages.over(container)
        sandbox = await self._sandbox(container)
        before = sandbox.spec
        linux: dict[str, Any] = dict(before.config.get("linux") or {})
        old = linux.get("resources") or {}
        config = OciConfig({**before.config, "linux": {**linux, "resources": dict(resources)}})
        validate(config, self._site.ids, cgroup_path(self._site.key, container))
        after = replace(before, config=config)
        sandbox.cgroup.update(old, resources)
        try:
            bundle.write_bundle(self._site, after)
        except HostError:
            sandbox.cgroup.update(resources, old)
            raise
        sandbox.spec = after
        sandbox.renew(sandbox.layers)  # The hierarchies that it is in may be others.
        await self._starts.give_up(container)

    async def renew_files(self, container: ContainerId, files: Sequence[GeneratedFile]) -> None:
        sandbox = await self._sandbox(container)
        renewed = with_contents(sandbox.spec, files)
        bundle.write_bundle(self._site, renewed)
        sandbox.spec = renewed
        sandbox.renew(sandbox.layers)
        active = self._session.active.get(container)
        if active is not None:
            write_anew(active, renewed.files, sandbox.ids.host_base)

    async def _running(self, container: ContainerId) -> Sandbox:
        if container not in self._session.active:
            raise OperationError(f"container {container} is not running")
        return await self._sandbox(container)

    # The end.

    async def remove(self, container: ContainerId) -> None:
        problems: list[str] = []
        await self._starts.give_up(container)
        active = self._session.active.get(container)
        if active is not None:
            await self.kill(container)
            with trio.move_on_after(END_S) as scope:
                await active.ended.wait()
            if scope.cancelled_caught:
                problems.append(f"its process {active.run.pid} does not end after SIGKILL")
        sandbox = self._sandboxes.pop(container, None)
        if sandbox is not None:
            sandbox.close()
        group = open_existing(self._layout, bundle.group_path(self._site, container))
        above = partial(remove_parents, self._layout, group.relative_path)
        for action in (group.remove, above, lambda: bundle.remove_bundle(self._site, container)):
            try:
                await trio.to_thread.run_sync(action)
            except HostError as exc:
                problems.append(exc.message)
        try:
            await self._forget(container)
        except (HostError, OSError) as exc:
            problems.append(str(exc))
        if problems:
            raise HostError(f"container {container} was not removed completely: " + "; ".join(problems))

    async def _forget(self, container: ContainerId) -> None:
        for name in [name for name in self._session.kept if name.partition(":")[2] == container]:
            await self._session.drop(name)
        await self._session.ask("forget", container=container)
        self._session.history.pop(container, None)
        self.ends.forget(container)
        if not self._session.active.keys() - self._sandboxes.keys():
            await self._session.drop_layers(self._uses_layer)

    def _uses_layer(self, plain: bool, path: str) -> bool:
        specs = (*(sandbox.spec for sandbox in self._sandboxes.values()), *self._begun)
        return any(path in layer_paths(spec) and _has_hosts_ids(spec) == plain for spec in specs)

    async def containers(self) -> tuple[ContainerState, ...]:
        states = []
        for container in bundle.existing_bundles(self._site):
            history = self._session.history.get(container) or History()
            active = self._session.active.get(container)
            last = max(history.last_run, active.run.number if active else 0)
            states.append(ContainerState(container, active.run if active else None, last, history.last_exit))
        return tuple(states)

    def on_unlogged(self, tell: Callable[[ContainerId, int, str], None]) -> None:
        self._session.tell_unlogged = tell


def _has_hosts_ids(spec: SandboxSpec) -> bool:
    return "user" not in own_namespaces(spec.config)
