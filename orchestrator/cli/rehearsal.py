"""A stack made ready to be simulated: how its services behave, by the command line, by what was recorded, or as usual."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from orchestrator.cli.timeline.starts import Start, episodes
from orchestrator.contracts.control import Selection
from orchestrator.contracts.images import Image
from orchestrator.contracts.runtime import SandboxSpec
from orchestrator.contracts.site import Site
from orchestrator.errors import InputError
from orchestrator.model.chaos import ChaosStep
from orchestrator.model.names import ServiceName
from orchestrator.model.namespaces import Sharing
from orchestrator.model.project import Project
from orchestrator.model.service import Condition
from orchestrator.oci.compile import compile_sandbox
from orchestrator.oci.inputs import SandboxInputs
from orchestrator.plan.healthcheck import healthcheck_of
from orchestrator.state.journal import EventLog
from orchestrator.testing.failures import Failure, FailureKind, behaving, parse_failure
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.testing.scripted import is_noticed
from orchestrator.testing.simulate import Report, simulate
from orchestrator.values import frozen, replace

JOB_S = 1.0
"""How long a job takes of which nobody says anything: a service whose completion another one waits for."""
STEP = FakeService(exits_after_s=0.1)
"""A ``pre_start`` step."""
_JUST_BEFORE_S = 0.001


@frozen
class Rehearsal:
    """`services`: those that are brought up. `behaviours`: without the failures of a single simulation. `script`: faults
    that the stack says of itself."""

    project: Project
    selection: Selection
    services: tuple[ServiceName, ...]
    images: Mapping[str, Image]
    behaviours: Mapping[str, FakeService]
    script: tuple[ChaosStep, ...] = ()

    def run(self, failures: Sequence[Failure], *, seed: int, duration_s: float) -> Report:
        """Raises InputError for a failure of what is no service of the stack."""
        behaviours = dict(self.behaviours)
        for item in failures:
            if item.kind is FailureKind.KILL_SUPERVISOR:
                continue
            if item.service not in self.project.services:
                known = ", ".join(self.project.services)
                raise InputError(f'{item.option}: "{item.service}" is no service of this stack', hint=f"it has {known}")
            if not item.kind.happens:
                checked = self._has_check(ServiceName(item.service))
                before = behaviours.get(item.service, FakeService())
                behaviours[item.service] = behaving(before, item, checked=checked)
        return simulate(
            self.project,
            behaviours,
            duration_s=duration_s,
            seed=seed,
            failures=failures,
            made=self.images,
            steps=STEP,
            compile_sandbox=compile_anywhere,
            selection=self.selection,
            script=self.script,
        )

    def left_out(self) -> list[str]:
        """Those of the script that simulations do not play."""
        return [str(step.injection) for step in self.script if not is_noticed(step)]

    def _has_check(self, name: ServiceName) -> bool:
        service = self.project.services[name]
        return healthcheck_of(service, self.images[service.image]) is not None


def usual_behaviours(project: Project) -> dict[str, FakeService]:
    """Jobs end with code 0; everything else runs for ever."""
    edges = (edge for service in project.services.values() for edge in service.depends_on.values())
    return {edge.service: FakeService(exits_after_s=JOB_S) for edge in edges if edge.condition is Condition.COMPLETED}


def recorded_behaviours(site: Site, behaviours: Mapping[str, FakeService]) -> dict[str, FakeService]:
    """As `behaviours`, with what the last whole start of each service took, as the event log has it."""
    found = dict(behaviours)
    starts = (start for episode in episodes(EventLog(site).since(0.0)) for start in episode.starts)
    for start in starts:
        if start.end in ("ready", "completed"):
            found[start.service] = _timed(found.get(start.service, FakeService()), start)
    return found


def _timed(base: FakeService, start: Start) -> FakeService:
    """A probe that was the first to pass is the first here, too."""
    took = dict.fromkeys(("sandbox", "network", "exec", "ready", "run"), 0.0)
    for span in start.spans:
        if span.phase in took:
            took[span.phase] += span.length_s
    timed = replace(
        base,
        create_s=took["sandbox"] + took["network"],
        boot_s=took["exec"],
        healthy_after_s=max(0.0, took["ready"] - _JUST_BEFORE_S),
    )
    return replace(timed, exits_after_s=took["run"]) if took["run"] else timed


def compile_anywhere(inputs: SandboxInputs) -> SandboxSpec:
    """The real compiler, with what is known of this machine without asking it anything that needs root."""
    shared = (inputs.service.namespaces.network.sharing, inputs.service.namespaces.uts.sharing)
    name = os.uname().nodename if Sharing.HOST in shared else inputs.host_name
    return compile_sandbox(
        replace(inputs, machine=os.uname().machine, host_cpus=os.cpu_count() or 1, host_name=name)
    )


def failures_of(given: Mapping[FailureKind, Iterable[str]]) -> tuple[Failure, ...]:
    """Raises InputError."""
    return tuple(parse_failure(kind, text) for kind, texts in given.items() for text in texts)
