"""What exists now, as the reconciliation sees it: records, what the runtime reports, networks and volumes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from orchestrator.contracts.runtime import ContainerState, Exit
from orchestrator.contracts.state import ContainerRecord, Wanted
from orchestrator.model.names import ContainerId, Instance, NetworkName, Role, ServiceName, VolumeName
from orchestrator.model.network import Network
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.policy.exits import describe_exit
from orchestrator.values import field, frozen


@frozen
class ObservedContainer:
    """One container: its record, its sandbox (None: gone, or not made yet) and the boot it is observed in.

    `restarting`: it waits for its next restart by policy, or is just being restarted. `starting`: an operation is about to
    start it. `stopping`: an operation is stopping it.
    """

    record: ContainerRecord
    sandbox: ContainerState | None
    boot_id: str = ""
    restarting: bool = False
    starting: bool = False
    stopping: bool = False

    @property
    def instance(self) -> Instance:
        return self.record.instance

    @property
    def service(self) -> ServiceName:
        return self.record.instance.service

    @property
    def container(self) -> ContainerId:
        return self.record.container

    @property
    def definition(self) -> Service:
        return self.record.definition.service

    @property
    def running(self) -> bool:
        return self.sandbox is not None and self.sandbox.run is not None

    @property
    def paused(self) -> bool:
        return self.running and self.record.paused and not self.stopping

    @property
    def live(self) -> bool:
        """There is something to stop: a run, or a start to come."""
        return self.running or self.restarting or self.starting

    @property
    def exit(self) -> Exit | None:
        return self.sandbox.last_exit if self.sandbox is not None and self.sandbox.last_exit else self.record.last_exit

    @property
    def lost(self) -> bool:
        """It was running when the machine went down: nobody knows how it ended."""
        wanted = self.record.wanted is Wanted.RUNNING and self.sandbox is None
        return wanted and self.exit is not None and self.exit.code is None and self.exit.signal is None

    @property
    def networks(self) -> frozenset[NetworkName]:
        return frozenset(endpoint.network for endpoint in self.record.endpoints)

    @property
    def why_gone(self) -> str:
        """Why there is no sandbox."""
        if self.record.boot_id and self.boot_id and self.record.boot_id != self.boot_id:
            return "lost at reboot"
        return f"not created: {self.record.gave_up}" if self.record.gave_up else "not created yet"

    @property
    def why_stopped(self) -> str:
        """Why nothing runs in the sandbox."""
        if self.stopping:
            return "being stopped"
        if self.record.wanted is Wanted.STOPPED:
            return "stopped by request"
        if self.record.gave_up:
            return f"given up: {self.record.gave_up}"
        if self.restarting and self.exit is not None:
            return f"{describe_exit(self.exit)}; not waiting for its restart"
        return describe_exit(self.exit) if self.exit is not None else "created, never started"


@frozen
class ObservedProject:
    """`project`: the stack as recorded (None: nothing recorded). `containers`: recorded ones only.

    `leftovers`: sandboxes without a record, of an operation that did not end. `networks`: those that exist, as they were
    made. `volumes`: the identities of those that exist. `anonymous`: the containers that have anonymous volumes; looked at
    only when it matters.
    """

    project: Project | None = None
    containers: Mapping[ContainerId, ObservedContainer] = field(default_factory=dict)
    leftovers: tuple[ContainerId, ...] = ()
    networks: Mapping[NetworkName, Network] = field(default_factory=dict)
    volumes: Mapping[VolumeName, str] = field(default_factory=dict)
    anonymous: frozenset[ContainerId] = frozenset()
    _by_service: Mapping[ServiceName, tuple[ObservedContainer, ...]] = field(default_factory=dict, repr=False)
    _surplus: frozenset[ContainerId] = frozenset()

    def replicas(self, service: ServiceName) -> tuple[ObservedContainer, ...]:
        """The service's replicas, by number; of two in one place the one that has it."""
        found = (item for item in self.of(service) if item.instance.role is Role.REPLICA)
        return tuple(item for item in found if item.container not in self._surplus)

    def of(self, service: ServiceName) -> tuple[ObservedContainer, ...]:
        """All containers of the service, one-offs too, replicas first, by number."""
        return self._by_service.get(service, ())

    def strays(self, project: Project) -> tuple[ObservedContainer, ...]:
        """Containers of services that `project` does not have, by service and number."""
        gone = sorted(self._by_service.keys() - project.services.keys())
        return tuple(item for service in gone for item in self.of(service))

    def orphans(self, project: Project) -> tuple[ObservedContainer, ...]:
        """The strays, and the one-offs of other services that have ended and that nobody removes by themselves, as Docker
        Compose has it."""
        known = (item for service in sorted(self._by_service.keys() & project.services.keys()) for item in self.of(service))
        return (*self.strays(project), *filter(_left_over, known))


def _left_over(item: ObservedContainer) -> bool:
    ended = item.exit is not None and not item.live and not item.record.auto_remove
    return item.instance.role is Role.ONE_OFF and ended


def observe(
    project: Project | None,
    records: Sequence[ContainerRecord],
    sandboxes: Sequence[ContainerState],
    *,
    networks: Iterable[Network] = (),
    volumes: Mapping[VolumeName, str] | None = None,
    boot_id: str = "",
    restarting: Collection[ContainerId] = (),
    starting: Collection[ContainerId] = (),
    stopping: Collection[ContainerId] = (),
) -> ObservedProject:
    """Put the pieces together. `restarting`, `starting`, `stopping`: see `ObservedContainer`."""
    by_id = {sandbox.container: sandbox for sandbox in sandboxes}
    containers: dict[ContainerId, ObservedContainer] = {}
    by_service: dict[ServiceName, list[ObservedContainer]] = {}
    for record in sorted(records, key=_order):
        name = record.container
        found = ObservedContainer(
            record, by_id.get(name), boot_id, name in restarting, name in starting, name in stopping
        )
        containers[name] = found
        by_service.setdefault(record.instance.service, []).append(found)
    return ObservedProject(
        project=project,
        containers=containers,
        leftovers=tuple(sorted(by_id.keys() - containers.keys())),
        networks={network.key: network for network in networks},
        volumes=dict(volumes or {}),
        _by_service={service: tuple(found) for service, found in by_service.items()},
        _surplus=frozenset(record.surplus for record in records if record.succeeds in containers),
    )


def _order(record: ContainerRecord) -> tuple[str, bool, int, str]:
    instance = record.instance
    return (instance.service, instance.role is not Role.REPLICA, instance.number, record.container)
