"""A project: a whole stack, resolved; nothing in it needs the compose files any more."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.model.chaos import ChaosStep
from orchestrator.model.expect import Expect
from orchestrator.model.host_hooks import HostHooks
from orchestrator.model.job import Job
from orchestrator.model.names import NetworkName, ProjectName, ServiceName, VolumeName
from orchestrator.model.network import Network
from orchestrator.model.provider import Provider
from orchestrator.model.service import Service
from orchestrator.model.volume import Volume
from orchestrator.values import field, frozen


@frozen
class Place:
    """Where in a file: line and column count from 1, the column in characters."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@frozen
class Project:
    """The whole stack, in the order of the file, whatever was selected. `inactive`: services of profiles that are not
    active; they are known (no orphans), and touched only when asked for by name. `profiles`: the active ones.

    `jobs`: those of the services that are jobs. They are always in `inactive`: no verb takes them along, `run` and their
    schedules make their containers. `providers`: services that are no containers; they are in none of the other fields.

    `chaos`: its script of faults on purpose. `expect`: what it expects of a simulation. `observe`: who talks to whom is
    counted. `working_dir` is absolute. `places` maps compose paths (``services.web.ports[0]``) to where they are written:
    what the runtime finds wrong later (a port in use, a missing bind source) is reported at its line.
    """

    name: ProjectName
    working_dir: str
    services: Mapping[ServiceName, Service]
    networks: Mapping[NetworkName, Network] = field(default_factory=dict)
    volumes: Mapping[VolumeName, Volume] = field(default_factory=dict)
    compose_files: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    places: Mapping[str, Place] = field(default_factory=dict)
    inactive: frozenset[ServiceName] = frozenset()
    chaos: tuple[ChaosStep, ...] = ()
    expect: Expect | None = None
    host_hooks: HostHooks = HostHooks()
    observe: bool = False
    jobs: Mapping[ServiceName, Job] = field(default_factory=dict)
    providers: Mapping[ServiceName, Provider] = field(default_factory=dict)

    @property
    def scheduled(self) -> tuple[ServiceName, ...]:
        """The jobs that ``up`` puts on their schedules."""
        return tuple(name for name, job in self.jobs.items() if job.enabled and job.schedule)

    def where(self, path: str) -> str:
        """``file:line:col: path``, for the longest prefix of `path` whose place is known; else `path` itself.
        `path` may end in the line of a text that stands there (``services.web.build.dockerfile_inline:2``)."""
        probe = path
        while probe:
            if (place := self.places.get(probe)) is not None:
                return f"{place}: {path}"
            cut = max(map(probe.rfind, ".[:"))
            probe = probe[:cut] if cut > 0 else ""
        return path
