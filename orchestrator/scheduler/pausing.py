"""A run that stands still, by request.

The record says so before it is done, so that a supervisor that comes later goes on with it. What is stopped while it is
paused goes on, to be able to comply; what is killed leaves a frozen group, in which no run could begin.
"""

from __future__ import annotations

from orchestrator.contracts.events import EventKind
from orchestrator.errors import OperationError, PystackError
from orchestrator.model.phase import Phase
from orchestrator.policy.lifecycle import Trigger
from orchestrator.scheduler.container import Container
from orchestrator.scheduler.engine_state import EngineState
from orchestrator.scheduler.live_run import LiveRun


async def pause(state: EngineState, container: Container, why: str = "paused by request") -> None:
    """Raises OperationError when it is paused already or does not run."""
    if container.phase is Phase.PAUSED:
        raise OperationError(f"container {container.id} is already paused")
    run = container.run
    if container.phase is not Phase.RUNNING or run is None:
        raise OperationError(f"container {container.id} does not run: it is {container.phase.value}")
    container.amend(paused=True)
    run.pause()
    container.step(Trigger.PAUSE, why)
    try:
        await state.adapters.runtime.pause(container.id)
    except PystackError:
        if _is_paused(container, run):
            _goes_on(container)
        raise
    if not _is_paused(container, run):
        await state.adapters.runtime.resume(container.id)  # It was stopped meanwhile, or has ended.
        return
    container.note(EventKind.CONTAINER_PAUSED, f"paused {container.id}")


async def unpause(state: EngineState, container: Container) -> None:
    """Raises OperationError when it is not paused."""
    if container.phase is not Phase.PAUSED:
        raise OperationError(f"container {container.id} is not paused")
    run = container.run
    await state.adapters.runtime.resume(container.id)
    if _is_paused(container, run):
        _goes_on(container)
        container.note(EventKind.CONTAINER_UNPAUSED, f"unpaused {container.id}")


async def stays_paused(state: EngineState, container: Container) -> None:
    """Of a run that is taken over: whoever paused it may have been killed before it stood still."""
    assert container.run is not None
    container.run.pause()
    container.step(Trigger.PAUSE, "paused by request (taken over)")
    try:
        await state.adapters.runtime.pause(container.id)
    except PystackError as error:
        container.note(EventKind.WARNING, f"cannot pause {container.id} again: {error}")
        if _is_paused(container, container.run):
            _goes_on(container)


async def thaw(state: EngineState, container: Container) -> None:
    """For what follows: a run that is to end, or the next one. Raises HostError."""
    if container.record.paused:
        await state.adapters.runtime.resume(container.id)
        container.amend(paused=False, frozen_for=())


def _is_paused(container: Container, run: LiveRun | None) -> bool:
    """Still; others may have had their hands on it meanwhile."""
    return container.run is run and container.phase is Phase.PAUSED


def _goes_on(container: Container) -> None:
    assert container.run is not None
    container.amend(paused=False, frozen_for=())
    container.run.unpause()
    container.step(Trigger.UNPAUSE, "running")
