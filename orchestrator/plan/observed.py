"""What exists now, as the reconciliation sees it: records, what the runtime reports, networks and volumes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from orchestrator.contracts.runtime import ContainerState, Exit
from orchestrator.contracts.state import ContainerRecord, ProjectRecord, Wanted
from orchestrator.model.names import ContainerId, NetworkName, ServiceName, VolumeName
from orchestrator.model.project import Project
from orchestrator.policy.exits import describe_exit
from orchestrator.values import field, frozen


@frozen
class ObservedContainer:
    """One container: its record, its sandbox (None: gone, or not made yet) and the boot it is observed in.

    `restarting`: it waits for its next restart by policy, or is just being restarted.
    """

    record: ContainerRecord
    sandbox: ContainerState | None
    boot_id: str = ""
    restarting: bool = False

    @property
    def service(self) -> ServiceName:
        return self.record.service

    @property
    def container(self) -> ContainerId:
        return self.record.container

    @property
    def running(self) -> bool:
        return self.sandbox is not None and self.sandbox.run is not None

    @property
    def live(self) -> bool:
        """There is something to stop: a run, or a restart to come."""
        return self.running or self.restarting

    @property
    def exit(self) -> Exit | None:
        return self.sandbox.last_exit if self.sandbox is not None and self.sandbox.last_exit else self.record.last_exit

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
        if self.record.wanted is Wanted.STOPPED:
            return "stopped by request"
        if self.record.gave_up:
            return f"given up: {self.record.gave_up}"
        if self.restarting and self.exit is not None:
            return f"{describe_exit(self.exit)}; not waiting for its restart"
        return describe_exit(self.exit) if self.exit is not None else "created, never started"


@frozen
class ObservedProject:
    """`project`: the stack as recorded (None: nothing recorded). `containers`: by service, recorded ones only.

    `leftovers`: sandboxes without a record, of an operation that did not end. `networks`, `volumes`: keys of those that
    exist.
    """

    project: Project | None = None
    containers: Mapping[ServiceName, ObservedContainer] = field(default_factory=dict)
    leftovers: tuple[ContainerId, ...] = ()
    networks: frozenset[NetworkName] = frozenset()
    volumes: frozenset[VolumeName] = frozenset()

    def orphans(self, project: Project) -> tuple[ObservedContainer, ...]:
        """Containers of services that `project` does not have, sorted by service."""
        return tuple(self.containers[name] for name in sorted(self.containers.keys() - project.services.keys()))


def observe(
    record: ProjectRecord | None,
    sandboxes: Sequence[ContainerState],
    *,
    networks: Iterable[NetworkName] = (),
    volumes: Iterable[VolumeName] = (),
    boot_id: str = "",
    restarting: Collection[ServiceName] = (),
) -> ObservedProject:
    """Put the pieces together. `restarting`: services that wait for a restart by policy."""
    by_id = {sandbox.container: sandbox for sandbox in sandboxes}
    records = record.containers if record is not None else ()
    containers = {
        item.service: ObservedContainer(item, by_id.get(item.container), boot_id, item.service in restarting)
        for item in records
    }
    known = {item.container for item in records}
    return ObservedProject(
        project=record.project if record is not None else None,
        containers=dict(sorted(containers.items())),
        leftovers=tuple(sorted(by_id.keys() - known)),
        networks=frozenset(networks),
        volumes=frozenset(volumes),
    )
