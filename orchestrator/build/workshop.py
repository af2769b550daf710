"""The containers in which a build's RUNs run: a site of the builder's own, and the same `oci` and `runtime` as for any
other.

Builds may run side by side: each takes a place of its own, ``projects/_build-N`` (no project can be called that), by the
lock that a supervisor would hold. It gives the place back empty; what a killed build left in one is removed by its heir
(`leftovers`), which the monitor starts, or by the next build that takes the place. Nothing is opened before the first RUN
that has to run: a build whose steps are all known starts no process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import trio

from orchestrator.build.commit import settle
from orchestrator.build.job import HOSTNAME, Job, SecretFile
from orchestrator.contracts.host import Host
from orchestrator.contracts.network import Endpoint
from orchestrator.contracts.runtime import Exit, GeneratedFile, LogPolicy, OciConfig, SandboxSpec
from orchestrator.contracts.site import IdMap, Site
from orchestrator.errors import BusyError, HostError, PystackError
from orchestrator.images.unpack.merged import Merged
from orchestrator.kernel.inotify import Inotify
from orchestrator.kernel.trees import remove_tree
from orchestrator.model.names import ContainerId, NetworkName, ProjectName, ServiceName
from orchestrator.model.network import Attachment, Network
from orchestrator.model.service import Service
from orchestrator.model.volume import Mount, MountKind, Owner
from orchestrator.network.adapter import ProjectNetworking, open_networking
from orchestrator.network.leftovers import remove_leftovers
from orchestrator.oci.compile import compile_sandbox
from orchestrator.oci.inputs import SandboxInputs
from orchestrator.oci.namespaces import ids_of
from orchestrator.runtime import logs
from orchestrator.runtime.bundle import bundle_path, log_prefix
from orchestrator.runtime.cgroups import remove_project
from orchestrator.runtime.client import MonitorRuntime, open_runtime
from orchestrator.state.directory import site_of
from orchestrator.state.lock import remove_project_directory, take
from orchestrator.values import frozen, replace

MOST_BUILDS = 64
_NETWORK = NetworkName("default")
_UNDO_S = 30.0
_NO_ROOM_BYTES = 1 << 18
_LOG = LogPolicy(max_bytes=64 << 20, max_files=3)
"""We read it while it is written."""

OnOutput = Callable[[bytes], None]
"""A line of output, without its newline."""


@frozen
class BuildContainer:
    """A container that is there, and has not run. `upper`: what it will have written, with ids as in `site`."""

    container: ContainerId
    site: Site
    spec: SandboxSpec
    runtime: MonitorRuntime

    @property
    def upper(self) -> str:
        return os.path.join(bundle_path(self.site, self.container), "upper")

    @property
    def targets(self) -> tuple[str, ...]:
        """Where something is mounted in it."""
        mounts = self.spec.config.get("mounts") or ()
        return (*(mount["destination"] for mount in mounts), *(file.path for file in self.spec.files))

    async def run(self, on_output: OnOutput) -> Exit:
        """Until its first process has ended, and all others with it. Raises CommandError when it cannot be executed."""
        with Inotify() as inotify:
            follower = logs.Follower(log_prefix(self.site, self.container), inotify=inotify, timed=False)
            try:
                failure: PystackError | None = None
                exit_ = Exit()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_tell, follower, inotify, on_output)
                    try:
                        exit_ = await self.runtime.wait(await self.runtime.start(self.container))
                    except PystackError as exc:  # It leaves as it is, and not in a group of this nursery's.
                        failure = exc
                    nursery.cancel_scope.cancel()
                for block in (follower.read(), follower.finish()):
                    _tell_lines(block, on_output)
            finally:
                follower.close()
        if failure is not None:
            raise failure
        return exit_

    def full_disk(self) -> str:
        """Where what it writes is kept, if there is no room left; else ""."""
        room = os.statvfs(self.upper)
        return self.site.data_dir if room.f_bavail * room.f_frsize < _NO_ROOM_BYTES else ""

    async def take(self, tree: str, lowers: Sequence[str], latest_s: int | None) -> None:
        """What it has written becomes a layer's tree (`commit`). `lowers`: what lies below, topmost first."""
        ids = ids_of(self.spec.config, self.site.ids)
        await trio.to_thread.run_sync(_take, self.upper, tree, lowers, ids, self.targets, latest_s)


def _take(upper: str, tree: str, lowers: Sequence[str], ids: IdMap, targets: Sequence[str], latest_s: int | None) -> None:
    with Merged(lowers) as below:
        stubs = [below.resolve(target) for target in targets]
        try:
            os.rename(upper, tree)
        except OSError as exc:
            raise HostError(f"cannot move what was written to {tree}: {exc.strerror}") from exc
        settle(tree, below, ids, stubs, latest_s)


async def _tell(follower: logs.Follower, inotify: Inotify, on_output: OnOutput) -> None:
    while True:
        _tell_lines(follower.read(), on_output)
        await trio.lowlevel.wait_readable(inotify.fileno())
        inotify.clear()


