"""Taking over what exists after a (re)start of the supervisor.

A live run is supervised again, with its ports and names re-established and its health probed anew. A run that ended
meanwhile meets the restart policy now. What was stopped stays stopped. What was wanted and is not there, because the
supervisor was killed amid an operation or the machine was rebooted, is made by the same reconciliation that `up` uses:
`adopt` returns those containers. A fresh start is the same path with nothing to take over.

Every container is kept by what its record says it was made from, whatever the files say by now. Nothing in here ends the
supervisor: what goes wrong with one container is said of that container.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import trio

from orchestrator.contracts.events import EventKind
from orchestrator.contracts.images import Image, ImageRequest, Known
from orchestrator.contracts.runtime import ContainerState, Exit
from orchestrator.contracts.state import ContainerRecord, ProjectRecord, Wanted
from orchestrator.errors import PystackError
from orchestrator.model.names import SINGLE, ContainerId, Role
from orchestrator.model.network import Network
from orchestrator.model.volume import mounted_images
from orchestrator.plan.hashing import identities_in
from orchestrator.plan.images import image_request, mounted_request
from orchestrator.policy.exits import describe_exit
from orchestrator.policy.lifecycle import Trigger
from orchestrator.policy.restart import GiveUp, Restart, returns_at_boot
from orchestrator.scheduler import chaos, hooks, pausing, sandbox, sharing, supervise
from orchestrator.scheduler.container import Container
from orchestrator.scheduler.engine_state import EngineState
from orchestrator.scheduler.live_run import LiveRun

_STORED = "sha256:"
"""How the identity of an image of the store begins."""
_UNWATCHED = "ended while no supervisor was there"


async def adopt(state: EngineState, record: ProjectRecord) -> tuple[ContainerId, ...]:
    """Take over the containers of `record`; returns those that are wanted and have still to be started, sorted."""
    state.project, state.jobs = record.project, record.jobs
    sandboxes = {found.container: found for found in await state.adapters.runtime.containers()}
    containers = [state.add(item) for item in record.containers]
    await _restore_networks(state, record, [item for item in containers if item.id in sandboxes])
    containers = await _end_updates(state, containers, sandboxes)
    wanting: list[ContainerId] = []

    async def take(container: Container) -> None:
        if await _take(state, container, sandboxes.get(container.id)):
            wanting.append(container.id)

    # Those last whose runs are in the namespaces of the others' runs.
    for last in (False, True):
        async with trio.open_nursery() as nursery:
            for container in containers:
                if sharing.needs_runs(container.definition) is last:
                    nursery.start_soon(take, container)
    await chaos.mend(state)
    return tuple(sorted(wanting))


async def _end_updates(
    state: EngineState, containers: list[Container], sandboxes: Mapping[ContainerId, ContainerState]
) -> list[Container]:
    """Of two containers in one place (`scheduler.rolling`) one goes before the other is taken over, which may need its
    ports; nobody knows by now who is connected to it."""
    surplus = {item.record.surplus for item in containers if item.record.succeeds in state.containers}
    for name in sorted(surplus):
        container = state.containers[name]
        container.note(EventKind.WARNING, f"removing {name}: an update of {container.service} did not end")
        if (found := sandboxes.get(name)) is not None and found.last_run:
            await _end_run(state, container, found)
        await supervise.remove_for_good(state, container)
    for item in containers:
        if item.record.succeeds and item.record.succeeds not in state.containers:
            item.amend(succeeds=ContainerId(""), took_over=False)
    return [item for item in containers if item.id in state.containers]


async def _end_run(state: EngineState, container: Container, found: ContainerState) -> None:
    """End its run, if it has one, and tell that."""
    runtime = state.adapters.runtime
    container.exit = _last_exit(container.record, found)
    if found.run is not None:
        try:
            with trio.move_on_after(supervise.KILL_DEADLINE_S):
                await runtime.kill(container.id)
                container.exit = await runtime.wait(found.run)
        except PystackError as error:
            container.note(EventKind.WARNING, f"cannot tell how {container.id} ended: {error}")
    _tell_end(container, found, EventKind.CONTAINER_STOPPED, "ended, for its update did not end")


async def _restore_networks(state: EngineState, record: ProjectRecord, containers: list[Container]) -> None:
    """The networks of the sandboxes that exist, then exactly the addresses these had; and networks that are in no stack any
    more, or nobody would ever remove them."""
    made = {network.key: network for network in record.networks}
    used = {endpoint.network for item in containers for endpoint in item.record.endpoints}
    by_hand = {network.key: network for item in containers for network in item.record.manual.networks}
    known = {**by_hand, **record.project.networks, **made}
    networks = [known[key] for key in sorted(used) if key in known]
    networking = state.adapters.networking
    state.reserve_written(record.project)
    await _ensure(state, networks)
    for item in containers:
        networking.restore(item.id, item.record.endpoints, item.record.published)
    await _ensure(state, [made[key] for key in sorted(made.keys() - used - record.project.networks.keys())])


async def _ensure(state: EngineState, networks: Sequence[Network]) -> None:
    """Those that exist. What is wrong with one that is shared must not keep the project from its own."""
    own = [network for network in networks if not network.external]
    for part in filter(None, [own, *([network] for network in networks if network.external)]):
        try:
            await state.adapters.networking.ensure(part)
            state.networks.update((network.key, network) for network in part)
        except PystackError as error:
            state.warn("cannot take over the networks", error)


async def _take(state: EngineState, container: Container, found: ContainerState | None) -> bool:
    """One container. True: it is wanted, and has to be made or started by an operation."""
    record = container.record
    if container.instance.role is Role.INIT:  # Whoever waited for it is gone: it begins anew, if it is still wanted.
        await supervise.remove_for_good(state, container)
        return False
    container.exit = _last_exit(record, found)
    container.history = supervise.fresh_history(container)
    container.image = await _image(state, container)
    await _see_mounted(state, container)
    if found is not None and found.run is not None:
        await _take_running(state, container, found)
        return False
    never_ran = found is not None and found.last_run == 0
    rebooted = bool(record.boot_id and state.boot_id and record.boot_id != state.boot_id)
    if container.instance.role in SINGLE:
        if record.due_at and record.wanted is Wanted.RUNNING and not rebooted and (found is None or never_ran):
            if found is not None:
                container.step(Trigger.CREATED, "created, never started")
            return True  # Its schedule asked for it, and is there again.
        _take_ended_one_off(state, container, found)
        return False
    if rebooted and returns_at_boot(container.definition.restart) and _was_stopped(record):
        container.amend(wanted=Wanted.RUNNING)
        record = container.record
    if record.wanted is Wanted.STOPPED and never_ran:
        container.step(Trigger.CREATED, "created, never started")
        return False
    if record.wanted is Wanted.STOPPED:
        if found is not None:
            _tell_end(container, found, EventKind.CONTAINER_STOPPED)
        container.step(Trigger.ENDED_DONE, "stopped by request")
        return False
    if record.gave_up:
        container.step(Trigger.ENDED_FAILED, record.gave_up)
        return False
    if found is None and not rebooted:
        return True
    if never_ran and not rebooted:
        container.step(Trigger.CREATED, "created, never started")
        return True
    return _meet_policy(state, container, found, rebooted)


def _was_stopped(record: ContainerRecord) -> bool:
    """By a user, after it had run."""
    return record.wanted is Wanted.STOPPED and record.last_exit is not None and not record.gave_up


def _last_exit(record: ContainerRecord, found: ContainerState | None) -> Exit | None:
    """What the runtime knows; the record may know more of the same end."""
    last = found.last_exit if found is not None else None
    return record.last_exit if last is None or (record.last_exit and record.last_exit.is_end_of(last)) else last


async def _take_running(state: EngineState, container: Container, found: ContainerState) -> None:
    assert found.run is not None
    try:
        await sandbox.wire(state, container)
    except PystackError as error:
        container.note(EventKind.WARNING, f"cannot re-establish ports and names of {container.id}: {error}")
    run = container.run = LiveRun(container.check)
    # The monotonic clock of another process says nothing here; the age counts for start_period and back-off alone.
    if found.run.number != container.record.greeted:
        run.hook = hooks.first_of(container)  # Once more, if it was under way.
    run.begin(found.run, age_s=max(0.0, state.events.wall_clock() - found.run.started_at))
    run.joined = sharing.runs_of(state, container)
    run.orphaned = sharing.left_behind(state, container, run)
    if run.orphaned:
        run.end(container.definition.stop_grace_s)
    container.step(Trigger.FOUND_RUNNING, "running (taken over)")
    container.began = False
    if container.record.paused and chaos.is_paused_by_fault(container):
        await chaos.let_go(state, container)
    elif container.record.paused:
        await pausing.stays_paused(state, container)
    container.note(
        EventKind.CONTAINER_STARTED, f"took over {container.id}, which runs", number=found.run.number, adopted=True
    )
    supervise.launch(state, container, adopted=run)


def _take_ended_one_off(state: EngineState, container: Container, found: ContainerState | None) -> None:
    """It is never started again: whoever asked for it is gone."""
    if found is None:
        container.step(Trigger.REMOVED, "its operation did not end")
        state.drop(container)
        return
    if found.last_run == 0:
        container.amend(wanted=Wanted.STOPPED)
        container.step(Trigger.CREATED, "its operation did not end")
        assert state.nursery is not None, "Engine.run is not running"
        state.nursery.start_soon(supervise.remove_for_good, state, container)
        return
    # It may have ended under the eyes of another supervisor, or of none: how it ended is known all the same.
    container.exit = container.exit or Exit()
    _tell_end(container, found, EventKind.CONTAINER_EXITED)
    container.step(Trigger.ENDED_DONE, describe_exit(container.exit))
    supervise.remove_if_due(state, container)


def _meet_policy(state: EngineState, container: Container, found: ContainerState | None, rebooted: bool) -> bool:
    """A run ended while nobody watched: the restart policy decides now. What ended before the reboot is not lost by it."""
    lost = rebooted and container.record.last_exit is None
    exit = Exit() if lost else container.exit or Exit()
    if orphaned := sharing.ended_with(state, container, exit):
        container.run = LiveRun(container.check, orphaned=orphaned)
    decision = supervise.judge_end(state, container, exit, 0.0)
    container.exit = exit
    what = "was lost at reboot" if lost else _UNWATCHED
    _tell_end(container, found, EventKind.CONTAINER_EXITED, what, restarts=isinstance(decision, Restart))
    if isinstance(decision, Restart) and found is None:
        container.amend(restarts=container.record.restarts + 1)
        return True
    if isinstance(decision, GiveUp) and lost:
        decision = GiveUp("lost at reboot", decision.why, decision.failed)
    delay_s = supervise.settle_end(state, container, exit, decision)
    if delay_s is not None:
        supervise.launch(state, container, delay_s=delay_s)
    return False


def _tell_end(
    container: Container, found: ContainerState | None, kind: EventKind, what: str = _UNWATCHED, *, restarts: bool = False
) -> None:
    """The end of its last run, unless a supervisor has told it; one of which nobody knows how (`Exit()`), too."""
    exit, known = container.exit or Exit(), container.record.last_exit
    if known is not None and exit.is_end_of(known):
        return
    run = {"run": found.last_run} if found is not None else {}
    container.note(
        kind,
        f"{container.label} {what}",
        exit_status=exit.status,
        signal=exit.signal,
        oom=exit.oom_killed,
        oom_kills=exit.oom_kills,
        restarts=restarts,
        **run,
    )
    container.amend(last_exit=exit)


async def _image(state: EngineState, container: Container) -> Image:
    """The image it was made from, to open its sandbox again, also when its name means another one by now; what is kept of
    it otherwise is in the record."""
    reference, identity = container.definition.image, container.record.definition.image
    request = image_request(state.project, container.definition)
    made_from = identities_in(identity)[0]
    try:
        found = await state.adapters.images.inspect(request)
        if made_from.startswith(_STORED) and not (isinstance(found, Known) and found.image.identity == made_from):
            with suppress(PystackError):  # It is not in the store, or was none of it.
                by_id = await state.adapters.images.inspect(ImageRequest(made_from, state.project.working_dir))
                found = by_id if isinstance(by_id, Known) else found
    except PystackError as error:
        if reference:
            container.note(EventKind.WARNING, f"{container.label}: {error}")
        return Image(reference, identity, ())
    return found.image if isinstance(found, Known) else Image(reference, identity, ())


async def _see_mounted(state: EngineState, container: Container) -> None:
    """Look at the images that it mounts; one that is gone is told when the sandbox is opened again."""
    for reference in mounted_images(container.definition.volumes):
        request = mounted_request(state.project, reference)
        if request not in state.images:
            with suppress(PystackError):
                found = await state.adapters.images.inspect(request)
                if isinstance(found, Known):
                    state.images[request] = found.image
