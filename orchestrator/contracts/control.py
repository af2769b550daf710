"""Verbs are values: a request and an answer for each, and `Control`, the one door to a project.

The Unix socket (docs/control-protocol.md) is one front of `Control`; the command line, HTTP and a Python API are others.
On a wire a request is its verb's name (`VERBS`) and its fields as `model.codec` writes them.

Errors are PystackErrors, which travel as `Fault`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from enum import Enum
from typing import Protocol

from orchestrator.contracts.events import ContainerStatus, Event
from orchestrator.contracts.injecting import Inject, Injected, Standing, Undo
from orchestrator.model.names import ContainerId, ServiceName
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.values import field, frozen


@frozen
class Selection:
    """What a verb acts on, parsed once at the edge. Nothing named: everything that is active. `dependencies`: with what the
    named ones need (verbs that stop things ignore it)."""

    services: tuple[ServiceName, ...] = ()
    containers: tuple[ContainerId, ...] = ()
    dependencies: bool = True

    @property
    def everything(self) -> bool:
        return not self.services and not self.containers


class Recreate(Enum):
    """Which existing containers `up` replaces."""

    CHANGED = "changed"
    ALWAYS = "always"
    NEVER = "never"


@frozen
class Up:
    """Bring the selected services to what `project`, the whole stack, says. `scale`: numbers of replicas in place of the
    stack's. `start` False: make the containers and leave them (``create``). `timeout_s`: in place of the grace periods of
    what is replaced or removed. `wait`: until all are ready. `renew_volumes`: what has anonymous volumes gets new ones.
    `recreate_dependencies`: what the selected services need is replaced, changed or not. `named`: the user gave the
    project's name (``-p``, COMPOSE_PROJECT_NAME), and so means it whatever folder its containers come from.
    `all_resources`: also the stack's networks and volumes that none of these services uses. `registry`: variables of the
    caller's environment that say where registries' settings and credentials are, and where the caller is (PWD)."""

    project: Project
    selection: Selection = Selection()
    scale: Mapping[ServiceName, int] = field(default_factory=dict)
    recreate: Recreate = Recreate.CHANGED
    recreate_dependencies: bool = False
    renew_volumes: bool = False
    remove_orphans: bool = False
    ignore_orphans: bool = False
    start: bool = True
    timeout_s: float | None = None
    wait: bool = False
    wait_timeout_s: float | None = None
    named: bool = False
    all_resources: bool = False
    registry: Mapping[str, str] = field(default_factory=dict)


@frozen
class Scale:
    """Change the number of replicas of running services; what they need is left alone unless `dependencies`. `named`,
    `registry`: as for `Up`."""

    project: Project
    scale: Mapping[ServiceName, int]
    dependencies: bool = True
    timeout_s: float | None = None
    named: bool = False
    registry: Mapping[str, str] = field(default_factory=dict)


@frozen
class Down:
    """Stop and remove containers; without a selection also networks and, with `volumes`, the volumes. `project`: the stack
    as the files have it, when there is one: it says which containers are orphans. `working_dir`: the folder that gave the
    project its name, "" when that is unknown. `named`: as for `Up`."""

    project: Project | None = None
    selection: Selection = Selection()
    volumes: bool = False
    remove_orphans: bool = False
    timeout_s: float | None = None
    working_dir: str = ""
    named: bool = False


@frozen
class Start:
    """`resume`: only what ran when it was halted (`Stop`), or when the machine went down."""

    selection: Selection = Selection()
    wait: bool = False
    wait_timeout_s: float | None = None
    resume: bool = False


@frozen
class Stop:
    """`halt`: for now, because the machine goes down: what is stopped is wanted again afterwards."""

    selection: Selection = Selection()
    timeout_s: float | None = None
    halt: bool = False


@frozen
class Restart:
    selection: Selection = Selection()
    timeout_s: float | None = None


@frozen
class Kill:
    """`signal`: a name or a number (`units`' signal names)."""

    selection: Selection = Selection()
    signal: str = "SIGKILL"
    remove_orphans: bool = False


@frozen
class Remove:
    """Remove containers that do not run; with `stop` also those that do, once they are stopped. One-offs, networks and
    named volumes stay; `volumes`: anonymous volumes go too."""

    selection: Selection = Selection()
    stop: bool = False
    volumes: bool = False


@frozen
class Pause:
    """Let the processes of what runs stand still."""

    selection: Selection = Selection()


@frozen
class Unpause:
    selection: Selection = Selection()


@frozen
class Connect:
    """Put containers that exist on `network` too: as the stack calls it, or by its whole name. `shared`: there is a shared
    one of that name, should the stack have none. `target`: a service, all of whose replicas are meant, or a container. What
    is not said is as the stack says, if it says something of that network. `links`: names that it alone has, each with the
    one that is meant. Until it is made anew, it stays on it."""

    network: str
    target: str
    shared: bool = False
    aliases: tuple[str, ...] = ()
    ipv4_address: str | None = None
    ipv6_address: str | None = None
    link_local: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    gw_priority: int = 0


@frozen
class Disconnect:
    """Take containers off `network`. `network`, `target`: as for `Connect`. `force`: it does not matter whether there is
    such a container, and whether it is on it."""

    network: str
    target: str
    force: bool = False


@frozen
class Run:
    """Make and start a one-off container from `definition`, the service with the command line's changes made to it; what it
    needs is started first and waited for, unless `dependencies` is False.

    `name`: "" for a made one. `remove`: the container goes when it ends. `use_aliases`: it answers to the service's names.
    `tty`: the caller gets the master of the container's pty, which has `rows` and `columns`. `interactive`: standard input
    is the pipe that comes with the request; else as the definition has it. `detach`: nobody reads what it writes; else
    `remove` waits until the connection that made it ends. `named`, `registry`: as for `Up`. `due_at`: of a job, for which
    instant its schedule runs it (`contracts.state.ContainerRecord`); then nothing that it needs is started or changed.
    """

    project: Project
    definition: Service
    name: str = ""
    dependencies: bool = True
    remove: bool = False
    tty: bool = False
    rows: int = 0
    columns: int = 0
    interactive: bool = False
    use_aliases: bool = False
    detach: bool = False
    remove_orphans: bool = False
    ignore_orphans: bool = False
    named: bool = False
    registry: Mapping[str, str] = field(default_factory=dict)
    due_at: float = 0.0


@frozen
class Exec:
    """A process in a running container of `service`. Its standard streams are the three pipes that come with the request;
    with `tty` a terminal of `rows` and `columns`; with `detach` nothing, and the answer comes once it was executed."""

    service: ServiceName
    argv: tuple[str, ...]
    index: int = 0
    """The replica's number; 0: the lowest that runs."""
    environment: Mapping[str, str] = field(default_factory=dict)
    working_dir: str | None = None
    user: str | None = None
    tty: bool = False
    rows: int = 0
    columns: int = 0
    privileged: bool = False
    detach: bool = False


@frozen
class Attach:
    """Watch the run of a container of `service`. `index`: as for `Exec`."""

    service: ServiceName
    index: int = 0


@frozen
class Attached:
    """`tty`: what comes with it is the master of the container's terminal; else something to write to, if there is a
    descriptor. `stdin`: what is written is meant to be read."""

    container: ContainerId
    tty: bool = False
    stdin: bool = False


Operation = Up | Scale | Down | Remove | Start | Stop | Restart | Kill | Pause | Unpause | Connect | Disconnect | Run
"""What changes containers: goes through ``Engine.operate``."""


@frozen
class Hello:
    pass


@frozen
class About:
    """Who answers. `working_dir`: of the recorded project, "" while nothing is recorded."""

    version: str
    protocol: int
    project: str
    pid: int
    monitor_pid: int
    boot_id: str
    since: float
    working_dir: str = ""


@frozen
class Ps:
    selection: Selection = Selection()


@frozen
class Why:
    """`index`: the replica's number; 0: all."""

    service: ServiceName
    index: int = 0


@frozen
class Explanation:
    """`history`: events about these containers, oldest first, at most a hundred. `schedules`: of a job, when it starts, as
    the stack has it. `next_at`: when it is due next (epoch seconds); None: not by itself."""

    statuses: tuple[ContainerStatus, ...]
    history: tuple[Event, ...]
    schedules: tuple[str, ...] = ()
    next_at: float | None = None


@frozen
class PlanOf:
    """What this operation would do now: one of them is given. Changes nothing. `sealed`: with what the plan rests on."""

    up: Up | None = None
    down: Down | None = None
    start: Start | None = None
    stop: Stop | None = None
    restart: Restart | None = None
    scale: Scale | None = None
    remove: Remove | None = None
    kill: Kill | None = None
    pause: Pause | None = None
    unpause: Unpause | None = None
    run: Run | None = None
    sealed: bool = False

    @property
    def operations(self) -> tuple[Operation, ...]:
        """Those that are given."""
        some = (self.up, self.scale, self.down, self.remove, self.start, self.stop, self.restart)
        others = (self.kill, self.pause, self.unpause, self.run)
        return tuple(each for each in (*some, *others) if each is not None)


@frozen
class Apply:
    """Carry out the plan of `plan` that had this `seal`, and no other: nothing is done when it has another one by now. What
    a pull policy wants anew is not looked for."""

    plan: PlanOf
    seal: Mapping[str, str] = field(default_factory=dict)


@frozen
class PlannedStep:
    kind: str
    service: str
    container: str
    cause: str


@frozen
class Planned:
    """`text`: as ``pystack plan`` prints it. `seal`: what the plan rests on, by name (`scheduler.sealing`), when that was
    asked for."""

    text: str
    steps: tuple[PlannedStep, ...]
    seal: Mapping[str, str] = field(default_factory=dict)


@frozen
class Events:
    """`since`: epoch seconds; None: from now on. `follow` False: what was logged, and then the end."""

    since: float | None = None
    follow: bool = True


@frozen
class Shutdown:
    """End the supervisor, not the containers. `hand_over`: to another version, which starts at once."""

    hand_over: bool = False


@frozen
class Done:
    """The result of an operation. `changed`: containers touched. `removed`: containers removed. `container`: the one that
    ``run`` made. `statuses`: of the whole project, afterwards."""

    changed: int = 0
    removed: int = 0
    container: ContainerId | None = None
    statuses: tuple[ContainerStatus, ...] = ()


@frozen
class Fault:
    """A PystackError on its way. `kind`: the class (``input``, ``host``, ``operation``, ``busy``, ``command``,
    ``bug``). `place`: ``FILE:LINE:COLUMN`` in the stack, or ""."""

    kind: str
    message: str
    hint: str = ""
    place: str = ""
    exit_code: int = 1


VERBS: Mapping[str, type] = {
    "hello": Hello,
    "ps": Ps,
    "why": Why,
    "plan": PlanOf,
    "apply": Apply,
    "events": Events,
    "exec": Exec,
    "attach": Attach,
    "shutdown": Shutdown,
    "up": Up,
    "scale": Scale,
    "down": Down,
    "rm": Remove,
    "start": Start,
    "stop": Stop,
    "restart": Restart,
    "kill": Kill,
    "pause": Pause,
    "unpause": Unpause,
    "connect": Connect,
    "disconnect": Disconnect,
    "inject": Inject,
    "injected": Injected,
    "undo": Undo,
    "run": Run,
}

NAMES: Mapping[type, str] = {request: verb for verb, request in VERBS.items()}
"""The verb of a request."""


class Control(Protocol):
    """One project. Every method raises PystackErrors; a bug in one request ends that request alone."""

    async def hello(self, request: Hello) -> About: ...

    async def ps(self, request: Ps) -> tuple[ContainerStatus, ...]: ...

    async def why(self, request: Why) -> Explanation: ...

    async def plan(self, request: PlanOf) -> Planned: ...

    def events(self, request: Events) -> AsyncIterator[Event]: ...

    async def operate(self, request: Operation) -> Done:
        """Plan and carry out. It goes on when the caller is cancelled."""
        ...

    async def apply(self, request: Apply) -> Done:
        """As `operate`. Raises MovedError, BusyError, and nothing has been done then."""
        ...

    async def inject(self, request: Inject) -> Standing: ...

    async def injected(self, request: Injected) -> tuple[Standing, ...]: ...

    async def undo(self, request: Undo) -> tuple[Standing, ...]: ...

    async def shutdown(self, request: Shutdown) -> None: ...