def _tell_lines(blocks: object, on_output: OnOutput) -> None:
    for entry in logs.entries_of(blocks):  # type: ignore[arg-type]
        on_output(entry.line)


class _Open:
    """A place with a monitor, and a network once somebody wants one."""

    def __init__(self, site: Site, runtime: MonitorRuntime, nursery: trio.Nursery, closing: trio.Event) -> None:
        self.site = site
        self.runtime = runtime
        self._nursery = nursery
        self._closing = closing
        self.failed = False
        self._networking: ProjectNetworking | None = None
        self._lock = trio.Lock()
        self._count = 0

    def next_container(self) -> ContainerId:
        self._count += 1
        return ContainerId(f"run-{self._count}")

    async def networking(self) -> ProjectNetworking:
        async with self._lock:
            if self._networking is None:
                with trio.CancelScope(shield=True):  # As in `Workshop._place`.
                    self._networking = await self._nursery.start(self._serve_network)
            assert self._networking is not None, "what is shielded is not cancelled"
            return self._networking

    async def _serve_network(self, task_status: trio.TaskStatus[ProjectNetworking]) -> None:
        with trio.CancelScope(shield=True):
            async with open_networking(self.site) as networking:
                await networking.ensure([Network(_NETWORK, "build")])
                task_status.started(networking)
                await self._closing.wait()
                await networking.remove([_NETWORK])


class Workshop:
    """Made by `open_workshop`."""

    def __init__(self, host: Host, data_root: str, run_root: str, nursery: trio.Nursery) -> None:
        self._host = host
        self._data_root = data_root
        self._run_root = run_root
        self._nursery = nursery
        self._closing = trio.Event()
        self._opening = trio.Lock()
        self._open: _Open | None = None

    def close(self) -> None:
        self._closing.set()

    @asynccontextmanager
    async def container(self, job: Job) -> AsyncIterator[BuildContainer]:
        """A container for `job`; afterwards nothing is left of it. Raises InputError for what cannot be run, HostError."""
        place = await self._place()
        container = place.next_container()
        networking = await place.networking()
        secrets = os.path.join(place.site.run_dir, f"secrets-{container}")
        try:
            if job.secrets:
                mounted = await trio.to_thread.run_sync(_write_secrets, secrets, job.secrets)
                job = replace(job, mounts=(*job.mounts, *mounted))
            attachments = [Attachment(_NETWORK)] if job.network else []
            endpoints = networking.reserve(container, ServiceName("build"), attachments, service_name=False)
            if not job.image.lowers:
                job = replace(job, image=replace(job.image, lowers=(_nothing(place.site),)))
            spec = _spec(place.site, self._host, container, job, endpoints)
            namespace = await place.runtime.create(spec)
            await networking.attach(container, namespace, endpoints, ())  # Without a network there is still ``lo``.
            yield BuildContainer(container, place.site, spec, place.runtime)
        finally:
            with trio.move_on_after(_UNDO_S, shield=True):
                await trio.to_thread.run_sync(remove_tree, secrets)
                await networking.detach(container)
                networking.release(container)
                if not place.failed:  # Else nobody can, and all of the place is given back.
                    await place.runtime.remove(container)

    async def _place(self) -> _Open:
        async with self._opening:
            if self._open is None:
                # A start that is cancelled waits for what it started to end, and that waits for us to be closed.
                with trio.CancelScope(shield=True):
                    self._open = await self._nursery.start(self._serve)
            assert self._open is not None, "what is shielded is not cancelled"
            return self._open

    async def _serve(self, task_status: trio.TaskStatus[_Open]) -> None:
        """The place is open until the workshop is closed: a build that is cancelled still has to remove its containers."""
        with trio.CancelScope(shield=True):
            site, lock, used = await trio.to_thread.run_sync(_take_place, self._data_root, self._run_root)
            try:
                heir = leftovers_argv(self._data_root, self._run_root, site.project)
                async with (
                    open_runtime(site, self._host, respawn_argv=heir) as runtime,
                    trio.open_nursery() as nursery,
                ):
                    if used:
                        await _clear(site, self._host, runtime)
                    place = _Open(site, runtime, nursery, self._closing)
                    task_status.started(place)
                    try:
                        await self._closing.wait()
                    except trio.Cancelled:  # The runtime has failed. Who has a container lets go of it, and closes us.
                        place.failed = True
                        self._nursery.cancel_scope.cancel()
                        raise
            finally:
                await trio.to_thread.run_sync(_give_back, site, self._host, lock)


@asynccontextmanager
async def open_workshop(host: Host, data_root: str, run_root: str) -> AsyncIterator[Workshop]:
    """While the block runs, RUNs can be run. Leaving it leaves nothing."""
    async with trio.open_nursery() as nursery:
        workshop = Workshop(host, data_root, run_root, nursery)
        try:
            yield workshop
        finally:
            workshop.close()


