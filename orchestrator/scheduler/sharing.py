"""The containers whose namespaces a container is in, and what becomes of it when they end.

A network namespace is of a sandbox, and outlives the other's runs. PID and IPC namespaces are of a run: when that ends, so
does who is in them (of a PID namespace the kernel sees to that), and it is started again in those of the next run, whatever
its restart policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from signal import SIGKILL

import trio

from orchestrator.contracts.runtime import Exit, Run
from orchestrator.contracts.state import Wanted
from orchestrator.errors import OperationError
from orchestrator.model.names import ContainerId, ServiceName
from orchestrator.model.namespaces import Sharing
from orchestrator.model.service import Service
from orchestrator.plan.sharing import identity, shared_of
from orchestrator.scheduler.container import Container
from orchestrator.scheduler.engine_state import EngineState
from orchestrator.scheduler.live_run import LiveRun

_KNOWN_S = 1.0
"""How much later than its own end that of the PID namespace is known: the kernel ends the other first."""


def has_own_network(service: Service) -> bool:
    return service.namespaces.network.sharing in (Sharing.PRIVATE, Sharing.NONE)


def administers_network(state: EngineState, container: Container) -> bool:
    """Whether whoever is in the network namespace of `container` may give it other addresses: itself, or a container or a
    service of the stack that shares it."""
    if container.definition.administers_network:
        return True
    mine = {Sharing.SERVICE: container.definition.name, Sharing.CONTAINER: container.id}
    others = (*state.project.services.values(), *(item.definition for item in state.containers.values()))
    # For each container of an `up` all others are looked at: the usual one takes one question.
    return any(
        mine.get(network.sharing) == network.of and item.administers_network
        for item in others
        if (network := item.namespaces.network).sharing in mine
    )


def shares_of(state: EngineState, service: Service) -> dict[str, ContainerId]:
    """As `SandboxSpec.shares`. Raises OperationError for a service that has no container."""
    found: dict[str, ContainerId] = {}
    for kind, namespace in shared_of(service).items():
        if namespace.sharing is Sharing.CONTAINER:
            found[kind] = ContainerId(namespace.of)
            continue
        replicas = sorted(state.replicas(ServiceName(namespace.of)), key=lambda item: item.instance.number)
        if not replicas:
            message = f'service "{namespace.of}" has no container whose {kind} namespace {service.name} could be in'
            raise OperationError(message, hint=f"create it with: pystack up {namespace.of}")
        found[kind] = replicas[0].id
    return found


def owners_of(state: EngineState, service: Service) -> dict[str, Container]:
    """Those of this project that are there."""
    try:
        shares = shares_of(state, service)
    except OperationError:
        return {}
    return {kind: state.containers[name] for kind, name in shares.items() if name in state.containers}


def needs_runs(service: Service) -> bool:
    """Whether it is in a namespace that lasts as long as another's run."""
    return bool(shared_of(service).keys() - {"network"})


def shared_identities(state: EngineState, service: Service) -> Mapping[str, str]:
    """As `plan.sharing.shared_identities`."""
    owners = owners_of(state, service)
    return {kind: identity(item.id, item.record.created_at) for kind, item in owners.items()}


def runs_of(state: EngineState, container: Container) -> dict[str, tuple[Container, Run]]:
    """The runs whose namespaces a run of `container` is in, by type."""
    if not needs_runs(container.definition):
        return {}
    owners = owners_of(state, container.definition)
    runs = {kind: (owner, owner.run.process) for kind, owner in owners.items() if kind != "network" and owner.run}
    return {kind: (owner, process) for kind, (owner, process) in runs.items() if process is not None}


def left_behind(state: EngineState, container: Container, run: LiveRun) -> str:
    """Why `run`, which was found running, is not in the namespaces that it should be in: while nobody watched, the other's
    run has ended. "" if it is."""
    began = run.process.started_at if run.process is not None else 0.0
    for kind, owner in owners_of(state, container.definition).items():
        if kind == "network" or owner.record.wanted is not Wanted.RUNNING:
            continue
        if kind not in run.joined or run.joined[kind][1].started_at > began:
            return _has_ended(owner, kind)
    return ""


def ended_with(state: EngineState, container: Container, exit: Exit) -> str:
    """As `learn_why`, of a run that ended while nobody watched: the other's ended at the same moment. "" if not."""
    owner = owners_of(state, container.definition).get("pid")
    if exit.signal != SIGKILL or owner is None or owner.exit is None or owner.record.wanted is not Wanted.RUNNING:
        return ""
    return _has_ended(owner, "pid") if 0.0 <= owner.exit.finished_at - exit.finished_at <= _KNOWN_S else ""


def _has_ended(owner: Container, kind: str) -> str:
    return f"the run of {owner.label}, whose {kind} namespace it was in, has ended"


async def end_with(state: EngineState, container: Container, run: LiveRun, kind: str) -> None:
    """When the run that `run` shares its `kind` of namespace with has ended, end it."""
    owner, process = run.joined[kind]
    await state.adapters.runtime.wait(process)
    if not run.ending.is_set():
        run.orphaned = _has_ended(owner, kind)
        run.end(container.definition.stop_grace_s)


async def learn_why(state: EngineState, run: LiveRun, exit: Exit) -> None:
    """Whether it was killed because the PID namespace that it was in has ended."""
    if exit.signal != SIGKILL or run.orphaned or "pid" not in run.joined or run.ending.is_set():
        return
    owner, process = run.joined["pid"]
    with trio.move_on_after(_KNOWN_S):
        await state.adapters.runtime.wait(process)
        run.orphaned = _has_ended(owner, "pid")


def go_on(run: LiveRun) -> bool:
    """Whether those whose namespaces it was in are to run again."""
    return all(owner.record.wanted is Wanted.RUNNING for owner, _ in run.joined.values())


async def until_owners_run(state: EngineState, container: Container) -> None:
    """Until those whose runs it needs run, or will not by themselves."""
    owners = owners_of(state, container.definition)
    for kind, owner in owners.items():
        while kind != "network" and (owner.live or owner.pending) and not (owner.run and owner.run.process):
            await owner.next_change().wait()
