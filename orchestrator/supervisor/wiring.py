"""The composition root: adapters opened, the engine on top of them, and the verbs as calls of the engine."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio

from orchestrator.contracts.events import Event, EventKind
from orchestrator.contracts.host import Host
from orchestrator.contracts.runtime import SandboxSpec
from orchestrator.contracts.site import Site
from orchestrator.contracts.state import Finding
from orchestrator.errors import InputError
from orchestrator.images.local import LocalImages
from orchestrator.kernel.trees import remove_tree
from orchestrator.model.codec import from_json, to_json
from orchestrator.model.project import Project
from orchestrator.network.adapter import open_networking
from orchestrator.network.leftovers import remove_leftovers
from orchestrator.oci.compile import compile_sandbox
from orchestrator.oci.inputs import SandboxInputs
from orchestrator.plan.plan import Plan, Verb
from orchestrator.plan.reconcile import Recreate
from orchestrator.runtime.cgroups import remove_project
from orchestrator.runtime.client import MonitorRuntime, open_runtime
from orchestrator.scheduler.crew import Compile
from orchestrator.scheduler.engine import Adapters, Engine
from orchestrator.state.directory import boot_id, data_root_of
from orchestrator.state.journal import EventLog
from orchestrator.state.records import FileState
from orchestrator.state.volumes import FileVolumes
from orchestrator.supervisor.arguments import seconds, services, typed
from orchestrator.supervisor.stream import EventStream
from orchestrator.supervisor.sweep import sweep
from orchestrator.values import entity, frozen, replace


@entity
class OpenProject:
    """One project with everything that acts on it. `since`: epoch seconds, display."""

    site: Site
    host: Host
    runtime: MonitorRuntime
    images: LocalImages
    state: FileState
    volumes: FileVolumes
    log: EventLog
    stream: EventStream
    engine: Engine
    boot_id: str
    since: float
    untold: tuple[Finding, ...] = ()
    """What was found damaged, until somebody listens."""

    async def adopt(self) -> None:
        """Take over what is wanted and what runs: the same at a fresh start, after a crash and after a reboot."""
        record = self.state.load()
        self.untold = self.state.findings()
        if record is not None:
            self.untold += self.volumes.take_over([item.container for item in record.containers])
            self.images.working_dir = record.project.working_dir
        elif not await self.runtime.containers():
            # The records may have been deleted under a project that was up: its names in the kernel tell.
            await remove_leftovers(self.site.key)
            remove_project(self.host.cgroups, self.site.key)
        await self.engine.adopt(record)

    async def plan(self, verb: str, args: Mapping[str, Any]) -> Plan:
        """What `verb` with these arguments would do now. Raises InputError for arguments that do not fit."""
        try:
            chosen, recreate = Verb(verb), Recreate(typed(args, "recreate", str, Recreate.CHANGED.value))
        except ValueError as exc:
            raise InputError(str(exc)) from exc
        project = self._project(args) if chosen is Verb.UP or "project" in args else None
        if project is not None:
            self.images.working_dir = project.working_dir
        return await self.engine.plan(
            chosen,
            project=project,
            services=services(args),
            recreate=recreate,
            no_deps=typed(args, "no_deps", bool, False),
            volumes=typed(args, "volumes", bool, False),
            remove_orphans=typed(args, "remove_orphans", bool, False),
            timeout_s=seconds(args, "timeout_s"),
        )

    async def operate(self, verb: str, args: Mapping[str, Any]) -> dict[str, Any]:
        """Carry `verb` out; the result as docs/control-protocol.md has it. Raises the operation's error."""
        if verb == "kill":
            return {"signalled": await self.engine.kill(services(args), typed(args, "signal", str, "SIGKILL"))}
        # Not at adoption: the client that had this supervisor started listens to its operation only.
        for finding in self.untold:
            self.stream.emit(Event(EventKind.WARNING, str(finding), time.time()))
        self.untold = ()
        await self.engine.interrupt_resumption()
        plan = await self.plan(verb, args)
        outcome = await self.engine.execute(
            plan, wait=typed(args, "wait", bool, False), wait_timeout_s=seconds(args, "wait_timeout_s")
        )
        if (error := outcome.error()) is not None:
            raise error
        if verb == "down":
            if not self.engine.statuses():
                await sweep(self.site, self.volumes if typed(args, "volumes", bool, False) else None)
            return {"removed": outcome.removed}
        if verb == "up":
            return {"changed": outcome.changed, "services": [to_json(row) for row in self.engine.statuses()]}
        return {"changed": outcome.changed}

    def ending(self) -> Callable[[], None]:
        """What is left to do once everything is closed: nothing while containers run, which go on without us; else the
        sockets go, and if nothing of the project is left, so do its records."""
        if self.engine.running():
            return lambda: None
        return partial(dissolve, self.site, self.host, records=not self.engine.statuses())

    def _project(self, args: Mapping[str, Any]) -> Project:
        try:
            project = from_json(Project, args.get("project"))
        except ValueError as exc:
            raise InputError(f"the project sent is malformed: {exc}") from exc
        if project.name != self.site.project:
            raise InputError(f"this is the supervisor of project {self.site.project}, not of {project.name}")
        return project


