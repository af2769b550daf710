"""What probe results say of a service's health (moby's rules).

The first probe comes one interval after the start (`start_interval` inside `start_period`, but never later than an interval
after the period is over), the next one an interval after the previous has *ended*. A failure inside `start_period` does not
count while the service is still starting. `retries` failures in a row make it unhealthy, one success healthy. Each run
starts anew.
"""

from __future__ import annotations

from orchestrator.model.health import Health, HealthCheck, ProbeResult
from orchestrator.values import frozen, replace

KEPT_RESULTS = 5
MINIMUM_RETRIES = 1


@frozen
class HealthState:
    """`number`: probes of this run so far. `failures`: counted ones in a row. `results`: the last five, oldest first.

    `reason` is the sentence behind `status`.
    """

    check: HealthCheck
    status: Health = Health.STARTING
    number: int = 0
    failures: int = 0
    results: tuple[ProbeResult, ...] = ()
    reason: str = "no probe yet"

    @property
    def retries(self) -> int:
        return max(self.check.retries, MINIMUM_RETRIES)


def fold(state: HealthState, probe: ProbeResult, age_s: float) -> HealthState:
    """The state after one more probe. `age_s`: seconds between the start of the run and the start of the probe."""
    number = state.number + 1
    results = (*state.results, probe)[-KEPT_RESULTS:]
    if probe.ok:
        reason = state.reason if state.status is Health.HEALTHY else f"probe {number} passed"
        return replace(state, status=Health.HEALTHY, number=number, failures=0, results=results, reason=reason)
    said = describe_probe(probe)
    if state.status is Health.STARTING and age_s < state.check.start_period_s:
        reason = f"probe {number} {said} inside the start period"
        return replace(state, number=number, results=results, reason=reason)
    failures = state.failures + 1
    if failures < state.retries:
        reason = f"probe {number} {said} ({failures} of {state.retries} in a row)"
        return replace(state, number=number, failures=failures, results=results, reason=reason)
    probes = "probe" if failures == 1 else "probes in a row"
    reason = f"unhealthy: {failures} {probes} failed, the last one {said}"
    return replace(state, status=Health.UNHEALTHY, number=number, failures=failures, results=results, reason=reason)


def next_probe_s(state: HealthState, age_s: float) -> float:
    """Seconds from now, the end of the previous probe or the start of the run, until the next probe.

    `age_s`: seconds since the start of the run.
    """
    check = state.check
    if state.status is Health.STARTING and age_s < check.start_period_s:
        return min(check.start_interval_s, check.start_period_s - age_s + check.interval_s)
    return check.interval_s


def describe_probe(probe: ProbeResult) -> str:
    """``passed``, ``failed with code 1: connection refused``, ``timed out``: with the output's last line, cut to 200."""
    if probe.ok:
        return "passed"
    said = "timed out" if probe.exit_code is None else f"failed with code {probe.exit_code}"
    lines = probe.output.strip().splitlines()
    return f"{said}: {lines[-1].strip()[:200]}" if lines else said
