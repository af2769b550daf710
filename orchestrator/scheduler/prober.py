"""Probing one run's health, by the rules of `policy.health`."""

from __future__ import annotations

import trio

from orchestrator.contracts.events import EventKind
from orchestrator.contracts.runtime import Runtime
from orchestrator.errors import PystackError
from orchestrator.model.health import OnUnhealthy, ProbeResult
from orchestrator.policy.health import Status, describe_probe, fold, next_probe_s
from orchestrator.policy.restart import Restart, decide
from orchestrator.scheduler.keeper import Keeper


async def probe_run(runtime: Runtime, keeper: Keeper) -> None:
    """Probe until cancelled (the run has ended) or until the service, being unhealthy, is asked to end."""
    check = keeper.check
    assert check is not None
    assert check.test is not None
    while not keeper.ending.is_set():
        assert keeper.health is not None
        await trio.sleep(next_probe_s(keeper.health, keeper.age_s))
        age_s = keeper.age_s
        begun_s = trio.current_time()
        try:
            result = await runtime.probe(keeper.container, check.test, check.timeout_s)
        except PystackError as error:
            # The machine refuses (out of memory, too many processes): as bad as a failed probe, and as temporary.
            result = ProbeResult(1, error.message, trio.current_time() - begun_s)
        if not keeper.ending.is_set():
            _take(keeper, result, age_s)


def _take(keeper: Keeper, result: ProbeResult, age_s: float) -> None:
    before = keeper.health
    assert before is not None
    after = keeper.health = fold(before, result, age_s)
    ok = result.ok
    text = f"{keeper.name}: probe {after.number} {describe_probe(result)}" if not ok else f"{keeper.name}: probe passed"
    keeper.note(
        EventKind.HEALTH_PROBED,
        text,
        number=after.number,
        failures=after.failures,
        retries=after.retries,
        ok=ok,
        output=result.output,
    )
    if after.status is before.status:
        return
    if after.status is Status.HEALTHY:
        keeper.reason = "healthy"
        keeper.note(EventKind.HEALTH_CHANGED, f"{keeper.name} is healthy: {after.reason}", health="healthy")
        if before.status is Status.STARTING:
            keeper.note(EventKind.SERVICE_READY, f"{keeper.name} is healthy after {keeper.age_s:.3g} s")
    else:
        keeper.reason = f"{keeper.name} is {after.reason}"
        keeper.note(EventKind.HEALTH_CHANGED, keeper.reason, health="unhealthy")
        _react(keeper)
    keeper.changed()


def _react(keeper: Keeper) -> None:
    """End an unhealthy run, if the service is to be restarted or stopped; else leave it and say so."""
    match keeper.service.on_unhealthy:
        case OnUnhealthy.IGNORE:
            keeper.reason += "; left running (x-pystack.on_unhealthy: ignore)"
        case OnUnhealthy.STOP:
            keeper.unhealthy = True
            keeper.end(keeper.service.stop_grace_s)
        case OnUnhealthy.RESTART:
            history = keeper.history.ended_after(keeper.age_s)
            decision = decide(keeper.service.restart, history, None, unhealthy=True, wanted=keeper.wanted)
            if isinstance(decision, Restart):
                keeper.unhealthy = True
                keeper.end(keeper.service.stop_grace_s)
            else:
                left = f"left running: {decision.reason.partition('; ')[2]}"
                keeper.reason += f"; {left}"
                keeper.note(EventKind.WARNING, f"{keeper.name} is unhealthy and {left}")
