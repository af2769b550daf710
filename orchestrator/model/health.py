"""Health checks (compose-spec, "healthcheck"; semantics as moby has them)."""

from __future__ import annotations

from enum import Enum

from orchestrator.values import frozen, replace


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
    """How to probe a container. `test` is an argv; ``CMD-SHELL text`` has become ``/bin/sh -c text`` and `shell`: where the
    image has another shell, that one is to run the text.

    What a stack does not say, `test` None and numbers that are 0, is the image's to say, and else moby's default
    (`with_defaults`). `disabled` wins over everything, and is how an image says ``NONE``. Durations are seconds.
    """

    test: tuple[str, ...] | None = None
    interval_s: float = 0.0
    timeout_s: float = 0.0
    retries: int = 0
    start_period_s: float = 0.0
    start_interval_s: float = 0.0
    disabled: bool = False
    shell: bool = False

    def over(self, other: HealthCheck) -> HealthCheck:
        """With what `other` says where this one says nothing."""
        return replace(
            self,
            test=self.test or other.test,
            interval_s=self.interval_s or other.interval_s,
            timeout_s=self.timeout_s or other.timeout_s,
            retries=self.retries or other.retries,
            start_period_s=self.start_period_s or other.start_period_s,
            start_interval_s=self.start_interval_s or other.start_interval_s,
        )

    def with_defaults(self) -> HealthCheck:
        """As it is carried out."""
        return self.over(_DEFAULTS)


_DEFAULTS = HealthCheck(interval_s=30.0, timeout_s=30.0, retries=3, start_interval_s=5.0)


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
