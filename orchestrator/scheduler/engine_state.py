"""What the parts of the scheduler share: the adapters, the project, its containers and networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from random import random
from signal import SIGTERM
from typing import TYPE_CHECKING

import trio

from orchestrator.contracts.events import EventKind
from orchestrator.contracts.images import Image, ImageRequest
from orchestrator.contracts.network import written_addresses
from orchestrator.contracts.runtime import SandboxSpec
from orchestrator.contracts.state import Armed, ContainerRecord, Definition, ProjectRecord
from orchestrator.errors import OperationError, PystackError
from orchestrator.graph.dependencies import DependencyGraph
from orchestrator.model.names import ContainerId, NetworkName, Role, ServiceName
from orchestrator.model.network import Network
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.model.volume import mounted_images
from orchestrator.oci.inputs import SandboxInputs
from orchestrator.plan.healthcheck import healthcheck_of
from orchestrator.plan.images import mounted_request
from orchestrator.scheduler.adapters import Adapters
from orchestrator.scheduler.container import Container
from orchestrator.scheduler.events import EventSink
from orchestrator.units import parse_signal
from orchestrator.values import entity, field

if TYPE_CHECKING:
    from orchestrator.scheduler.chaos import LiveFault

Compile = Callable[[SandboxInputs], SandboxSpec]


@entity
class EngineState:
    """`project`: as recorded; an empty one before the first `up`. `networks`: those that exist, as they were made; changed
    under `networks_lock`. `images`: as last seen. `secrets`: of builds, by variable; of containers, by digest.
    `nursery`: where containers are supervised; it belongs to `Engine.run`. `faults`: those on purpose that stand, by id;
    `injections`: how many there have been. `jobs`: see `scheduler.timetable`. `rolling`: services of which an update is
    under way, with all its containers. `retiring`: those that go in the background, because there is another one in their
    place; set when they are gone. `luck`: from 0 to 1, another each time. `crashed`: called when a run has ended and its
    policy will begin another. `cascades`: who has crashed, and who waits for it to be back (`scheduler.cascade`)."""

    adapters: Adapters
    events: EventSink
    compile_sandbox: Compile
    boot_id: str
    project: Project
    nursery: trio.Nursery | None = None
    faults: dict[str, LiveFault] = field(default_factory=dict)
    injections: int = 0
    jobs: Mapping[ServiceName, Armed] = field(default_factory=dict)
    containers: dict[ContainerId, Container] = field(default_factory=dict)
    networks: dict[NetworkName, Network] = field(default_factory=dict)
    networks_lock: trio.Lock = field(default_factory=trio.Lock)
    images: dict[ImageRequest, Image] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    luck: Callable[[], float] = random
    crashed: Callable[[Container], None] = lambda _container: None
    cascades: set[tuple[ContainerId, ContainerId]] = field(default_factory=set)
    rolling: dict[ServiceName, frozenset[ContainerId]] = field(default_factory=dict)
    retiring: dict[ContainerId, trio.Event] = field(default_factory=dict)
    _services: dict[ServiceName, dict[ContainerId, Container]] = field(default_factory=dict)

    def record(self) -> ProjectRecord:
        records = tuple(item.record for _, item in sorted(self.containers.items()))
        return ProjectRecord(self.project, records, tuple(self.networks.values()), self.jobs)

    def add(self, record: ContainerRecord) -> Container:
        """A container that is not known yet."""
        siblings = self._services.setdefault(record.instance.service, {})
        made = Container(record, self.adapters.records, self.events, siblings)
        self.containers[made.id] = siblings[made.id] = made
        return made

    def drop(self, container: Container) -> None:
        self.containers.pop(container.id, None)
        siblings = self._services[container.service]
        siblings.pop(container.id, None)
        for item in siblings.values():
            if item.record.succeeds == container.id:
                item.amend(succeeds=ContainerId(""), took_over=False)
                item.save()

    def rename(self, container: Container, name: ContainerId) -> None:
        """Of a container of which there is nothing but its record: with all that it is known by, in one write. Raises
        HostError when the disk refuses, and nothing has changed then."""
        former = container.id
        self._call(container, name)
        try:
            self.adapters.records.commit(self.record())
        except PystackError:
            self._call(container, former)
            raise

    def _call(self, container: Container, name: ContainerId) -> None:
        assert name not in self.containers, f"there are two called {name}"
        for known in (self.containers, self._services[container.service]):
            del known[container.id]
            known[name] = container
        container.amend(container=name)

    def replicas(self, service: ServiceName) -> list[Container]:
        """The service's replicas that are not being removed for good, and not only about to get a place."""
        found = (item for item in self._services.get(service, {}).values() if item.instance.role is Role.REPLICA)
        return [item for item in found if not item.doomed and item.record.announced]

    def mounted(self, service: Service, project: Project) -> dict[str, Image]:
        """The images that `service` mounts, as last seen, by their references."""
        requests = {name: mounted_request(project, name) for name in mounted_images(service.volumes)}
        return {name: self.images[request] for name, request in requests.items() if request in self.images}

    def define(self, service: Service, image: Image, identity: str) -> Definition:
        """What a container made from these now is kept by. `identity`: of all its images."""
        signal = service.stop_signal or image.config.stop_signal
        number = parse_signal(signal) if signal else int(SIGTERM)
        return Definition(service, identity, healthcheck_of(service, image), number)

    def held_up_by(self, container: Container) -> tuple[ServiceName, ...]:
        """Services that an operation has still to start and that need this container's, directly or not."""
        if container.service not in self.project.services or container.instance.role is not Role.REPLICA:
            return ()
        names = DependencyGraph.of(self.project).dependents_closure([container.service])
        return tuple(name for name in names if any(item.pending for item in self.replicas(name)))

    def reserve_written(self, project: Project) -> None:
        """Keep the addresses that `project` writes down, or somebody who connected a container by hand, for who they are
        for."""
        by_hand = [item.connected for item in self.containers.values() if item.record.manual]
        self.adapters.networking.reserve_written(written_addresses([*project.services.values(), *by_hand]))

    async def ensure_networks(self, keys: Iterable[NetworkName], project: Project) -> list[NetworkName]:
        """Make those of the networks that do not exist; returns these. Those that are shared with other projects are asked
        for each time: so there are addresses for who comes next, and others may have taken away what was there. Raises
        OperationError for one that is neither there nor in `project`, which has changed since."""
        asked = list(keys)
        for key in asked:
            if key not in self.networks and key not in project.networks:
                hint = "`pystack up` makes what was on it anew, as the stack is now"
                raise OperationError(f'the stack has no network "{key}" any more', hint=hint)
        wanted = [key for key in asked if key in project.networks]
        if all(key in self.networks and not project.networks[key].external for key in wanted):
            return []
        async with self.networks_lock:
            missing = [project.networks[key] for key in wanted if key not in self.networks]
            shared = [project.networks[key] for key in wanted if key in self.networks and project.networks[key].external]
            if missing or shared:
                for warning in await self.adapters.networking.ensure([*missing, *shared]):
                    self.events.note(EventKind.WARNING, warning)
            for network in missing:
                self.networks[network.key] = network
                if not network.external:
                    text, name = f"created network {network.key}", network.full_name
                    self.events.note(EventKind.NETWORK_CREATED, text, network=name)
            if missing:
                await self.observe(project)
            return [network.key for network in missing]

    async def observe(self, project: Project) -> None:
        """Count who talks to whom, where the stack wants that. A failure is a warning."""
        if project.observe:
            try:
                await self.adapters.networking.observe()
            except PystackError as error:
                self.warn("cannot count who talks to whom", error)

    async def remove_networks(
        self, keys: Iterable[NetworkName], why: str = "", *, anew: bool = False
    ) -> list[NetworkName]:
        """Remove those of the networks that no container is on or will be on; returns these. `anew`: they are made again at
        once, for those that will be. Raises the adapter's error."""
        async with self.networks_lock:
            used = {
                key
                for item in self.containers.values()
                for key in (*(end.network for end in item.record.endpoints), *(() if anew else self._expected_on(item)))
            }
            unused = [key for key in keys if key not in used]
            # Before it is gone: whoever wants it from now on waits for the lock, and makes it anew.
            known = {key: network for key in unused if (network := self.networks.pop(key, None)) is not None}
            try:
                if unused:
                    await self.adapters.networking.remove(unused)
            except BaseException:
                self.networks.update(known)
                raise
            for key in unused:
                if key not in known or known[key].external:  # Nothing is known to have been there.
                    continue
                name = known[key].full_name
                self.events.note(EventKind.NETWORK_REMOVED, f"removed network {key}{why}", network=name)
            return unused

    @staticmethod
    def _expected_on(container: Container) -> Iterable[NetworkName]:
        """Where a container that an operation is about to make will be."""
        return container.connected.networks if container.pending and container.error is None else ()

    def warn(self, text: str, error: PystackError) -> None:
        self.events.note(EventKind.WARNING, f"{text}: {error.headline}")