def _spec(site: Site, host: Host, container: ContainerId, job: Job, endpoints: tuple[Endpoint, ...]) -> SandboxSpec:
    service = Service(
        ServiceName("build"),
        job.image.reference,
        command=job.command,
        entrypoint=(),
        environment=job.environment,
        working_dir=job.working_dir,
        user=job.user,
        hostname=HOSTNAME,
        volumes=job.mounts,
    )
    inputs = SandboxInputs(
        site, container, service, job.image, endpoints, machine=host.machine, host_cpus=host.processors, log=_LOG
    )
    spec = compile_sandbox(inputs)
    config = dict(spec.config)
    if job.shm_bytes is not None:
        config["mounts"] = [_sized(mount, job.shm_bytes) for mount in config["mounts"]]
    if job.limits:
        limits = [{"type": name, "soft": soft, "hard": hard} for name, (soft, hard) in job.limits.items()]
        config["process"] = config["process"] | {"rlimits": limits}
    files = (*spec.files, *job.files)
    if not job.network:
        files = tuple(file for file in files if file.path != "/etc/resolv.conf")
    if job.hosts:
        lines = "".join(f"{_address(address, endpoints)}\t{name}\n" for name, address in job.hosts).encode()
        files = tuple(replace(each, content=(each.content or b"") + lines) if _is_hosts(each) else each for each in files)
    return replace(spec, config=OciConfig(config), files=files)


def _nothing(site: Site) -> str:
    """An empty directory: overlayfs wants something below."""
    path = os.path.join(site.data_dir, "nothing")
    os.makedirs(path, 0o755, exist_ok=True)
    return path


def _write_secrets(directory: str, secrets: tuple[SecretFile, ...]) -> tuple[Mount, ...]:
    """Below the run directory, which is no disk's."""
    mounts = []
    try:
        os.mkdir(directory, 0o700)
        for number, secret in enumerate(secrets):
            path = os.path.join(directory, str(number))
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(secret.content)
                os.fchown(file.fileno(), secret.uid, secret.gid)
                os.fchmod(file.fileno(), secret.mode)
            mounts.append(Mount(MountKind.BIND, secret.target, path, read_only=True, owner=Owner.ROOT))
    except OSError as exc:
        raise HostError(f"cannot write secrets below {directory}: {exc.strerror}") from exc
    return tuple(mounts)


def _sized(mount: dict[str, object], size: int) -> dict[str, object]:
    if mount["destination"] != "/dev/shm":
        return mount
    options = [option for option in mount["options"] if not option.startswith("size=")]  # type: ignore[attr-defined]
    return mount | {"options": [*options, f"size={size}"]}


def _is_hosts(file: GeneratedFile) -> bool:
    return file.path == "/etc/hosts"


def _address(text: str, endpoints: tuple[Endpoint, ...]) -> str:
    """``host-gateway`` is the machine itself, as its containers see it."""
    if text != "host-gateway":
        return text
    return endpoints[0].addresses[0].gateway if endpoints else "127.0.0.1"


def _take_place(data_root: str, run_root: str) -> tuple[Site, int, bool]:
    """The first place that nobody has, its lock, and whether somebody was killed in it. Raises HostError, BusyError."""
    for number in range(MOST_BUILDS):
        site = site_of(data_root, run_root, ProjectName(f"_build-{number}"))
        used = os.path.lexists(site.data_dir)
        try:
            site, lock = take(site)
        except BusyError:
            continue
        return site, lock, used
    raise BusyError(f"{MOST_BUILDS} builds are running already", hint="wait for one to end")


def leftovers_argv(data_root: str, run_root: str, project: str) -> tuple[str, ...]:
    """What the monitor executes when a build is killed while it runs something: `build.leftovers`."""
    return (sys.executable, "-P", "-m", "orchestrator.build.leftovers", data_root, run_root, project)


async def clear_place(data_root: str, run_root: str, project: str, host: Host) -> None:
    """Remove what a killed build has left in its place, unless another build has taken it: then that one does it. Raises
    HostError."""
    site = site_of(data_root, run_root, ProjectName(project))
    lock = await trio.to_thread.run_sync(_take_over, site)
    if lock is None:
        return
    try:
        async with open_runtime(site, host) as runtime:
            await _clear(site, host, runtime)
    finally:
        _give_back(site, host, lock)


def _take_over(site: Site) -> int | None:
    """The lock of a place that somebody was killed in; None if there is none, or another build has it."""
    if not os.path.lexists(site.data_dir):
        return None
    try:
        return take(site)[1]
    except BusyError:
        return None


async def _clear(site: Site, host: Host, runtime: MonitorRuntime) -> None:
    """What a killed build has left."""
    for state in await runtime.containers():
        await runtime.remove(state.container)
    await remove_leftovers(site.key)
    remove_project(host.cgroups, site.key)


def _give_back(site: Site, host: Host, lock: int) -> None:
    try:
        remove_project(host.cgroups, site.key)
        remove_tree(site.run_dir)
        remove_project_directory(site.data_dir)
    except OSError as exc:
        raise HostError(f"cannot remove {exc.filename or site.data_dir}: {exc.strerror}") from exc
    finally:
        os.close(lock)
