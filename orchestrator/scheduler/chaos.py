"""Faults on purpose (docs/chaos.md): made, followed as containers come and go, and ended by their time.

What can go wrong is that one outlives whoever would end it. So a fault is written into the records of the containers that
it is about before anything is done, and a supervisor that takes them over undoes it (`mend`): nobody knows by then how long
it was to last. Faults of the network are stated to the adapter as a whole, whenever one begins or ends, before a container
gets on its networks, and after one has left.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import trio

from orchestrator.contracts.events import EventKind
from orchestrator.contracts.injecting import Standing
from orchestrator.contracts.network import Delay, Impairment, Loss, NoNames, Rate
from orchestrator.errors import InputError, OperationError, PystackError
from orchestrator.model.chaos import OUTSIDE, FaultKind, Injection
from orchestrator.model.names import ServiceName
from orchestrator.model.phase import Phase
from orchestrator.scheduler import pausing
from orchestrator.scheduler.container import Container
from orchestrator.scheduler.engine_state import EngineState
from orchestrator.units import format_duration
from orchestrator.values import entity, field

RETRY_S = 1.0
_UNDO_S = 30.0


@entity
class LiveFault:
    """`begun_at`: epoch seconds. `ends_s`: by the event loop's clock. `paused`: whom it has paused."""

    id: str
    injection: Injection
    begun_at: float
    ends_s: float
    paused: list[Container] = field(default_factory=list)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


def standing(fault: LiveFault) -> Standing:
    left_s = None if fault.ends_s == math.inf else max(0.0, fault.ends_s - trio.current_time())
    return Standing(fault.id, fault.injection, str(fault.injection), fault.begun_at, left_s)


async def inject(state: EngineState, injection: Injection) -> Standing:
    """See `Engine.inject`."""
    assert state.nursery is not None, "Engine.run is not running"
    ends = _checked_ends(state, injection)
    state.injections += 1
    name = f"{injection.kind.value}-{state.injections}"
    ends_s = trio.current_time() + injection.for_s if injection.for_s or not injection.kind.lasts else math.inf
    fault = LiveFault(name, injection, state.events.wall_clock(), ends_s)
    if not injection.kind.lasts:
        await _strike(state, fault, ends)
        return standing(fault)
    if injection.kind is FaultKind.PAUSE:
        fault.paused = ends
    state.faults[name] = fault
    try:
        _write_down(state)
        await _begin(state, fault)
    except BaseException:
        # Shielded, so that a cancelled request leaves nothing half-made; the adapters have deadlines of their own.
        with trio.move_on_after(_UNDO_S, shield=True):
            await _end_or_warn(state, fault)
        raise
    _tell(state, fault, "begin")
    if ends_s != math.inf:
        state.nursery.start_soon(_expire, state, fault)
    return standing(fault)


async def undo(state: EngineState, names: Collection[str]) -> tuple[Standing, ...]:
    """See `Engine.undo`."""
    for name in names:
        if name not in state.faults:
            known = ", ".join(state.faults) or "none"
            raise InputError(f'no fault "{name}" stands', hint=f"those that do: {known}")
    ended = [state.faults[name] for name in dict.fromkeys(names)]
    for fault in ended:
        await _end(state, fault)
    return tuple(map(standing, ended))


async def end_all(state: EngineState) -> None:
    """What cannot be undone is a warning."""
    for fault in list(state.faults.values()):
        await _end_or_warn(state, fault)


async def end_pointless(state: EngineState) -> None:
    """Those whose containers are all gone."""
    there = {name for item in state.containers.values() for name in (item.service, item.id)}
    for fault in list(state.faults.values()):
        if not {fault.injection.on, fault.injection.to} - {"", OUTSIDE} <= there:
            await _end_or_warn(state, fault)


async def let_go(state: EngineState, container: Container) -> None:
    """Of a run that is taken over, and that a fault had paused."""
    try:
        await pausing.thaw(state, container)
    except PystackError as error:
        container.note(EventKind.WARNING, f"cannot let {container.id} go on: {error}")


async def follow(state: EngineState) -> None:
    """Containers have been made, or have gone: state the faults of the network for those that there are. To be called
    before a new one is on its networks. A failure is a warning."""
    if any(fault.injection.kind.of_network for fault in state.faults.values()):
        _write_down(state)
        try:
            await _restate(state)
        except PystackError as error:
            state.warn("faults on purpose do not follow the containers", error)


def is_paused_by_fault(container: Container) -> bool:
    return any(fault.kind is FaultKind.PAUSE for fault in container.record.faults.values())


async def mend(state: EngineState) -> None:
    """Undo what a supervisor that is no more has left, and say so. (Whom it had paused goes on by then.)"""
    found = {name: fault for item in state.containers.values() for name, fault in item.record.faults.items()}
    if not found:
        return
    try:
        await state.adapters.networking.impair(())
    except PystackError as error:
        state.warn("cannot undo faults on purpose that another supervisor left", error)
        return
    _write_down(state)
    for name, injection in found.items():
        _tell(state, LiveFault(name, injection, 0.0, 0.0), "end")
    text = f"undid faults on purpose, because the supervisor that had made them is no more: {', '.join(found)}"
    state.events.note(EventKind.WARNING, text)


