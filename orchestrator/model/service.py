"""A service: what the stack says of one kind of container."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from orchestrator.model.build import BuildSpec, PullPolicy, Ulimit
from orchestrator.model.devices import Devices
from orchestrator.model.granted import GrantedFile
from orchestrator.model.health import HealthCheck, OnUnhealthy
from orchestrator.model.hooks import Hook
from orchestrator.model.limits import Limits
from orchestrator.model.log_policy import Logging
from orchestrator.model.names import NetworkName, ServiceName
from orchestrator.model.namespaces import Namespaces
from orchestrator.model.network import Attachment, Link, PortMapping
from orchestrator.model.resolving import Resolving
from orchestrator.model.restart import RestartPolicy
from orchestrator.model.security import Security
from orchestrator.model.updating import UpdateRules
from orchestrator.model.volume import Mount, VolumesFrom
from orchestrator.model.watch import WatchRule
from orchestrator.values import field, frozen

NONE_GIVEN: Mapping[str, str] = MappingProxyType({})
"""A default that is left out of what is stored, and so of the config hash, as `field(default_factory=...)` is not."""


class Condition(Enum):
    """When a dependency counts as satisfied (compose-spec, "depends_on")."""

    STARTED = "service_started"
    HEALTHY = "service_healthy"
    COMPLETED = "service_completed_successfully"


class Cascade(Enum):
    """What becomes of a service when one that it depends on has crashed, or become unhealthy, and is restarted by its
    policy (``x-pystack.cascade``)."""

    RESTART = "restart"
    """It is restarted when that is back."""
    FREEZE = "freeze"
    """It stands still until that is back."""
    IGNORE = "ignore"


@frozen
class Dependency:
    """One edge. `required` False: a dependency that is absent or fails only warns. `restart`: when the dependency is
    restarted or replaced by an operation, this service is restarted too. `cascade`: as it is written, if it is."""

    service: ServiceName
    condition: Condition = Condition.STARTED
    required: bool = True
    restart: bool = False
    cascade: Cascade | None = None

    @property
    def after_crash(self) -> Cascade:
        """A job that has done its work does not come back."""
        if self.condition is Condition.COMPLETED:
            return Cascade.IGNORE
        return self.cascade or (Cascade.RESTART if self.restart else Cascade.IGNORE)


@frozen
class Service:
    """`image` is a reference (docs/images.md); of a `build` without one it is ``PROJECT-SERVICE``. `platform` "": this
    machine's. `command` and `entrypoint` None: the image's; an empty tuple clears the image's.

    `user` is ``UID|NAME[:GID|NAME]``. `stop_signal` is a name (``SIGTERM``) or None for the image's, else SIGTERM.
    `cap_add`, `cap_drop`: names as the kernel has them (``CAP_NET_RAW``), or ``ALL``. `replicas`: how many containers it
    has unless ``--scale`` says otherwise. `container_name`: instead of the one made from project, service and number.
    `files`: its secrets and configs. `group_add`: names of the image's groups, or numbers. `shm_bytes`: of /dev/shm.
    `storage_bytes`: of the writable layer. `cgroup_parent`: a path below the root of each cgroup hierarchy, without its
    outer slashes. `tty`: its standard streams are a terminal. `stdin_open`: its stdin stays open. `attach`: ``up`` in the
    foreground shows its log. `pre_start`: in this order, before a new container starts. `watch`: what is done when files
    change. `given`: of a one-off, compose path -> the option of the command line that changed it. `job`: it is one of
    ``jobs``. `update`: how changed containers are replaced, None: all at once; `rollback`: the same, when that is taken
    back. `place` is this service's compose path.
    """

    name: ServiceName
    image: str
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    working_dir: str | None = None
    user: str | None = None
    hostname: str | None = None
    depends_on: Mapping[ServiceName, Dependency] = field(default_factory=dict)
    healthcheck: HealthCheck | None = None
    on_unhealthy: OnUnhealthy = OnUnhealthy.RESTART
    restart: RestartPolicy = RestartPolicy()
    ports: tuple[PortMapping, ...] = ()
    expose: tuple[str, ...] = ()
    volumes: tuple[Mount, ...] = ()
    networks: Mapping[NetworkName, Attachment] = field(default_factory=dict)
    stop_signal: str | None = None
    stop_grace_s: float = 10.0
    profiles: tuple[str, ...] = ()
    limits: Limits = Limits()
    read_only: bool = False
    init: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    replicas: int = 1
    container_name: str | None = None
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    build: BuildSpec | None = None
    platform: str = ""
    pull_policy: PullPolicy = PullPolicy()
    files: tuple[GrantedFile, ...] = ()
    namespaces: Namespaces = Namespaces()
    cgroup_parent: str = ""
    logging: Logging = Logging()
    ulimits: tuple[Ulimit, ...] = ()
    oom_score_adj: int | None = None
    group_add: tuple[str, ...] = ()
    domainname: str | None = None
    resolving: Resolving = Resolving()
    shm_bytes: int | None = None
    annotations: Mapping[str, str] = NONE_GIVEN
    volumes_from: tuple[VolumesFrom, ...] = ()
    storage_bytes: int | None = None
    security: Security = Security()
    devices: Devices = Devices()
    tty: bool = False
    stdin_open: bool = False
    attach: bool = True
    given: Mapping[str, str] = NONE_GIVEN
    links: tuple[Link, ...] = ()
    pre_start: tuple[InitStep, ...] = ()
    post_start: tuple[Hook, ...] = ()
    pre_stop: tuple[Hook, ...] = ()
    watch: tuple[WatchRule, ...] = ()
    job: bool = False
    update: UpdateRules | None = None
    rollback: UpdateRules | None = None

    @property
    def place(self) -> str:
        return f"{'jobs' if self.job else 'services'}.{self.name}"

    @property
    def administers_network(self) -> bool:
        """Whether a process of it may change what its network namespace has (CAP_NET_ADMIN, which is not a default one):
        further addresses, another MAC, what it routes for others."""
        of_all = "ALL" in self.cap_add and "CAP_NET_ADMIN" not in self.cap_drop
        hooks = any(hook.privileged for hook in (*self.post_start, *self.pre_stop))
        return self.security.privileged or hooks or of_all or "CAP_NET_ADMIN" in self.cap_add


@frozen
class InitStep:
    """A container that runs to its end before one of the service starts (``pre_start``). `definition` has the service's
    name and what it takes from the service, but for the mounts: those are the container's that is to start. `per_replica`:
    before each new container; else once for all of a definition. `place` is its compose path."""

    definition: Service
    per_replica: bool = False
    place: str = ""
