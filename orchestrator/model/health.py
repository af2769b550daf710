"""Health checks (compose-spec, "healthcheck"; semantics as moby has them)."""

from __future__ import annotations

from enum import Enum

from orchestrator.values import frozen


class Health(Enum):
    NONE = "none"
    """There is no health check, or nothing runs that could be asked."""
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


class OnUnhealthy(Enum):
    """What an unhealthy service means (``x-pystack.on_unhealthy``). The default is RESTART: a deliberate difference
    from Docker Compose, which leaves an unhealthy container running."""

    RESTART = "restart"
    IGNORE = "ignore"
    STOP = "stop"


@frozen
class HealthCheck:
    """How to probe a container. `test` is an argv; ``CMD-SHELL text`` has become ``/bin/sh -c text``.

    `test` None means: take the image's test (other fields override the image's). `disabled` wins over everything.
    Durations are seconds. The defaults are moby's.
    """

    test: tuple[str, ...] | None = None
    interval_s: float = 30.0
    timeout_s: float = 30.0
    retries: int = 3
    start_period_s: float = 0.0
    start_interval_s: float = 5.0
    disabled: bool = False


@frozen
class ProbeResult:
    """The result of one probe. `exit_code` None: it did not end within its time-out and was killed.

    `output` is the probe's stdout and stderr together, cut to 4,096 bytes, undecodable bytes replaced.
    """

    exit_code: int | None
    output: str
    duration_s: float

    @property
    def ok(self) -> bool:
        return self.exit_code == 0
