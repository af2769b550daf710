"""What follows for its dependents when a container has crashed and its policy restarts it (docs/health-restarts.md).

There is a task for each service that depends on it, until it is back. Who is to be restarted is so then: by an operation of
its own, which keeps its hands off what a user's operation has claimed, and gives way to one. Who is to be frozen is so at
once, and goes on when the crashed one is back, or when nobody will start it again: nothing stands still for ever. The
record says for whom it is frozen, so a supervisor that takes it over goes on waiting.

Only the run that was there when the other crashed is concerned: what was started since knows nothing of what was before.
"""

from __future__ import annotations

from collections.abc import Iterator

import trio

from orchestrator.contracts.events import EventKind
from orchestrator.errors import PystackError
from orchestrator.model.names import ContainerId, Role
from orchestrator.model.phase import Phase
from orchestrator.model.service import Cascade
from orchestrator.plan.cascade import plan_cascade
from orchestrator.policy.conditions import Met, Never, NotYet, Verdict, recovered
from orchestrator.scheduler import pausing
from orchestrator.scheduler.claims import Claims, Priority
from orchestrator.scheduler.container import Container, Watch
from orchestrator.scheduler.engine_state import EngineState
from orchestrator.scheduler.execution import Execution
from orchestrator.scheduler.live_run import LiveRun
from orchestrator.scheduler.planning import look

Followers = list[tuple[Container, LiveRun]]


def begin(state: EngineState, claims: Claims, leader: Container) -> None:
    """`leader` has crashed, and will be started again."""
    if state.nursery is None or leader.instance.role is not Role.REPLICA:
        return
    for mode, followers in _followers(state, claims, leader):
        waiting = {(leader.id, container.id) for container, _ in followers}
        state.cascades |= waiting
        state.nursery.start_soon(_follow, state, claims, leader, mode, followers)


async def _follow(state: EngineState, claims: Claims, leader: Container, mode: Cascade, followers: Followers) -> None:
    try:
        if mode is Cascade.FREEZE:
            await _freeze(state, leader, followers)
        else:
            await _restart(state, claims, leader, followers)
    finally:
        state.cascades -= {(leader.id, container.id) for container, _ in followers}


def resume(state: EngineState) -> None:
    """Of containers that a supervisor before this one has frozen: go on waiting for those that they are frozen for."""
    assert state.nursery is not None, "Engine.run is not running"
    for container in state.containers.values():
        if container.phase is Phase.PAUSED and container.run is not None:
            for name in container.record.frozen_for:
                state.nursery.start_soon(_thaw_in_time, state, name, container, container.run)


def _followers(state: EngineState, claims: Claims, leader: Container) -> Iterator[tuple[Cascade, Followers]]:
    """Those that run now, by service; without what an operation has in hand, and what waits for `leader` already."""
    for name, service in state.project.services.items():
        edge = service.depends_on.get(leader.service)
        if edge is None or edge.after_crash is Cascade.IGNORE:
            continue
        idle = [item for item in state.replicas(name) if (leader.id, item.id) not in state.cascades]
        live = [item for item in idle if claims.free(item.id) and item.phase in (Phase.RUNNING, Phase.PAUSED)]
        running = [(item, item.run) for item in live]
        if found := [(item, run) for item, run in running if run is not None]:
            yield edge.after_crash, found


async def _until_back(leader: Container) -> Verdict:
    """Met, or Never when nobody starts it again."""
    settled: list[Verdict] = []
    over = trio.Event()

    def settle(verdict: Verdict) -> None:
        settled.append(verdict)
        over.set()

    watch = Watch(recovered, settle)
    if not isinstance(verdict := leader.watch(watch), NotYet):
        return verdict
    try:
        await over.wait()
    finally:
        leader.unwatch(watch)
    return settled[0]


async def _restart(state: EngineState, claims: Claims, leader: Container, followers: Followers) -> None:
    if not isinstance(await _until_back(leader), Met):
        return
    try:
        observed = await look(state, state.project)
        same = [item for item, run in followers if item.run is run and item.phase is Phase.RUNNING]
        left = {item.id for item in same if claims.free(item.id)}
        plan = plan_cascade(leader.service, left, observed, state.project)
        if claims.held(plan.containers):  # Of those that follow the followers.
            plan = plan_cascade(leader.service, left, observed, state.project, alone=True)
        if plan.empty:
            return
        for name in sorted(left):
            _tell(state.containers[name], leader, Cascade.RESTART, f"is restarted: {leader.label} had crashed, and is back")
        await Execution(state, claims, plan, Priority.CASCADE).run()
    except PystackError as error:
        state.warn(f"cannot restart what depends on {leader.label}", error)


async def _freeze(state: EngineState, leader: Container, followers: Followers) -> None:
    async with trio.open_nursery() as nursery:
        for container, run in followers:
            if await _frozen(state, leader, container, run):
                nursery.start_soon(_thaw_in_time, state, leader.id, container, run)


async def _frozen(state: EngineState, leader: Container, container: Container, run: LiveRun) -> bool:
    """Whether it stands still for `leader` now. One that is paused by a user stays his."""
    record, phase = container.record, container.phase
    if container.run is not run or not (phase is Phase.RUNNING or (phase is Phase.PAUSED and record.frozen_for)):
        return False
    container.amend(frozen_for=tuple(sorted({*record.frozen_for, leader.id})))
    if phase is Phase.PAUSED:
        container.save()
        return True
    try:
        await pausing.pause(state, container, f"frozen until {leader.label} is back")
    except PystackError as error:
        container.amend(frozen_for=())
        container.note(EventKind.WARNING, f"cannot freeze {container.id}: {error}")
        return False
    _tell(container, leader, Cascade.FREEZE, f"is frozen: {leader.label} crashed, and is restarted")
    return True


async def _thaw_in_time(state: EngineState, name: ContainerId, container: Container, run: LiveRun) -> None:
    """It goes on when `name` is back, or will never be, unless it is frozen for another one, too."""
    leader = state.containers.get(name)
    verdict = await _until_back(leader) if leader is not None else Never("it is gone")
    record = container.record
    if container.run is not run or name not in record.frozen_for:
        return  # It was stopped, has ended, or somebody has let it go on.
    container.amend(frozen_for=tuple(other for other in record.frozen_for if other != name))
    if container.record.frozen_for:
        container.save()
        return
    try:
        await pausing.unpause(state, container)
    except PystackError as error:
        container.note(EventKind.WARNING, f"cannot let {container.id} go on: {error}")
        return
    if leader is not None:
        back = "is back" if isinstance(verdict, Met) else "does not come back"
        _tell(container, leader, Cascade.FREEZE, f"goes on: {leader.label} {back}")


def _tell(container: Container, leader: Container, mode: Cascade, text: str) -> None:
    container.note(EventKind.CASCADE, f"{container.label} {text}", on=leader.service, mode=mode.value)
