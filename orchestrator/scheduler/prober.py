"""Probing one run's health, by the rules of `policy.health`."""

from __future__ import annotations

import math

import trio

from orchestrator.contracts.events import EventKind
from orchestrator.errors import PystackError
from orchestrator.model.health import Health, HealthCheck, Look, OnUnhealthy, ProbeResult
from orchestrator.policy.health import describe_probe, fold, next_probe_s
from orchestrator.policy.restart import Restart, decide
from orchestrator.scheduler.adapters import Adapters
from orchestrator.scheduler.container import Container
from orchestrator.scheduler.live_run import LiveRun

_AGAIN_S = 1.0


async def probe_run(adapters: Adapters, container: Container, run: LiveRun) -> None:
    """Probe until cancelled (the run has ended) or until the service, being unhealthy, is asked to end. While it is paused
    none is made, and one that was under way when it was paused does not count."""
    check = run.check
    assert check is not None
    if check.look is not None and check.look.once:
        await _look_once(adapters, container, run, check, check.look)
        return
    while not run.ending.is_set():
        assert run.health is not None
        await trio.sleep(next_probe_s(run.health, run.age_s))
        await run.going.wait()
        age_s, pauses = run.age_s, run.pauses
        begun_s = trio.current_time()
        try:
            result = await _probe(adapters, container, check)
        except PystackError as error:
            # The machine refuses (out of memory, too many processes): as bad as a failed probe, and as temporary.
            result = ProbeResult(1, error.message, trio.current_time() - begun_s)
        if not run.ending.is_set() and run.pauses == pauses:
            _take(adapters, container, run, result, age_s)


async def _probe(adapters: Adapters, container: Container, check: HealthCheck) -> ProbeResult:
    if check.look is not None:
        return await adapters.runtime.look(container.id, check.look, check.timeout_s)
    assert check.test is not None
    return await adapters.runtime.probe(container.id, check.test, check.timeout_s)


async def _look_once(adapters: Adapters, container: Container, run: LiveRun, check: HealthCheck, wanted: Look) -> None:
    """Until it is so. When it is not in time, the run is unhealthy; if it goes on all the same, so does the look."""
    end_s = check.timeout_s or math.inf
    while not run.ending.is_set():
        await run.going.wait()
        age_s, pauses = run.age_s, run.pauses
        assert run.health is not None
        left_s = max(0.0, end_s - age_s) if run.health.status is Health.STARTING else math.inf
        try:
            result = await adapters.runtime.look(container.id, wanted, left_s)
        except PystackError as error:
            if left_s > 0:
                if container.reason != error.message:
                    container.reason = error.message
                    container.changed()
                await trio.sleep(min(_AGAIN_S, left_s))
                continue
            result = ProbeResult(1, error.message, 0.0)
        if not run.ending.is_set() and run.pauses == pauses:
            _take(adapters, container, run, result, age_s)
            if result.ok:
                return


def _take(adapters: Adapters, container: Container, run: LiveRun, result: ProbeResult, age_s: float) -> None:
    before = run.health
    assert before is not None
    after = run.health = fold(before, result, age_s)
    label = container.label
    text = f"{label}: probe passed" if result.ok else f"{label}: probe {after.number} {describe_probe(result)}"
    container.note(
        EventKind.HEALTH_PROBED,
        text,
        number=after.number,
        failures=after.failures,
        retries=after.retries,
        ok=result.ok,
        output=result.output,
    )
    if after.status is before.status:
        return
    healthy = after.status is Health.HEALTHY
    adapters.networking.set_ready(container.id, healthy)
    if healthy:
        run.was_healthy = True
        container.reason = "healthy"
        container.note(EventKind.HEALTH_CHANGED, f"{label} is healthy: {after.reason}", health="healthy")
        if before.status is Health.STARTING:
            container.note(EventKind.SERVICE_READY, f"{label} is healthy after {run.age_s:.3g} s")
    else:
        container.reason = f"{label} is {after.reason}"
        container.note(EventKind.HEALTH_CHANGED, container.reason, health="unhealthy")
        _react(container, run)
    container.changed()


def _react(container: Container, run: LiveRun) -> None:
    """End an unhealthy run, if the service is to be restarted or stopped; else leave it and say so."""
    service = container.definition
    match service.on_unhealthy:
        case OnUnhealthy.IGNORE:
            container.reason += "; left running (x-pystack.on_unhealthy: ignore)"
        case OnUnhealthy.STOP:
            run.unhealthy = True
            run.end(service.stop_grace_s)
        case OnUnhealthy.RESTART:
            history = container.history.ended_after(run.age_s, service.restart)
            decision = decide(
                service.restart, history, None, unhealthy=True, wanted=container.wanted, now_s=trio.current_time()
            )
            if isinstance(decision, Restart):
                run.unhealthy = True
                run.end(service.stop_grace_s)
            else:
                left = f"left running: {decision.why}"
                container.reason += f"; {left}"
                container.note(EventKind.WARNING, f"container {container.id} is unhealthy and {left}")
