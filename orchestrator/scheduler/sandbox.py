"""Making, wiring and removing the sandbox of a container.

The order of making: addresses -> the OCI config -> the record (intent) -> the sandbox -> its network. What fails or is
cancelled half-way is undone, unless the sandbox existed before and may hold somebody's files.
"""

from __future__ import annotations

from collections.abc import Mapping

import trio

from orchestrator.contracts.events import EventKind
from orchestrator.contracts.network import Endpoint
from orchestrator.contracts.runtime import SandboxSpec
from orchestrator.errors import PystackError
from orchestrator.model.project import Project
from orchestrator.model.volume import MountKind
from orchestrator.plan.oci import SandboxInputs
from orchestrator.policy.lifecycle import Happening
from orchestrator.scheduler.crew import Crew
from orchestrator.scheduler.faults import located
from orchestrator.scheduler.keeper import Keeper

UNDO_DEADLINE_S = 30.0


async def make(crew: Crew, keeper: Keeper, digest: str) -> None:
    """A sandbox for a container that has none, wired and ready for its first run.

    Raises the adapters' errors, pointed into the compose file; nothing is left behind then.
    """
    keeper.note(EventKind.CONTAINER_CREATING, f"creating {keeper.container}")
    try:
        endpoints = _reserve(crew, keeper)
        keeper.amend(
            config_hash=digest,
            endpoints=endpoints,
            published=(),
            created_at=crew.chronicle.wall_clock(),
            boot_id=crew.boot_id,
            last_exit=None,
        )
        keeper.intend()
        spec = _compile(crew, keeper)
        keeper.netns_fd = await crew.adapters.runtime.create(spec)
        await wire(crew, keeper)
    except PystackError as error:
        await undo(crew, keeper)
        raise located(error, crew.project, keeper.service) from error
    except trio.Cancelled:
        await undo(crew, keeper)
        raise
    keeper.fresh = True
    keeper.exit = None
    keeper.step(Happening.CREATED, "created")
    keeper.note(EventKind.CONTAINER_CREATED, f"created {keeper.container}")


async def wire(crew: Crew, keeper: Keeper) -> None:
    """Addresses, published ports and names for a sandbox; does nothing when they are up. A sandbox that this supervisor has
    not made is opened first."""
    if keeper.wired:
        return
    if keeper.netns_fd is None:
        if not keeper.record.endpoints and keeper.service.networks:
            keeper.amend(endpoints=_reserve(crew, keeper))
        keeper.netns_fd = await crew.adapters.runtime.create(_compile(crew, keeper))
    keeper.wired = True  # Before the await: if it is cancelled half-way, `unwire` has something to undo.
    try:
        published = await crew.adapters.networking.attach(
            keeper.container,
            keeper.netns_fd,
            keeper.record.endpoints,
            keeper.service.ports,
            keeper.record.published,
        )
    except PystackError:
        keeper.wired = False
        raise
    keeper.amend(published=published)


async def unwire(crew: Crew, keeper: Keeper) -> None:
    """Free the ports and names of a container that does not run; its addresses stay reserved. A failure is a warning."""
    if not keeper.wired:
        return
    try:
        await crew.adapters.networking.detach(keeper.container)
    except PystackError as error:
        keeper.note(EventKind.WARNING, f"cannot take {keeper.container} off its networks: {error}")
    keeper.wired = False


async def remove(crew: Crew, keeper: Keeper, *, anonymous: bool, stays_wanted: bool) -> None:
    """Remove the container with everything of it. `anonymous`: its anonymous volumes too. `stays_wanted`: the record stays,
    because a new container follows. Tries everything, then raises the first error."""
    errors = await _dismantle(crew, keeper)
    if anonymous:
        try:
            crew.adapters.volumes.remove_anonymous(keeper.container)
        except PystackError as error:
            errors.append(error)
    if errors:
        raise errors[0]
    keeper.exit = None
    keeper.step(Happening.CLEARED if stays_wanted else Happening.REMOVED, "removed")
    keeper.note(EventKind.CONTAINER_REMOVED, f"removed {keeper.container}")


async def undo(crew: Crew, keeper: Keeper) -> None:
    """Take away the sandbox of a container that has never run. Errors become warnings: the cause has been reported."""
    # Shielded, so that cancelling an operation leaves no half-made container; it ends by its deadline at the latest.
    with trio.move_on_after(UNDO_DEADLINE_S, shield=True) as scope:
        for error in await _dismantle(crew, keeper):
            keeper.note(EventKind.WARNING, f"cannot remove what was made of {keeper.container}: {error}")
    if scope.cancelled_caught:
        keeper.note(EventKind.WARNING, f"removing {keeper.container} took longer than {UNDO_DEADLINE_S:.0f} s")


async def _dismantle(crew: Crew, keeper: Keeper) -> list[PystackError]:
    errors: list[PystackError] = []
    for take_away in (crew.adapters.networking.detach, crew.adapters.runtime.remove):
        try:
            await take_away(keeper.container)
        except PystackError as error:
            errors.append(error)
    crew.adapters.networking.release(keeper.container)
    keeper.wired = False
    keeper.fresh = False
    keeper.netns_fd = None
    keeper.amend(endpoints=(), published=())
    return errors


def _reserve(crew: Crew, keeper: Keeper) -> tuple[Endpoint, ...]:
    attachments = tuple(keeper.service.networks.values())
    return crew.adapters.networking.reserve(keeper.container, keeper.name, attachments)


def _compile(crew: Crew, keeper: Keeper) -> SandboxSpec:
    assert keeper.image is not None
    return crew.compile_sandbox(
        SandboxInputs(
            site=crew.adapters.site,
            container=keeper.container,
            service=keeper.service,
            image=keeper.image,
            endpoints=keeper.record.endpoints,
            volume_paths=_volume_paths(crew, crew.project, keeper),
        )
    )


def _volume_paths(crew: Crew, project: Project, keeper: Keeper) -> Mapping[str, str]:
    """Mount target -> host directory, for the service's volumes and those its image declares."""
    volumes = crew.adapters.volumes
    paths: dict[str, str] = {}
    for mount in keeper.service.volumes:
        if mount.kind is not MountKind.VOLUME:
            continue
        definition = next((item for key, item in project.volumes.items() if key == mount.source), None)
        try:
            if definition is not None:
                paths[mount.target] = volumes.ensure(definition)
            else:
                paths[mount.target] = volumes.ensure_anonymous(keeper.container, mount.target)
        except PystackError as error:
            raise located(error, project, keeper.service, "volumes") from error
    mounted = {mount.target for mount in keeper.service.volumes}
    assert keeper.image is not None
    for target in keeper.image.config.volumes:
        if target not in mounted:
            paths[target] = volumes.ensure_anonymous(keeper.container, target)
    return paths
