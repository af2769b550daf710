"""A whole machine in memory: all fakes of one project, which outlive the engine that drives them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count

import trio

from orchestrator.contracts.events import Emit, Event
from orchestrator.contracts.images import Image, ImageConfig
from orchestrator.contracts.runtime import OciConfig, SandboxSpec
from orchestrator.contracts.site import IdMap, Site
from orchestrator.model.names import ContainerId, ProjectKey, ProjectName, Role, ServiceName, container_id
from orchestrator.oci.inputs import SandboxInputs
from orchestrator.oci.namespaces import namespaces_of
from orchestrator.scheduler.engine import Adapters, Engine
from orchestrator.scheduler.engine_state import Compile
from orchestrator.testing.fake_images import FakeImages
from orchestrator.testing.fake_network import FakeNetworking
from orchestrator.testing.fake_runtime import EPOCH, FakeRuntime, FakeService
from orchestrator.testing.fake_state import FakeState, FakeVolumes


class World:
    """`behaviours`: by service name. `steps`: of ``pre_start`` containers; None: as their service does. `events`: all that
    were emitted, by every engine so far, unless `emit` takes them. `made`: images as they are, by reference.
    `compile_sandbox`: the real compiler, where more is wanted of a sandbox than the fake runtime needs. `clock_off_s`: how
    far the machine's clock is off virtual time."""

    def __init__(
        self,
        behaviours: Mapping[str, FakeService] | None = None,
        *,
        project: str = "demo",
        taken_ports: Collection[int] = (),
        images: Mapping[str, ImageConfig] | None = None,
        missing_images: Collection[str] = (),
        emit: Emit | None = None,
        steps: FakeService | None = None,
        made: Mapping[str, Image] | None = None,
        compile_sandbox: Compile | None = None,
    ) -> None:
        name = ProjectName(project)
        self.site = Site(name, ProjectKey("0123abcd"), f"/data/{project}", f"/run/{project}", IdMap(100000))
        self.state = FakeState()
        self.volumes = FakeVolumes()
        self.images = FakeImages(images, missing_images, whole=made)
        self.networking = FakeNetworking(taken_ports)
        self._behaviours = dict(behaviours or {})
        self._services: dict[ContainerId, ServiceName] = {}
        self._steps = steps
        self._compile: Compile = compile_sandbox or _compile
        self.runtime = FakeRuntime(
            {},
            otherwise=self._behaviour_of,
            recorded=self.state.recorded,
            attached=lambda container: container in self.networking.attached,
        )
        self.events: list[Event] = []
        self.emit: Emit = emit or self.events.append
        self.boot_id = "boot-1"
        self.clock_off_s = 0.0
        self._boots = count(2)
        self._slugs = count(1)

    def adapters(self) -> Adapters:
        return Adapters(self.site, self.runtime, self.networking, self.images, self.state, self.volumes)

    def engine(self) -> AbstractAsyncContextManager[Engine]:
        """A supervisor's life: an engine that runs and has adopted; leaving it is ``kill -9`` (containers live on)."""
        return self._engine()

    @asynccontextmanager
    async def _engine(self) -> AsyncIterator[Engine]:
        engine = Engine(
            self.adapters(),
            self.emit,
            wall_clock=self.wall_clock,
            boot_id=self.boot_id,
            compile_sandbox=self._compile,
            slugs=lambda: f"{next(self._slugs):012x}",
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(engine.run)
            await engine.adopt(self.state.load())
            yield engine
            nursery.cancel_scope.cancel()
        self.networking.forget()

    def behave(self, service: str, behaviour: FakeService, number: int | None = None) -> None:
        """From now on that replica of `service` (None: all of them) does as `behaviour` says."""
        if number is None:
            self._behaviours[service] = behaviour
        else:
            self.runtime.behaviours[self.container(service, number)] = behaviour

    def service_of(self, container: ContainerId) -> str:
        """Of which service `container` is, or was last; "" for one that was never recorded."""
        if (service := self.state.service_of(container)) is not None:
            self._services[container] = service
        return self._services.get(container, "")

    def behaviour(self, service: str) -> FakeService:
        return self._behaviours.get(service, FakeService())

    def _behaviour_of(self, container: ContainerId) -> FakeService:
        if self._steps is not None and self.state.role_of(container) is Role.INIT:
            return self._steps
        return self.behaviour(self.service_of(container))

    def container(self, service: str, number: int = 1) -> ContainerId:
        return container_id(self.site.project, ServiceName(service), number)

    def wall_clock(self) -> float:
        """Seconds since the epoch, as the machine has them."""
        return wall_clock() + self.clock_off_s

    def set_clock(self, at_s: float) -> None:
        """It is `at_s` (epoch seconds) from now on."""
        self.clock_off_s = at_s - wall_clock()

    def reboot(self) -> None:
        """The machine restarts: only what is on disk stays."""
        self.runtime.reboot()
        self.networking.reboot()
        self.boot_id = f"boot-{next(self._boots)}"


def wall_clock() -> float:
    """Virtual time, as seconds since the epoch."""
    return EPOCH + trio.current_time()


def _compile(inputs: SandboxInputs) -> SandboxSpec:
    """What the fake runtime needs of a sandbox: its name, and whose namespaces it is in."""
    own = namespaces_of(inputs.service.namespaces, host_user=inputs.service.namespaces.host_user)
    config = OciConfig({"linux": {"namespaces": own}})
    return SandboxSpec(inputs.container, inputs.image.lowers, config, shares=inputs.shares)