@frozen
class KeptSockets:
    """The monitor's store as the network wants it: what is fetched belongs to the caller."""

    runtime: MonitorRuntime

    async def keep(self, name: str, fds: Sequence[int]) -> None:
        await self.runtime.keep(name, fds)

    async def fetch(self, name: str) -> list[int] | None:
        return [os.dup(fd) for fd in await self.runtime.fetch(name)] or None

    async def drop(self, name: str) -> None:
        await self.runtime.drop(name)


@asynccontextmanager
async def open_project(site: Site, host: Host, respawn_argv: tuple[str, ...]) -> AsyncGenerator[OpenProject, None]:
    """Everything of a project, while the block runs; leaving it leaves all containers running. The caller holds the
    project's lock. Raises HostError when the machine cannot do it."""
    state, log = FileState(site), EventLog(site)
    stream = EventStream(log)
    images = LocalImages(os.path.join(data_root_of(site), "images"), "/")
    this_boot = boot_id()
    async with (
        open_runtime(site, host, respawn_argv=respawn_argv) as runtime,
        open_networking(site, KeptSockets(runtime)) as networking,
        trio.open_nursery() as nursery,
    ):
        volumes = FileVolumes(site)
        adapters = Adapters(site, runtime, networking, images, state, volumes)
        engine = Engine(adapters, stream.emit, wall_clock=time.time, boot_id=this_boot, compile_sandbox=_compiler(host))
        await nursery.start(engine.run)
        yield OpenProject(site, host, runtime, images, state, volumes, log, stream, engine, this_boot, time.time())
        nursery.cancel_scope.cancel()
    state.close()
    log.close()


def dissolve(site: Site, host: Host, *, records: bool) -> None:
    """Remove the project's run directory and empty cgroups; with `records` also all it has on disk (except volumes)."""
    remove_project(host.cgroups, site.key)
    remove_tree(site.run_dir)
    if records:
        FileState(site).clear()


def _compiler(host: Host) -> Compile:
    """`compile_sandbox` with what only this machine knows: its processor type and count, and its resolver's search list."""
    search, options = _resolver_settings()

    def compile_here(inputs: SandboxInputs) -> SandboxSpec:
        return compile_sandbox(
            replace(inputs, resolv_search=search, resolv_options=options, machine=host.machine, host_cpus=host.processors)
        )

    return compile_here


def _resolver_settings() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The last ``search`` (or ``domain``) line and all ``options`` of the host's resolv.conf(5)."""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    try:
        with open("/etc/resolv.conf", encoding="utf-8", errors="replace") as file:
            for line in file.read(65536).splitlines():
                match line.split():
                    case ["search" | "domain", *domains]:
                        search = tuple(domains)
                    case ["options", *given]:
                        options += tuple(given)
    except OSError:
        return (), ()
    return search, options

