"""What the parts of the scheduler share: the adapters, the project, and a keeper for each container."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import trio

from orchestrator.contracts.images import Image
from orchestrator.contracts.runtime import SandboxSpec
from orchestrator.contracts.state import ContainerRecord, ProjectRecord
from orchestrator.errors import PystackError
from orchestrator.graph.dependencies import DependencyGraph
from orchestrator.model.health import HealthCheck
from orchestrator.model.names import NetworkName, ServiceName, container_id
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.oci.inputs import SandboxInputs
from orchestrator.scheduler.adapters import Adapters
from orchestrator.scheduler.chronicle import Chronicle
from orchestrator.scheduler.faults import located
from orchestrator.scheduler.keeper import Keeper
from orchestrator.values import entity, field

Compile = Callable[[SandboxInputs], SandboxSpec]
FindCheck = Callable[[Service, Image], HealthCheck | None]


@entity
class Crew:
    """`project`: as recorded; an empty one before the first `up`. `networks`: those this supervisor has ensured.
    `nursery`: where containers are supervised; it belongs to `Engine.run`."""

    adapters: Adapters
    chronicle: Chronicle
    compile_sandbox: Compile
    healthcheck_of: FindCheck
    boot_id: str
    project: Project
    nursery: trio.Nursery | None = None
    keepers: dict[ServiceName, Keeper] = field(default_factory=dict)
    networks: set[NetworkName] = field(default_factory=set)
    images: dict[str, Image] = field(default_factory=dict)

    def record(self) -> ProjectRecord:
        return ProjectRecord(self.project, tuple(keeper.record for _, keeper in sorted(self.keepers.items())))

    def hire(self, service: Service, record: ContainerRecord | None = None) -> Keeper:
        """The keeper of `service`'s container; an existing one takes over the definition."""
        keeper = self.keepers.get(service.name)
        if keeper is None:
            made = record or ContainerRecord(container_id(self.project.name, service.name), service.name, "")
            keeper = Keeper(service, made, self.adapters.state, self.chronicle)
            self.keepers[service.name] = keeper
        keeper.service = service
        return keeper

    def outfit(self, keeper: Keeper, image: Image) -> None:
        """Give `keeper` its image, and the health check that follows from it."""
        keeper.image = image
        keeper.check = self.healthcheck_of(keeper.service, image)

    async def image(self, project: Project, service: Service, *, fresh: bool = False) -> Image:
        """The image of `service`, resolved once per reference. `fresh`: look again, its content may have changed.

        Raises the adapter's error, pointed at the service's ``image``.
        """
        if fresh or service.image not in self.images:
            try:
                self.images[service.image] = await self.adapters.images.resolve(service.image)
            except PystackError as error:
                raise located(error, project, service, "image") from error
        return self.images[service.image]

    def held_up_by(self, service: ServiceName) -> tuple[ServiceName, ...]:
        """Services that the current operation has still to start and that need `service`, directly or not."""
        if service not in self.project.services:
            return ()
        names: Iterable[ServiceName] = DependencyGraph.of(self.project).dependents_closure([service])
        return tuple(name for name in names if name in self.keepers and self.keepers[name].pending)