def _checked_ends(state: EngineState, injection: Injection) -> list[Container]:
    """The containers at the first end that it can be made on. Raises InputError, OperationError."""
    ends = _containers(state, injection.on)
    if injection.kind.of_network:
        for name in filter(None, (injection.on, injection.to)):
            if name == OUTSIDE:
                continue
            endpoints = [end for item in _containers(state, name) for end in item.record.endpoints]
            if endpoints and all(end.outer for end in endpoints):
                hint = "their packets pass this machine's bridges by (docs/chaos.md)"
                raise OperationError(f'"{name}" is on macvlan or ipvlan networks only', hint=hint)
            if not endpoints:
                hint = "it is in another's network, or in none"
                raise OperationError(f'"{name}" has no network of its own', hint=hint)
        if injection.to not in ("", OUTSIDE) and len(ends) == 1 and ends == _containers(state, injection.to):
            raise InputError(f'"{injection.on}" is one container: nothing is between it and itself')
        return ends
    phases = (Phase.RUNNING,) if injection.kind is FaultKind.PAUSE else (Phase.RUNNING, Phase.PAUSED)
    live = [item for item in ends if item.phase in phases]
    if not live:
        states = ", ".join(dict.fromkeys(item.phase.value for item in ends))
        raise OperationError(f'"{injection.on}" does not run: it is {states}')
    return live


def _containers(state: EngineState, name: str) -> list[Container]:
    """Those of the service `name`, or the one of that name. Raises InputError for neither, OperationError when the service
    has none."""
    found = [item for item in state.containers.values() if item.service == name]
    found = found or [item for item in state.containers.values() if item.id == name]
    if not found and ServiceName(name) in state.project.services:
        raise OperationError(f'service "{name}" has no container', hint="`pystack up` makes them")
    if not found:
        known = ", ".join(dict.fromkeys(item.service for item in state.containers.values())) or "none"
        hint = f"the services are: {known}; containers are named as in `pystack ps`"
        raise InputError(f'project {state.project.name} has no service or container "{name}"', hint=hint)
    return found


async def _begin(state: EngineState, fault: LiveFault) -> None:
    if fault.injection.kind is FaultKind.PAUSE:
        for container in fault.paused:
            await pausing.pause(state, container)
    else:
        await _restate(state)


async def _strike(state: EngineState, fault: LiveFault, ends: Collection[Container]) -> None:
    """Told if it has struck any of them."""
    runtime, struck = state.adapters.runtime, False
    try:
        for container in ends:
            if fault.injection.kind is FaultKind.OOM:
                await runtime.exhaust(container.id)
            else:
                await runtime.signal(container.id, fault.injection.signal)
            struck = True
    finally:
        if struck:
            _tell(state, fault, "begin")
            _tell(state, fault, "end")


async def _end(state: EngineState, fault: LiveFault) -> None:
    """Raises the adapters' errors, and it stands as before then."""
    if state.faults.pop(fault.id, None) is None:
        return
    try:
        if fault.injection.kind is FaultKind.PAUSE:
            for container in fault.paused:
                if container.phase is Phase.PAUSED:
                    await pausing.unpause(state, container)
        else:
            await _restate(state)
    except BaseException:
        state.faults[fault.id] = fault
        raise
    _write_down(state)
    fault.scope.cancel()
    _tell(state, fault, "end")


async def _end_or_warn(state: EngineState, fault: LiveFault) -> None:
    try:
        await _end(state, fault)
    except PystackError as error:
        state.warn(f"cannot undo {fault.id}", error)


async def _expire(state: EngineState, fault: LiveFault) -> None:
    """End it when its time is over; what cannot be undone at once is tried again."""
    with fault.scope:
        await trio.sleep_until(fault.ends_s)
    while state.faults.get(fault.id) is fault:
        await _end_or_warn(state, fault)
        if fault.id in state.faults:
            await trio.sleep(RETRY_S)


async def _restate(state: EngineState) -> None:
    await state.adapters.networking.impair(
        [_impairment(state, fault) for fault in state.faults.values() if fault.injection.kind.of_network]
    )


def _impairment(state: EngineState, fault: LiveFault) -> Impairment:
    wanted = fault.injection
    ends = [
        tuple(item.id for item in state.containers.values() if name and name in (item.service, item.id))
        for name in (wanted.on, wanted.to)
    ]
    effect: Loss | Delay | Rate | NoNames
    match wanted.kind:
        case FaultKind.LAG:
            effect = Delay(wanted.delay_s, wanted.jitter_s)
        case FaultKind.RATE:
            effect = Rate(wanted.bits_per_s)
        case FaultKind.DNS_FAIL:
            effect = NoNames(wanted.name, wanted.silent)
        case _:
            effect = Loss(wanted.share)
    return Impairment(fault.id, effect, ends[0], ends[1], wanted.to == OUTSIDE, wanted.one_way)


def _write_down(state: EngineState) -> None:
    """Which faults are on whom, in the records, where that has changed."""
    for container in state.containers.values():
        mine = {
            fault.id: fault.injection
            for fault in state.faults.values()
            if (
                container in fault.paused
                if fault.injection.kind is FaultKind.PAUSE
                else fault.injection.concerns(container.service, container.id)
            )
        }
        if mine != container.record.faults:
            container.amend(faults=mine)
            container.save()


def _tell(state: EngineState, fault: LiveFault, action: str) -> None:
    wanted = fault.injection
    text = f"{fault.id} has ended: {wanted}"
    if action == "begin":
        lasts = f" for {format_duration(wanted.for_s)}" if wanted.for_s else " until it is undone"
        text = f"{wanted}{lasts if wanted.kind.lasts else ''} ({fault.id})"
    state.events.note(
        EventKind.CHAOS, text, action=action, fault=fault.id, verb=wanted.kind.value, for_s=wanted.for_s or None
    )
