"""Events: what happened, as a user may watch it. One stream per project, ordered per service and not globally.

The kinds are stable names: renderers, ``--format json`` and the control socket depend on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum

from orchestrator.contracts.network import Endpoint, Published
from orchestrator.contracts.runtime import Exit
from orchestrator.contracts.state import Wanted
from orchestrator.model.names import ContainerId, ServiceName
from orchestrator.values import field, frozen


class EventKind(Enum):
    OPERATION_STARTED = "operation.started"
    OPERATION_FINISHED = "operation.finished"
    NETWORK_CREATED = "network.created"
    NETWORK_REMOVED = "network.removed"
    VOLUME_CREATED = "volume.created"
    VOLUME_REMOVED = "volume.removed"
    SERVICE_WAITING = "service.waiting"
    """`detail`: {"on": "db", "condition": "service_healthy"}; one event per unmet condition, when the wait begins."""
    SERVICE_READY = "service.ready"
    """Started, and healthy if it has a health check: nothing more to wait for."""
    SERVICE_FAILED = "service.failed"
    """`detail`: exit_status, signal, oom, probe_output, blocked (list of services that now can't start)."""
    SERVICE_BLOCKED = "service.blocked"
    """A dependency can no longer satisfy its condition. `detail`: {"on": "db"}."""
    CONTAINER_CREATING = "container.creating"
    CONTAINER_CREATED = "container.created"
    CONTAINER_STARTING = "container.starting"
    CONTAINER_STARTED = "container.started"
    CONTAINER_EXITED = "container.exited"
    CONTAINER_STOPPING = "container.stopping"
    CONTAINER_STOPPED = "container.stopped"
    CONTAINER_REMOVED = "container.removed"
    HEALTH_PROBED = "health.probed"
    """`detail`: {"number": n, "failures": f, "retries": m, "ok": bool, "output": text}."""
    HEALTH_CHANGED = "health.changed"
    """`detail`: {"health": "healthy" | "unhealthy" | "starting"}."""
    RESTART_SCHEDULED = "restart.scheduled"
    """`detail`: {"after_s": 0.4, "attempt": n}."""
    WARNING = "warning"


Scalar = str | int | float | bool | None


@frozen
class Event:
    """`text` is the human sentence (also the reason shown by ``pystack why``); `at` is epoch seconds, for display."""

    kind: EventKind
    text: str
    at: float
    service: ServiceName | None = None
    container: ContainerId | None = None
    detail: Mapping[str, Scalar | tuple[str, ...]] = field(default_factory=dict)


Emit = Callable[[Event], None]
"""Never blocks and never raises."""


class Phase(Enum):
    """Where a service's container is in its life, as ``ps`` shows it (`policy.lifecycle` is the table behind it)."""

    ABSENT = "absent"
    WAITING = "waiting"
    """For its dependencies' conditions."""
    CREATED = "created"
    STARTING = "starting"
    RUNNING = "running"
    BACKOFF = "restarting"
    """Ended; the restart policy will start it again after a delay."""
    STOPPING = "stopping"
    EXITED = "exited"
    FAILED = "failed"
    """Given up by the restart policy, or could not be started."""
    BLOCKED = "blocked"
    """A dependency's condition can never be met."""


class Health(Enum):
    NONE = "none"
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@frozen
class ServiceStatus:
    """One row of ``ps``. `started_at`, `created_at`: epoch seconds. `reason`: why it is as it is, one sentence."""

    service: ServiceName
    container: ContainerId
    image: str
    phase: Phase
    health: Health
    wanted: Wanted = Wanted.RUNNING
    pid: int | None = None
    exit: Exit | None = None
    restarts: int = 0
    created_at: float = 0.0
    started_at: float | None = None
    reason: str = ""
    endpoints: tuple[Endpoint, ...] = ()
    published: tuple[Published, ...] = ()
    last_probe: str = ""
