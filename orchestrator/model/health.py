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


class LookKind(Enum):
    LISTENING = "listening"
    """It listens on its ports."""
    TCP = "tcp"
    """A port takes a connection."""
    HTTP = "http"
    """A request is answered, with a status from 200 to 399."""
    LOG = "log"
    """It has written a line in which a pattern is found."""
    FILE = "file"
    """There is such a file in it."""


@frozen
class DeclaredPort:
    """`protocol`: tcp or udp."""

    number: int
    protocol: str = "tcp"

    def __str__(self) -> str:
        return str(self.number) if self.protocol == "tcp" else f"{self.number}/{self.protocol}"


@frozen
class Look:
    """A look at a container from outside, with nothing of its image (``x-pystack.ready``, ``x-pystack.probe``).

    `ports`: on which it has to listen, all of them, or one of them with `any`; none with `any`: whichever. Of TCP and HTTP
    there is one. `path`: of the request, or of the file. `host`: for whom the request is. `tls`: HTTP is spoken by TLS, and
    any certificate will do. `pattern`: as `model.linepattern` has them.
    """

    kind: LookKind
    ports: tuple[DeclaredPort, ...] = ()
    any: bool = False
    path: str = ""
    host: str = ""
    pattern: str = ""
    tls: bool = False

    @property
    def once(self) -> bool:
        """It is looked at until it is so, and not again in that run."""
        return self.kind in (LookKind.LISTENING, LookKind.LOG)

    def __str__(self) -> str:
        """What is missing when it fails: ``does not listen on 80``."""
        ports = (" or " if self.any else " and ").join(map(str, self.ports))
        match self.kind:
            case LookKind.LISTENING:
                return f"does not listen on {ports}" if ports else "does not listen on any port"
            case LookKind.TCP:
                return f"takes no connection on {ports}"
            case LookKind.HTTP:
                return f"does not answer {self.path} on {ports}{' by TLS' if self.tls else ''}"
            case LookKind.LOG:
                return f"has not written /{self.pattern}/"
            case LookKind.FILE:
                return f"has no {self.path}"


@frozen
class HealthCheck:
    """How to probe a container. `test` is an argv; ``CMD-SHELL text`` has become ``/bin/sh -c text`` and `shell`: where the
    image has another shell, that one is to run the text. `look`: instead of a command; what its image says of health is of
    no meaning then. Of a look that is made once, `timeout_s` counts from the start of the run, and 0 is without end.

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
    look: Look | None = None

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
        if self.look is None:
            return self.over(_DEFAULTS)
        return self.over(_OF_ONE_LOOK if self.look.once else _OF_LOOKS)


_DEFAULTS = HealthCheck(interval_s=30.0, timeout_s=30.0, retries=3, start_interval_s=5.0)
_OF_LOOKS = HealthCheck(interval_s=10.0, timeout_s=5.0, retries=3, start_period_s=30.0, start_interval_s=0.1)
"""They cost next to nothing, so a service that has just been started is looked at often."""
_OF_ONE_LOOK = HealthCheck(retries=1)


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
