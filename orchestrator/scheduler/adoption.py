"""Taking over what exists after a (re)start of the supervisor.

A live run is supervised again, with its ports and names re-established and its health probed anew. A run that ended
meanwhile meets the restart policy now. What was stopped stays stopped. What was wanted and is not there, because the
supervisor was killed amid an operation or the machine was rebooted, is made by the same reconciliation that `up` uses:
`adopt` returns those services. A fresh start is the same path with nothing to take over.

Nothing in here ends the supervisor: what goes wrong with one container is said of that container.
"""

from __future__ import annotations

import trio

from orchestrator.contracts.events import EventKind
from orchestrator.contracts.images import Image
from orchestrator.contracts.network import written_addresses
from orchestrator.contracts.runtime import ContainerState, Exit
from orchestrator.contracts.state import ContainerRecord, ProjectRecord, Wanted
from orchestrator.errors import PystackError
from orchestrator.model.names import ServiceName
from orchestrator.model.service import Service
from orchestrator.policy.lifecycle import Happening
from orchestrator.policy.restart import GiveUp, Restart
from orchestrator.scheduler import sandbox, supervise
from orchestrator.scheduler.crew import Crew
from orchestrator.scheduler.keeper import Keeper


async def adopt(crew: Crew, record: ProjectRecord) -> tuple[ServiceName, ...]:
    """Take over the containers of `record`; returns the services that are wanted and have still to be started, sorted."""
    crew.project = record.project
    crew.adapters.networking.reserve_written(written_addresses(record.project.services.values()))
    sandboxes = {state.container: state for state in await crew.adapters.runtime.containers()}
    keepers = [crew.hire(_definition(record, item), item) for item in record.containers]
    await _restore_networks(crew, [keeper for keeper in keepers if keeper.container in sandboxes])
    wanting: list[ServiceName] = []

    async def take(keeper: Keeper) -> None:
        if await _take(crew, keeper, sandboxes.get(keeper.container)):
            wanting.append(keeper.name)

    async with trio.open_nursery() as nursery:
        for keeper in keepers:
            nursery.start_soon(take, keeper)
    return tuple(sorted(name for name in wanting if name in record.project.services))


def _definition(record: ProjectRecord, item: ContainerRecord) -> Service:
    """The service as recorded. That of an orphan is no longer known: it is only watched, and stopped in the usual way."""
    return record.project.services.get(item.service) or Service(name=item.service, image="")


async def _restore_networks(crew: Crew, keepers: list[Keeper]) -> None:
    """The networks of the sandboxes that exist, then exactly the addresses these had."""
    used = {endpoint.network for keeper in keepers for endpoint in keeper.record.endpoints}
    networks = [crew.project.networks[key] for key in sorted(used) if key in crew.project.networks]
    try:
        if networks:
            await crew.adapters.networking.ensure(networks)
            crew.networks.update(network.key for network in networks)
        for keeper in keepers:
            crew.adapters.networking.restore(keeper.container, keeper.record.endpoints, keeper.record.published)
    except PystackError as error:
        crew.chronicle.note(EventKind.WARNING, f"cannot take over the networks: {error}")


async def _take(crew: Crew, keeper: Keeper, state: ContainerState | None) -> bool:
    """One container. True: it is wanted, and has to be made or started by an operation."""
    record = keeper.record
    keeper.exit = (state.last_exit if state is not None else None) or record.last_exit
    keeper.history = supervise.fresh_history(keeper)
    crew.outfit(keeper, await _image(crew, keeper))
    if state is not None and state.run is not None:
        await _take_running(crew, keeper, state)
        return False
    if record.wanted is Wanted.STOPPED:
        keeper.step(Happening.ENDED_DONE, "stopped by request")
        return False
    if record.gave_up:
        keeper.step(Happening.ENDED_FAILED, record.gave_up)
        return False
    rebooted = bool(record.boot_id and crew.boot_id and record.boot_id != crew.boot_id)
    if state is None and not rebooted:
        return True
    if state is not None and state.last_run == 0 and not rebooted:
        keeper.step(Happening.CREATED, "created, never started")
        return True
    return _meet_policy(crew, keeper, state, rebooted)


async def _take_running(crew: Crew, keeper: Keeper, state: ContainerState) -> None:
    assert state.run is not None
    keeper.run = state.run
    try:
        if keeper.name in crew.project.services:  # What an orphan published is no longer known.
            await sandbox.wire(crew, keeper)
    except PystackError as error:
        keeper.note(EventKind.WARNING, f"cannot re-establish ports and names of {keeper.container}: {error}")
    keeper.step(Happening.FOUND_RUNNING, "running (taken over)")
    keeper.began = False
    # The monotonic clock of another process says nothing here; the age counts for start_period and back-off alone.
    keeper.born_s -= max(0.0, crew.chronicle.wall_clock() - state.run.started_at)
    keeper.note(
        EventKind.CONTAINER_STARTED, f"took over {keeper.container}, which runs", number=state.run.number, adopted=True
    )
    supervise.launch(crew, keeper, adopted=state.run)


def _meet_policy(crew: Crew, keeper: Keeper, state: ContainerState | None, rebooted: bool) -> bool:
    """A run ended while nobody watched: the restart policy decides now."""
    exit = Exit() if rebooted else keeper.exit or Exit()
    if exit != keeper.record.last_exit:
        what = "was lost at reboot" if rebooted else "ended while no supervisor was there"
        keeper.note(EventKind.CONTAINER_EXITED, f"{keeper.name} {what}", exit_status=exit.status, oom=exit.oom_killed)
    keeper.exit = exit
    keeper.amend(last_exit=exit)
    decision = supervise.judge_end(keeper, exit, 0.0)
    if isinstance(decision, Restart) and state is None:
        keeper.amend(restarts=keeper.record.restarts + 1)
        return True
    if isinstance(decision, GiveUp) and rebooted:
        decision = GiveUp(f"lost at reboot; {decision.reason.partition('; ')[2]}", decision.failed)
    delay_s = supervise.settle_end(crew, keeper, exit, decision)
    if delay_s is not None:
        supervise.launch(crew, keeper, delay_s=delay_s)
    return False


async def _image(crew: Crew, keeper: Keeper) -> Image:
    """The image, for its health check and stop signal; without it, the service's own must do."""
    try:
        return await crew.image(crew.project, keeper.service)
    except PystackError as error:
        if keeper.service.image:
            keeper.note(EventKind.WARNING, f"{keeper.name}: {error}")
        return Image(keeper.service.image, "", ())
