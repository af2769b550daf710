"""Observed + wanted -> Plan: the decisions of stop, kill, pause, restart, rm and down. They act on what exists, by its
records."""

from __future__ import annotations

from signal import SIGKILL

from orchestrator.contracts.control import Down, Kill, Pause, Remove, Restart, Stop, Unpause
from orchestrator.errors import OperationError
from orchestrator.graph.dependencies import DependencyGraph
from orchestrator.model.names import NetworkName, ServiceName
from orchestrator.model.project import Project
from orchestrator.plan.builder import PlanBuilder
from orchestrator.plan.lending import lent
from orchestrator.plan.observed import ObservedContainer, ObservedProject
from orchestrator.plan.plan import Plan, Verb
from orchestrator.plan.selection import selected
from orchestrator.units import parse_signal, signal_name


def plan_stop(request: Stop, observed: ObservedProject, project: Project) -> Plan:
    """Stop the selected containers (none: all), dependents first."""
    graph = DependencyGraph.of(project)
    builder = PlanBuilder(project, observed, graph)
    chosen = selected(request.selection, observed, project, one_offs=False)
    for item in _stop_order(graph, chosen):
        if item.live:
            cause = "until the machine is up again" if request.halt else "requested"
            builder.stop(item, cause, request.timeout_s, halts=request.halt)
    return builder.finish(Verb.STOP, _services(graph, chosen))


def plan_kill(request: Kill, observed: ObservedProject, project: Project) -> Plan:
    """Send a signal to the selected containers (none: all), all at once. SIGKILL, the stop signal and SIGINT count as a
    stop by the user (`policy.restart.is_stop`): no restart policy applies; SIGKILL also ends waits for a restart."""
    number = parse_signal(request.signal)
    graph = DependencyGraph.of(project)
    builder = PlanBuilder(project, observed, DependencyGraph({}))
    chosen = selected(request.selection, observed, project, one_offs=False)
    for item in _stop_order(graph, chosen):
        if number == SIGKILL and item.live:
            builder.kill(item, "killed by request")
        elif item.running:
            builder.signal(item, number, f"send {signal_name(number)}")
    if request.remove_orphans:
        for item in observed.orphans(project):
            if item.live:
                builder.kill(item, "orphan")
            builder.remove(item, "orphan")
    return builder.finish(Verb.KILL, _services(graph, chosen))


def plan_pause(request: Pause | Unpause, observed: ObservedProject, project: Project) -> Plan:
    """Let the selected containers (none: all) that run stand still, or go on, all at once."""
    graph = DependencyGraph.of(project)
    builder = PlanBuilder(project, observed, DependencyGraph({}))
    pauses = isinstance(request, Pause)
    chosen = selected(request.selection, observed, project, one_offs=False)
    for item in _stop_order(graph, chosen):
        if item.running:
            (builder.pause if pauses else builder.unpause)(item, "requested")
    return builder.finish(Verb.PAUSE if pauses else Verb.UNPAUSE, _services(graph, chosen))


def plan_restart(request: Restart, observed: ObservedProject, project: Project) -> Plan:
    """Stop and start the selected containers (none: all) in their sandboxes; unless told otherwise, also what depends on
    them with ``restart: true``. Raises OperationError when a selected service was never created."""
    graph = DependencyGraph.of(project)
    asked = frozenset(request.selection.services)
    builder = PlanBuilder(
        project, observed, graph, frozenset(project.services), no_deps=not request.selection.dependencies
    )
    chosen = selected(request.selection, observed, project, one_offs=False, jobs=False)
    for name in sorted(asked - {item.service for item in chosen}):
        raise OperationError(f'service "{name}" has no container to restart', hint=f"create it with: pystack up {name}")
    for item in chosen:
        if item.sandbox is None:
            builder.create(item.instance, item.container, item.definition, item.why_gone)
            builder.start(item.instance, item.container, "created")
        else:
            builder.restart(item, "requested", request.timeout_s)
    if request.selection.dependencies and not request.selection.everything:
        moved = {item.service for item in chosen} & project.services.keys()
        builder.follow(graph.restart_closure(moved), "was restarted")
    builder.prepare()
    return builder.finish(Verb.RESTART, _services(graph, chosen))


def plan_remove(request: Remove, observed: ObservedProject, project: Project) -> Plan:
    """Remove the selected containers (none: all) that do not run, dependents first."""
    graph = DependencyGraph.of(project)
    builder = PlanBuilder(project, observed, graph)
    chosen = selected(request.selection, observed, project, one_offs=False)
    doomed = [item for item in _stop_order(graph, chosen) if request.stop or not item.live]
    for item in doomed:
        if item.live:
            builder.stop(item, "requested", None)
    used = lent(observed, doomed)
    for item in doomed:
        builder.remove(item, "requested", anonymous=request.volumes and item.container not in used)
    return builder.finish(Verb.RM, _services(graph, doomed))


def plan_down(request: Down, observed: ObservedProject, project: Project) -> Plan:
    """Stop and remove containers; without a selection all of the stack's, then the networks, and with `volumes` the named
    (not external) and anonymous volumes. Orphans stay, and the networks they are on, unless `remove_orphans`."""
    graph = DependencyGraph.of(project)
    builder = PlanBuilder(project, observed, graph)
    orphans = observed.strays(project)
    gone = {item.container for item in orphans}
    everything = request.selection.everything
    doomed = [item for item in selected(request.selection, observed, project) if item.container not in gone]
    doomed = [*(orphans if request.remove_orphans else ()), *_stop_order(graph, doomed)]
    for item in doomed:
        if item.live:
            builder.stop(item, _cause(item, project, everything), request.timeout_s)
    used = lent(observed, doomed)
    for item in doomed:
        anonymous = request.volumes and item.container not in used
        builder.remove(item, _cause(item, project, everything), anonymous=anonymous)
    if everything:
        builder.remove_leftovers()
        left = [] if request.remove_orphans else [key for item in orphans for key in item.networks]
        builder.remove_networks(frozenset[NetworkName](left))
        if request.volumes:
            builder.remove_volumes()
    return builder.finish(Verb.DOWN, _services(graph, doomed) if not everything else graph.start_order())


def _stop_order(graph: DependencyGraph, items: list[ObservedContainer]) -> list[ObservedContainer]:
    """Dependents first; what is in no stack comes before."""
    ranks = {name: number for number, name in enumerate(graph.stop_order())}
    return sorted(items, key=lambda item: (ranks.get(item.service, -1), item.service, item.instance.number))


def _services(graph: DependencyGraph, items: list[ObservedContainer]) -> tuple[ServiceName, ...]:
    chosen = {item.service for item in items}
    return tuple(name for name in graph.start_order() if name in chosen)


def _cause(item: ObservedContainer, project: Project, everything: bool) -> str:
    if item.service not in project.services:
        return "orphan"
    return "the stack goes down" if everything else "requested"
