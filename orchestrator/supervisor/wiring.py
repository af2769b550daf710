"""The composition root: adapters opened, and the engine on top of them."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

import trio

from orchestrator.contracts.events import Event, EventKind
from orchestrator.contracts.host import Host
from orchestrator.contracts.images import ImageRequest, Progress
from orchestrator.contracts.runtime import SandboxSpec
from orchestrator.contracts.site import Site
from orchestrator.images.machine import MachineImages
from orchestrator.kernel.trees import remove_tree
from orchestrator.model.namespaces import Sharing
from orchestrator.network.adapter import open_networking
from orchestrator.network.leftovers import remove_leftovers
from orchestrator.oci.compile import compile_sandbox
from orchestrator.oci.inputs import SandboxInputs
from orchestrator.oci.namespaces import NETWORK_FILES
from orchestrator.runtime.cgroups import remove_project
from orchestrator.runtime.client import MonitorRuntime, open_runtime
from orchestrator.scheduler.engine import Adapters, Engine
from orchestrator.scheduler.engine_state import Compile
from orchestrator.state.directory import boot_id, data_root_of
from orchestrator.state.journal import EventLog
from orchestrator.state.port_users import publisher
from orchestrator.state.records import FileState
from orchestrator.state.volumes import FileVolumes
from orchestrator.supervisor.devices import kernel_version, parts_of
from orchestrator.supervisor.output import LogOutput
from orchestrator.supervisor.stream import EventStream
from orchestrator.values import entity, frozen, replace


@entity
class OpenProject:
    """One project with everything that acts on it. `since`: epoch seconds, display. `untold`: what was found damaged or
    wanting, until somebody listens."""

    site: Site
    host: Host
    runtime: MonitorRuntime
    images: MachineImages
    records: FileState
    volumes: FileVolumes
    log: EventLog
    stream: EventStream
    engine: Engine
    boot_id: str
    since: float
    untold: tuple[str, ...] = ()

    @property
    def working_dir(self) -> str:
        """Where the recorded project comes from; "" while nothing is recorded."""
        project = self.engine.project
        return project.working_dir if project.services or self.engine.statuses() else ""

    async def adopt(self) -> None:
        """Take over what is wanted and what runs: the same at a fresh start, after a crash and after a reboot."""
        # Into the log alone: the client that had this supervisor started listens to its operation only.
        self.log.append(Event(EventKind.SUPERVISOR_STARTED, f"supervisor {os.getpid()} begins", time.time()))
        record = self.records.load()
        findings = self.records.findings()
        if record is not None:
            findings += self.volumes.take_over([item.container for item in record.containers])
        elif not await self.runtime.containers():
            # The records may have been deleted under a project that was up: its names in the kernel tell.
            await remove_leftovers(self.site.key)
            remove_project(self.host.cgroups, self.site.key)
        self.untold += tuple(map(str, findings))
        await self.engine.adopt(record)

    def tell_findings(self) -> None:
        """Not at adoption: the client that had this supervisor started listens to its operation only."""
        for text in self.untold:
            self.stream.emit(Event(EventKind.WARNING, text, time.time()))
        self.untold = ()

    def ending(self) -> Callable[[], None]:
        """What is left to do once everything is closed: nothing while containers run, which go on without us; else the
        sockets go, and if nothing of the project is left, so do its records."""
        if self.engine.running():
            return lambda: None
        return partial(dissolve, self.site, self.host, records=self.engine.empty())


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
async def open_project(
    site: Site, host: Host, respawn_argv: tuple[str, ...], *, wall_clock: Callable[[], float] = time.time
) -> AsyncGenerator[OpenProject, None]:
    """Everything of a project, while the block runs; leaving it leaves all containers running. The caller holds the
    project's lock. `wall_clock`: epoch seconds, for what is shown and for schedules. Raises HostError when the machine
    cannot do it."""
    state, log = FileState(site), EventLog(site)
    stream = EventStream(log)
    images = _images(site, host)
    this_boot = boot_id()
    async with (
        open_runtime(site, host, respawn_argv=respawn_argv) as runtime,
        open_networking(site, KeptSockets(runtime), publisher=publisher) as networking,
        trio.open_nursery() as nursery,
    ):
        volumes = FileVolumes(site)
        volumes.tidy()
        output = LogOutput(f"{site.data_dir}/logs")
        adapters = Adapters(site, runtime, networking, images, state, volumes, output)
        engine = Engine(adapters, stream.emit, wall_clock=wall_clock, boot_id=this_boot, compile_sandbox=_compiler(host))
        await nursery.start(engine.run)
        now, damaged = time.time(), tuple(map(str, networking.findings))
        yield OpenProject(site, host, runtime, images, state, volumes, log, stream, engine, this_boot, now, damaged)
        nursery.cancel_scope.cancel()
    state.close()
    log.close()


def _images(site: Site, host: Host) -> MachineImages:
    data_root, run_root = data_root_of(site), os.path.dirname(site.run_dir)

    async def build(request: ImageRequest, progress: Progress) -> None:
        from orchestrator.build.request import build_image

        await build_image(request, progress, images=images, host=host, data_root=data_root, run_root=run_root)

    images = MachineImages(os.path.join(data_root, "images"), build=build)
    return images


def dissolve(site: Site, host: Host, *, records: bool) -> None:
    """Remove the project's run directory and empty cgroups; with `records` also all it has on disk (except volumes)."""
    remove_project(host.cgroups, site.key)
    remove_tree(site.run_dir)
    if records:
        FileState(site).clear()


def _compiler(host: Host) -> Compile:
    """`compile_sandbox` with what only this machine knows: its processor type and count, its kernel, its devices, and its
    resolver's search list as it is by then."""
    kernel = kernel_version()

    def compile_here(inputs: SandboxInputs) -> SandboxSpec:
        search, options = _resolver_settings()
        namespaces = inputs.service.namespaces
        if Sharing.HOST in (namespaces.network.sharing, namespaces.uts.sharing):
            inputs = replace(inputs, host_name=os.uname().nodename, host_files=_network_files())
        return compile_sandbox(
            replace(
                inputs,
                resolv_search=search,
                resolv_options=options,
                machine=host.machine,
                host_cpus=host.processors,
                block_devices=_block_devices(inputs.service.limits.block_io.devices()),
                selinux=os.path.exists("/sys/fs/selinux/enforce"),
                kernel=kernel,
                parts=parts_of(inputs.service, inputs.site.ids.count, held=host.held),
            )
        )

    return compile_here


def _network_files() -> dict[str, bytes]:
    """The host's own, for who is in its network."""
    found: dict[str, bytes] = {}
    for path in NETWORK_FILES:
        with suppress(OSError), open(path, "rb") as file:
            found[path] = file.read(1 << 20)
    return found


def _block_devices(paths: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Those of `paths` that are block devices, with their numbers."""
    found = {}
    for path in paths:
        with suppress(OSError):
            about = os.stat(path)
            if stat.S_ISBLK(about.st_mode):
                found[path] = os.major(about.st_rdev), os.minor(about.st_rdev)
    return found


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
