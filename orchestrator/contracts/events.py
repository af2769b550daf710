"""Events: what happened, as a user may watch it. One stream per project, ordered per container and not globally.

The kinds are stable names: renderers, ``--format json`` and the control socket depend on them. What each carries in
`Event.detail` is in `DETAILS`; the text is for people, and nothing is ever read out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum

from orchestrator.contracts.network import Endpoint, Published
from orchestrator.contracts.runtime import Exit
from orchestrator.contracts.state import Wanted
from orchestrator.model.health import Health
from orchestrator.model.names import ContainerId, Role, ServiceName
from orchestrator.model.phase import Phase
from orchestrator.values import field, frozen


class EventKind(Enum):
    OPERATION_STARTED = "operation.started"
    OPERATION_FINISHED = "operation.finished"
    NETWORK_CREATED = "network.created"
    NETWORK_REMOVED = "network.removed"
    VOLUME_CREATED = "volume.created"
    VOLUME_REMOVED = "volume.removed"
    IMAGE_OBTAINING = "image.obtaining"
    IMAGE_PROGRESS = "image.progress"
    """How far a part of it is, or (`text`) what a build step wrote. Shown, not kept."""
    IMAGE_OBTAINED = "image.obtained"
    IMAGE_FAILED = "image.failed"
    SERVICE_WAITING = "service.waiting"
    """One event per unmet condition, when the wait begins."""
    CONDITION_MET = "condition.met"
    """A condition that was waited for holds now."""
    SERVICE_READY = "service.ready"
    """Started, and healthy if it has a health check: nothing more to wait for."""
    SERVICE_FAILED = "service.failed"
    SERVICE_BLOCKED = "service.blocked"
    """A dependency can no longer satisfy its condition."""
    CONTAINER_CREATING = "container.creating"
    CONTAINER_CREATED = "container.created"
    CONTAINER_STARTING = "container.starting"
    CONTAINER_STARTED = "container.started"
    CONTAINER_EXITED = "container.exited"
    CONTAINER_STOPPING = "container.stopping"
    CONTAINER_LINGERS = "container.lingers"
    """It was asked to end, and has not yet."""
    CONTAINER_STOPPED = "container.stopped"
    CONTAINER_REMOVED = "container.removed"
    CONTAINER_UPDATED = "container.updated"
    """Its limits are others."""
    CONTAINER_RECONNECTED = "container.reconnected"
    """Its networks or published ports are others."""
    CONTAINER_TURN = "container.turn"
    """Of a rolling update: its turn has come, after it had to wait for another one."""
    CONTAINER_ANNOUNCED = "container.announced"
    """It is in the place of the one that it succeeds."""
    CONTAINER_PAUSED = "container.paused"
    CONTAINER_UNPAUSED = "container.unpaused"
    HOOK_STARTED = "hook.started"
    HOOK_OUTPUT = "hook.output"
    """What a hook wrote, whole lines where there are such. Shown, not kept."""
    HOOK_FAILED = "hook.failed"
    HEALTH_PROBED = "health.probed"
    HEALTH_CHANGED = "health.changed"
    RESTART_SCHEDULED = "restart.scheduled"
    CASCADE = "cascade"
    """A dependency has crashed, and this service is restarted or frozen for that, or goes on."""
    SUPERVISOR_STARTED = "supervisor.started"
    """From here on `Event.clock_s` is of another clock."""
    CHAOS = "chaos"
    """A fault on purpose begins or ends."""
    JOB_DUE = "job.due"
    """Its schedule says so; the run is made when the one before it has ended."""
    JOB_LEFT_OUT = "job.left_out"
    """It was due, and is not run."""
    WARNING = "warning"


Scalar = str | int | float | bool | None
Detail = Scalar | tuple[str, ...]

_END = ("exit_status", "signal", "oom", "oom_kills", "run", "restarts")
DETAILS: Mapping[EventKind, tuple[str, ...]] = {
    EventKind.OPERATION_STARTED: ("verb", "starts"),
    EventKind.OPERATION_FINISHED: ("verb", "ok"),
    EventKind.NETWORK_CREATED: ("network",),
    EventKind.NETWORK_REMOVED: ("network",),
    EventKind.VOLUME_CREATED: ("volume",),
    EventKind.VOLUME_REMOVED: ("volume",),
    EventKind.IMAGE_OBTAINING: ("image", "builds"),
    EventKind.IMAGE_PROGRESS: ("image", "part", "action", "done_bytes", "total_bytes"),
    EventKind.IMAGE_OBTAINED: ("image", "builds"),
    EventKind.IMAGE_FAILED: ("image",),
    EventKind.SERVICE_WAITING: ("on", "condition"),
    EventKind.CASCADE: ("on", "mode"),
    EventKind.CONDITION_MET: ("on", "condition", "waited_s"),
    EventKind.SERVICE_FAILED: ("exit_status", "signal", "oom", "probe_output", "blocked"),
    EventKind.SERVICE_BLOCKED: ("on", "dependency", "exit_status"),
    EventKind.CONTAINER_CREATING: ("image",),
    EventKind.CONTAINER_CREATED: ("networks_s", "sandbox_s"),
    EventKind.CONTAINER_STARTING: ("needs",),
    EventKind.CONTAINER_TURN: ("after",),
    EventKind.CONTAINER_STARTED: ("number", "adopted", "network_s"),
    EventKind.CONTAINER_EXITED: _END,
    EventKind.CONTAINER_STOPPED: _END,
    EventKind.CONTAINER_STOPPING: ("grace_s", "signal", "why"),
    EventKind.CONTAINER_LINGERS: ("left_s", "signal", "ignored", "process", "pid"),
    EventKind.HOOK_STARTED: ("hook",),
    EventKind.HOOK_OUTPUT: ("hook",),
    EventKind.HOOK_FAILED: ("hook", "exit_status"),
    EventKind.HEALTH_PROBED: ("number", "failures", "retries", "ok", "output"),
    EventKind.HEALTH_CHANGED: ("health",),
    EventKind.RESTART_SCHEDULED: ("after_s", "attempt"),
    EventKind.CHAOS: ("action", "fault", "verb", "for_s"),
    EventKind.JOB_DUE: ("due_at", "missed"),
    EventKind.JOB_LEFT_OUT: ("due_at",),
    EventKind.WARNING: ("orphans",),
}
"""The keys of `Event.detail` by kind; a kind that is not listed has none. `exit_status` is a shell's view (128 + signal),
`oom_kills`: how many of its processes were killed for want of memory,
`network`, `volume`: the full name; `builds`: whether it may be built, where that begins and when it is there;
`why` of a stop that nobody has asked for;
`left_s`: until it is killed; `ignored`: whether its first `process`, which is `pid` in its own namespace,
does nothing about the signal;
`restarts`: it will be started again, by its policy or by the operation that stopped it;
`dependency`: the container of `on` that ended, and so can never satisfy the condition;
`number` of a start the run's, of a probe the probe's; `hook`: ``post_start[0]``;
`action`: ``begin`` or ``end`` of the `fault` of that id, made by that `verb` (`model.chaos.FaultKind`);
`due_at`: epoch seconds; `missed`: that was when nobody was there;
`blocked`, `orphans`, `starts` (containers): lists of names; ``*_s``: seconds.
`after`: the container of the same update that was done then, with the delay after it;
`needs`: what its start depends on, as ``db:service_healthy``; `networks_s`, `sandbox_s`: of a container's making, the
parts before it is put on its networks; `network_s`: of a start, what came before its process was made.
`image`: a reference; the others of `image.progress` are those of `contracts.images.Transfer`."""


@frozen
class Event:
    """`text` is the human sentence (also the reason shown by ``pystack why``); `at` is epoch seconds, for display, and
    jumps when somebody sets the clock. `clock_s`: seconds on the steady clock of the supervisor that says it, which has
    nothing to do with another one's; None: not known."""

    kind: EventKind
    text: str
    at: float
    service: ServiceName | None = None
    container: ContainerId | None = None
    detail: Mapping[str, Detail] = field(default_factory=dict)
    clock_s: float | None = None


Emit = Callable[[Event], None]
"""Never blocks and never raises."""


@frozen
class ContainerStatus:
    """One row of ``ps``. `role`, `number`: which container of its service it is (`model.names.Instance`). `started_at`,
    `created_at`: epoch seconds. `reason`: why it is as it is, one sentence. `exposed`: ports (``80/tcp``) that the stack or
    the image says it listens on and that are not published, while it runs. `labels`: those of the image and
    of the stack. `faults`: those on purpose that it has, in a word or two each. `command`: what it executes, as far as
    that is known. `mounts`: keys of volumes, and paths of this machine. `refused`: the exit code of its last start, which
    was refused (126, 127: its command could not be executed), or 0; `exit` is then of the run before."""

    service: ServiceName
    container: ContainerId
    image: str
    phase: Phase
    health: Health
    role: Role = Role.REPLICA
    number: int = 1
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
    config_hash: str = ""
    exposed: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    refused: int = 0
