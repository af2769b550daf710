"""Making, wiring and removing the sandbox of a container.

The order of making: networks -> addresses -> the OCI config -> the record (intent) -> the sandbox -> its network. What
fails or is cancelled half-way is undone, unless the sandbox existed before and may hold somebody's files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import trio

from orchestrator.contracts.events import EventKind
from orchestrator.contracts.images import Image
from orchestrator.contracts.network import Endpoint
from orchestrator.contracts.runtime import LogPolicy, SandboxSpec
from orchestrator.contracts.state import Wanted
from orchestrator.errors import OperationError, PystackError
from orchestrator.model.granted import with_granted_values
from orchestrator.model.manual import Manual, connected
from orchestrator.model.names import ContainerId, Role, volume_owner
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.model.volume import MountKind, Volume
from orchestrator.oci.inputs import SandboxInputs, default_hostname
from orchestrator.oci.mounts import clean_path
from orchestrator.oci.namespaces import NETWORK_FILES
from orchestrator.plan.hashing import config_hash, identity_with
from orchestrator.policy.lifecycle import Trigger
from orchestrator.scheduler import chaos, sharing
from orchestrator.scheduler.container import Container
from orchestrator.scheduler.engine_state import EngineState
from orchestrator.scheduler.faults import located
from orchestrator.scheduler.inherited import inherited_mounts
from orchestrator.values import replace

T = TypeVar("T")

UNDO_DEADLINE_S = 30.0


async def make(state: EngineState, container: Container, project: Project, service: Service, image: Image) -> None:
    """A sandbox for a container that has none, from `service` and `image`, wired and ready for its first run.

    Raises the adapters' errors, pointed into the compose file; nothing is left behind then.
    """
    container.note(EventKind.CONTAINER_CREATING, f"creating {container.id}", image=service.image)
    begun_s = trio.current_time()
    manual = container.record.manual
    joined = connected(service, manual)
    try:
        await state.ensure_networks(sorted(joined.networks), manual.known(project))
        networked_s = trio.current_time()
        container.image = image
        mounted = state.mounted(service, project)
        identity = identity_with(image.identity, [item.identity for item in mounted.values()])
        container.amend(
            definition=state.define(service, image, identity),
            config_hash=config_hash(project, service, identity, sharing.shared_identities(state, service)),
            endpoints=_reserve(state, container, joined),
            published=(),
            created_at=state.events.wall_clock(),
            boot_id=state.boot_id,
            last_exit=None,
            prepared="",
            greeted=0,
        )
        container.intend()
        container.sandbox.netns_fd = await state.adapters.runtime.create(await _compile(state, container, project))
        made_s = trio.current_time()
        await wire(state, container)
    except PystackError as error:
        await undo(state, container)
        raise located(error, project, service) from error
    except trio.Cancelled:
        await undo(state, container)
        raise
    container.sandbox.fresh = True
    container.exit = None
    container.step(Trigger.CREATED, "created")
    container.note(
        EventKind.CONTAINER_CREATED,
        f"created {container.id}",
        networks_s=round(networked_s - begun_s, 6),
        sandbox_s=round(made_s - networked_s, 6),
    )


async def update(state: EngineState, container: Container, project: Project, service: Service) -> None:
    """Give it the limits of `service`; its run goes on. Raises the adapter's errors, pointed into the compose file, and
    nothing has changed then."""
    made = container.record.definition
    container.amend(definition=replace(made, service=replace(made.service, limits=service.limits)))
    try:
        spec = await _compile(state, container, project)
        await state.adapters.runtime.update(container.id, (spec.config.get("linux") or {}).get("resources") or {})
    except PystackError as error:
        container.amend(definition=made)
        raise located(error, project, service) from error
    except trio.Cancelled:
        container.amend(definition=made)
        raise
    shared = sharing.shared_identities(state, service)
    container.amend(config_hash=config_hash(project, container.definition, made.image, shared))
    container.save()
    container.note(EventKind.CONTAINER_UPDATED, f"updated the limits of {container.id}")


async def reconnect(
    state: EngineState, container: Container, project: Project, service: Service | None, what: str, manual: Manual
) -> None:
    """Give it the networks, links and published ports of `service` (None: those it was made with), and what is `manual`;
    its run goes on. `what`: for those who watch. Raises the adapters' errors, pointed into the compose file, and nothing
    has changed then."""
    before, made = container.record, container.record.definition
    definition, made_from = made.service, before.config_hash
    if service is not None:
        definition = replace(definition, networks=service.networks, ports=service.ports, links=service.links)
        made_from = config_hash(project, definition, made.image, sharing.shared_identities(state, service))
    joined = connected(definition, manual)
    try:
        await state.ensure_networks(sorted(joined.networks), manual.known(project))
        container.amend(
            definition=replace(made, service=definition),
            config_hash=made_from,
            endpoints=_reserve(state, container, joined),
            manual=manual,
            reconnecting=True,
        )
        container.intend()
        spec = await _compile(state, container, project)
        await chaos.follow(state)
        if container.sandbox.wired:
            await _rewire(state, container)
        elif container.run is None or container.run.process is None:  # Nothing of it uses what it had before.
            state.adapters.networking.restore(container.id, container.record.endpoints, container.record.published)
    except (PystackError, trio.Cancelled) as error:
        state.adapters.networking.restore(container.id, before.endpoints, before.published)
        container.amend(
            definition=made,
            config_hash=before.config_hash,
            endpoints=before.endpoints,
            manual=before.manual,
            reconnecting=before.reconnecting,
        )
        container.save()
        if isinstance(error, PystackError):
            raise located(error, project, joined) from error
        raise
    container.amend(reconnecting=False)
    container.save()
    await _renew_files(state, container, spec)
    container.note(EventKind.CONTAINER_RECONNECTED, f"reconnected {container.id}: {what}")


async def _rewire(state: EngineState, container: Container) -> None:
    fd, record = container.sandbox.netns_fd, container.record
    assert fd is not None, f"{container.id} is wired, and has no network namespace"
    published = await state.adapters.networking.rewire(
        container.id,
        fd,
        record.endpoints,
        container.connected.ports,
        record.published,
        guarded=not sharing.administers_network(state, container),
    )
    container.amend(published=published)


async def _renew_files(state: EngineState, container: Container, spec: SandboxSpec) -> None:
    """What says its addresses and its name server, also for who is in its network. A failure is a warning: it is on its
    networks all the same."""
    files = tuple(file for file in spec.files if file.path in NETWORK_FILES)
    others = [item for item in state.containers.values() if item.sandbox.netns_fd is not None]
    users = [item for item in others if sharing.owners_of(state, item.definition).get("network") is container]
    for user in (container, *users):
        try:
            await state.adapters.runtime.renew_files(user.id, files)
        except PystackError as error:
            user.note(EventKind.WARNING, f"{user.label} does not see the new addresses in its files: {error}")


async def wire(state: EngineState, container: Container) -> None:
    """Addresses, published ports and names for a sandbox; does nothing when they are up. A sandbox that this supervisor has
    not made is opened first."""
    sandbox = container.sandbox
    if sandbox.wired:
        return
    spec: SandboxSpec | None = None
    project = container.record.manual.known(state.project)
    if sandbox.netns_fd is None:
        if not container.record.endpoints and container.connected.networks:
            await state.ensure_networks(sorted(container.connected.networks), project)
            container.amend(endpoints=_reserve(state, container, container.connected))
        spec = await _compile(state, container, state.project)
        sandbox.netns_fd = await state.adapters.runtime.create(spec)
    if not sharing.has_own_network(container.definition):
        return
    await state.ensure_networks([end.network for end in container.record.endpoints], project)
    await chaos.follow(state)
    sandbox.wired = True  # Before the await: if it is cancelled half-way, `unwire` has something to undo.
    try:
        if container.record.reconnecting:  # A supervisor that died was about to; what it has left is looked for.
            await _rewire(state, container)
        else:
            published = await state.adapters.networking.attach(
                container.id,
                sandbox.netns_fd,
                container.record.endpoints,
                container.connected.ports if container.record.announced else (),
                container.record.published,
                guarded=not sharing.administers_network(state, container),
            )
            container.amend(published=published)
    except PystackError:
        sandbox.wired = False
        raise
    if container.record.reconnecting:
        container.amend(reconnecting=False)
        container.save()
        if spec is not None:
            await _renew_files(state, container, spec)


async def unwire(state: EngineState, container: Container) -> None:
    """Free the ports and names of a container that does not run, and will not at once; its addresses stay reserved. A
    failure is a warning."""
    await state.adapters.runtime.unprepare(container.id)
    if not container.sandbox.wired:
        return
    try:
        await state.adapters.networking.detach(container.id)
    except PystackError as error:
        container.note(EventKind.WARNING, f"cannot take {container.id} off its networks: {error}")
    container.sandbox.wired = False


async def remove(state: EngineState, container: Container, *, anonymous: bool, stays_wanted: bool) -> None:
    """Remove the container with everything of it. `anonymous`: its anonymous volumes too. `stays_wanted`: the record stays,
    because a new container follows. Tries everything, then raises the first error."""
    errors = await _dismantle(state, container)
    if anonymous:
        try:
            remove_anonymous(state, container)
        except PystackError as error:
            errors.append(error)
    if not stays_wanted:
        errors += await _release_volumes(state, container)
    if errors:
        raise errors[0]
    container.exit = None
    container.step(Trigger.CLEARED if stays_wanted else Trigger.REMOVED, "removed")
    container.note(EventKind.CONTAINER_REMOVED, f"removed {container.id}")


def remove_anonymous(state: EngineState, container: Container) -> None:
    """Its anonymous volumes, unless there are two in its place: the other one needs them."""
    owner = _volume_owner(state, container)
    others = (item for item in state.containers.values() if item is not container)
    if all(_volume_owner(state, item) != owner for item in others):
        state.adapters.volumes.remove_anonymous(owner)


async def undo(state: EngineState, container: Container) -> None:
    """Take away the sandbox of a container that has never run. Errors become warnings: the cause has been reported."""
    # Shielded, so that cancelling an operation leaves no half-made container; it ends by its deadline at the latest.
    with trio.move_on_after(UNDO_DEADLINE_S, shield=True) as scope:
        for error in await _dismantle(state, container):
            container.note(EventKind.WARNING, f"cannot remove what was made of {container.id}: {error}")
    if scope.cancelled_caught:
        container.note(EventKind.WARNING, f"removing {container.id} took longer than {UNDO_DEADLINE_S:.0f} s")


async def _dismantle(state: EngineState, container: Container) -> list[PystackError]:
    errors: list[PystackError] = []
    for take_away in (state.adapters.networking.detach, state.adapters.runtime.remove):
        try:
            await take_away(container.id)
        except PystackError as error:
            errors.append(error)
    state.adapters.networking.release(container.id)
    container.sandbox.wired = False
    container.sandbox.fresh = False
    container.sandbox.netns_fd = None
    container.amend(endpoints=(), published=(), manual=Manual())
    await chaos.follow(state)
    return errors


async def ensure_volume(state: EngineState, volume: Volume) -> str:
    """As `contracts.state.Volumes.ensure`."""
    return await of_volume(volume, state.adapters.volumes.ensure, volume)


async def of_volume(volume: Volume, action: Callable[..., T], *arguments: object) -> T:
    """What is mounted for its options may block; plain directories do not."""
    if volume.options or volume.external:
        return await trio.to_thread.run_sync(action, *arguments)
    return action(*arguments)


async def _release_volumes(state: EngineState, container: Container) -> list[PystackError]:
    """Unmount what was mounted for this container and for no other."""
    errors: list[PystackError] = []
    others = [item.definition for item in state.containers.values() if item is not container]
    used = {mount.source for definition in others for mount in definition.volumes}
    for volume in state.project.volumes.values():
        mine = any(mount.source == volume.key for mount in container.definition.volumes)
        if (volume.options or volume.external) and mine and volume.key not in used:
            try:
                await of_volume(volume, state.adapters.volumes.release, volume)
            except PystackError as error:
                errors.append(error)
    return errors


def _volume_owner(state: EngineState, container: Container) -> ContainerId:
    return volume_owner(state.adapters.site.project, container.instance, container.id)


async def announce(state: EngineState, container: Container, old: Container | None, name: ContainerId) -> None:
    """Put it in the place of `old`, called `name`: names, and the host's ports. Recorded when that is done: until then, who
    comes after a killed supervisor has the old one in its place. Raises the adapters' errors, and nothing has changed
    then."""
    before, definition = container.record, container.definition
    if sharing.has_own_network(definition) and not container.sandbox.wired:
        raise OperationError(f"{container.label} is on no network any more")
    if container.sandbox.wired:
        container.amend(took_over=True)
        try:
            endpoints = _reserve(state, container, definition)
            guarded = not sharing.administers_network(state, container)
            published = await state.adapters.networking.hand_over(
                name, container.id, endpoints, definition.ports, guarded=guarded
            )
        except (PystackError, trio.Cancelled) as error:
            state.adapters.networking.restore(container.id, before.endpoints, before.published)
            container.amend(took_over=False)
            if isinstance(error, PystackError):
                raise located(error, state.project, definition) from error
            raise
        container.amend(endpoints=endpoints, published=published)
    container.amend(took_over=True)
    container.save()
    if old is not None:
        old.amend(published=(), wanted=Wanted.STOPPED)
        old.save()


def _reserve(state: EngineState, container: Container, service: Service) -> tuple[Endpoint, ...]:
    """A container's hostname is one of its names for the others too, as for Docker, and so is the whole of it; and its
    usual name, when it has the other one of two. One that is not announced has no name."""
    shared = any(key in state.networks and state.networks[key].external for key in service.networks)
    for link in service.links if not shared else ():
        if link.external and ContainerId(link.target) not in state.containers:
            hint = "a container of another project needs a network that both projects are on: `external: true`"
            raise OperationError(f'this project has no container "{link.target}"', hint=hint, place=link.place)
    dns, links = service.resolving.servers, tuple((link.alias, link.target) for link in service.links)
    attachments = tuple(replace(each, dns=dns, links=(*links, *each.links)) for each in service.networks.values())
    if service.hostname:
        own = (service.hostname, *([f"{service.hostname}.{service.domainname}"] if service.domainname else []))
        attachments = tuple(replace(each, aliases=(*each.aliases, *own)) for each in attachments)
    if (usual := _volume_owner(state, container)) != container.id:
        attachments = tuple(replace(each, aliases=(*each.aliases, usual)) for each in attachments)
    networking, with_service = state.adapters.networking, not container.record.own_name_only
    endpoints = networking.reserve(container.id, service.name, attachments, with_service)
    if not container.record.announced:
        endpoints = tuple(replace(endpoint, names=()) for endpoint in endpoints)
        networking.restore(container.id, endpoints)
    return endpoints


async def _compile(state: EngineState, container: Container, project: Project) -> SandboxSpec:
    assert container.image is not None
    definition = container.definition
    owner = sharing.owners_of(state, definition).get("network")
    if definition.volumes_from:
        volumes = (*definition.volumes, *inherited_mounts(state, definition))
        definition = replace(definition, volumes=volumes)
    return state.compile_sandbox(
        SandboxInputs(
            site=state.adapters.site,
            container=container.id,
            service=replace(definition, files=with_granted_values(definition.files, state.secrets)),
            image=container.image,
            endpoints=container.record.endpoints,
            volume_paths=await _volume_paths(state, container, definition, project),
            mounted_images=state.mounted(container.definition, project),
            instance=container.instance,
            shares=sharing.shares_of(state, definition),
            host_name=(owner.definition.hostname or default_hostname(owner.id)) if owner is not None else "",
            log=_log_policy(container),
        )
    )


def _log_policy(container: Container) -> LogPolicy:
    """What runs before a service is read from its log. The output of a one-off that somebody reads comes to them by its
    log, too: however slowly they read, nothing of it may be gone (``run db pg_dump | xz``)."""
    logging, read = container.definition.logging, container.reader is not None and container.reader.reading
    if container.instance.role is Role.INIT:
        return LogPolicy()
    if not logging.kept:
        return LogPolicy(kept=read)
    policy = LogPolicy(logging.max_bytes, logging.max_files)
    return replace(policy, held_bytes=0) if read else policy


async def _volume_paths(
    state: EngineState, container: Container, service: Service, project: Project
) -> Mapping[str, str]:
    """Mount target -> host directory, for the service's volumes and those its image declares."""
    volumes, owner = state.adapters.volumes, _volume_owner(state, container)
    paths: dict[str, str] = {}
    for mount in service.volumes:
        if mount.kind is not MountKind.VOLUME:
            continue
        definition = next((item for key, item in project.volumes.items() if key == mount.source), None)
        try:
            if definition is not None:
                paths[mount.target] = await ensure_volume(state, definition)
            else:
                paths[mount.target] = volumes.ensure_anonymous(owner, mount.target, dict(mount.labels))
        except PystackError as error:
            raise located(error, project, service, "volumes") from error
    mounted = {clean_path(mount.target) for mount in service.volumes}
    assert container.image is not None
    for target in map(clean_path, container.image.config.volumes):
        if target not in mounted:
            paths[target] = volumes.ensure_anonymous(owner, target)
    return paths
