"""Observed + ``network connect`` or ``disconnect`` -> Plan. What stays of them is in `model.manual`."""

from __future__ import annotations

from orchestrator.contracts.control import Connect, Disconnect
from orchestrator.errors import InputError, OperationError
from orchestrator.graph.dependencies import DependencyGraph
from orchestrator.model.manual import connected, with_joined, with_left
from orchestrator.model.names import ContainerId, NetworkName, ServiceName
from orchestrator.model.namespaces import Sharing
from orchestrator.model.network import Attachment, Network
from orchestrator.model.project import Project
from orchestrator.plan.builder import PlanBuilder
from orchestrator.plan.observed import ObservedContainer, ObservedProject
from orchestrator.plan.plan import Plan, Verb
from orchestrator.plan.selection import no_such_service
from orchestrator.values import replace


def plan_connect(request: Connect, observed: ObservedProject, project: Project) -> Plan:
    """Raises InputError for a name that is nothing's, OperationError for a container that is on it already or cannot be."""
    builder = PlanBuilder(project, observed, DependencyGraph.of(project))
    chosen = _meant(request.target, observed, project)
    network = _network(request.network, observed, project, shared=request.shared)
    if len(chosen) > 1 and (request.ipv4_address or request.ipv6_address or request.link_local):
        raise InputError(
            f'service "{request.target}" has {len(chosen)} containers, and an address is for one',
            hint=f"name the container: {chosen[0].container}",
        )
    _check_links(request, network, observed, project)
    for item in chosen:
        _check_own_network(item)
        if network.key in connected(item.definition, item.record.manual).networks:
            raise OperationError(f'container "{item.container}" is on network "{request.network}" already')
        attachment = _attachment(request, network.key, item)
        manual = with_joined(item.record.manual, attachment, network, item.definition.networks)
        builder.reconnect(item, None, f"networks +{network.key}", manual)
    return builder.finish(Verb.CONNECT, _services(chosen))


def plan_disconnect(request: Disconnect, observed: ObservedProject, project: Project) -> Plan:
    """Raises as `plan_connect`; with `force` there may be nothing to do."""
    builder = PlanBuilder(project, observed, DependencyGraph.of(project))
    if request.force and not _known(request.target, observed):
        return builder.finish(Verb.DISCONNECT, ())
    chosen = _meant(request.target, observed, project)
    named = _called(request.network, observed, project)
    for item in chosen:
        own = connected(item.definition, item.record.manual).networks
        key = next((network.key for network in named if network.key in own), None)
        if key is not None:
            manual = with_left(item.record.manual, key, item.definition.networks)
            builder.reconnect(item, None, f"networks -{key}", manual)
        elif not request.force:
            raise OperationError(
                f'container "{item.container}" is not on network "{request.network}"',
                hint=f"it is on {', '.join(own)}" if own else "it is on none",
            )
    return builder.finish(Verb.DISCONNECT, _services(chosen))


def _meant(target: str, observed: ObservedProject, project: Project) -> list[ObservedContainer]:
    """The replicas of the service, or the one container."""
    name = ServiceName(target)
    if name in project.services or observed.replicas(name):
        if found := [item for item in observed.replicas(name) if item.sandbox is not None]:
            return found
        raise OperationError(f'service "{target}" has no container', hint=f"create it with: pystack up {target}")
    item = observed.containers.get(ContainerId(target))
    if item is None:
        raise no_such_service(project, name)
    if item.sandbox is None:
        raise OperationError(f'container "{target}" does not exist: {item.why_gone}')
    return [item]


def _known(target: str, observed: ObservedProject) -> bool:
    return bool(observed.replicas(ServiceName(target))) or ContainerId(target) in observed.containers


def _called(name: str, observed: ObservedProject, project: Project) -> list[Network]:
    """Networks that `name` may mean, likely ones first: the stack's own word for it, then whole names."""
    manual = [network for item in observed.containers.values() for network in item.record.manual.networks]
    known = [*project.networks.values(), *observed.networks.values(), *manual]
    return [*(item for item in known if item.key == name), *(item for item in known if item.full_name == name)]


def _network(name: str, observed: ObservedProject, project: Project, *, shared: bool) -> Network:
    """`shared`: see `Connect`."""
    found = _called(name, observed, project)
    if not found and shared:
        return Network(NetworkName(name), name, external=True)
    if not found:
        of_the_machine = name in ("host", "none", "bridge")  # Nobody can make one of that name.
        raise InputError(
            f'there is no network "{name}"' + (" to be put on: it is a network_mode" if of_the_machine else ""),
            hint=f"write network_mode: {name} in its service"
            if of_the_machine
            else f"`pystack network ls` lists them; `pystack network create {name}` makes one",
        )
    return found[0]


def _check_own_network(item: ObservedContainer) -> None:
    sharing, of = item.definition.namespaces.network.sharing, item.definition.namespaces.network.of
    if sharing is Sharing.PRIVATE:
        return
    where = {Sharing.HOST: "the machine's", Sharing.NONE: "none"}.get(sharing, f"that of {of}")
    raise OperationError(
        f'container "{item.container}" cannot be put on a network: its network_mode is {where}',
        hint="give its service networks of its own" if sharing in (Sharing.HOST, Sharing.NONE) else f"connect {of}",
    )


def _check_links(request: Connect, network: Network, observed: ObservedProject, project: Project) -> None:
    """Raises InputError for a link to what is not there; who else is on a shared network is not known here."""
    for alias, target in request.links:
        if not network.external and ServiceName(target) not in project.services and not _known(target, observed):
            raise InputError(
                f'"{target}", which "{alias}" is to mean, is neither a service nor a container', place="--link"
            )


def _attachment(request: Connect, key: NetworkName, item: ObservedContainer) -> Attachment:
    said = item.definition.networks.get(key, Attachment(key))
    return replace(
        said,
        aliases=tuple(dict.fromkeys((*said.aliases, *request.aliases))),
        ipv4_address=request.ipv4_address or said.ipv4_address,
        ipv6_address=request.ipv6_address or said.ipv6_address,
        link_local=request.link_local or said.link_local,
        links=request.links or said.links,
        gw_priority=request.gw_priority or said.gw_priority,
    )


def _services(chosen: list[ObservedContainer]) -> tuple[ServiceName, ...]:
    return tuple(dict.fromkeys(item.service for item in chosen))
