"""Networks that exist and are not as the stack has them now: made anew, or, if they are shared, called otherwise."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.model.manual import Manual, renamed, restored
from orchestrator.model.names import NetworkName, ServiceName
from orchestrator.model.network import Network
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.plan.observed import ObservedContainer, ObservedProject
from orchestrator.values import replace


def changed_networks(
    project: Project, observed: ObservedProject, chosen: tuple[ServiceName, ...]
) -> dict[NetworkName, str]:
    """Networks in use by `chosen` that exist with another definition than the stack now gives them, and what of that is
    another one."""
    used = {key for name in chosen for key in project.services[name].networks}
    candidates = used & observed.networks.keys() & project.networks.keys()
    found: dict[NetworkName, str] = {}
    for key in sorted(candidates):
        was, now = _shape(observed.networks[key]), _shape(project.networks[key])
        if changed := [name for name in was if was[name] != now[name]]:
            found[key] = f"made anew: {', '.join(changed)} changed"
    return found


def _shape(network: Network) -> dict[str, object]:
    """What cannot be changed while it exists, as the stack calls it."""
    return {
        "name": network.full_name,
        "ipam": network.subnets,
        "enable_ipv4": network.ipv4,
        "enable_ipv6": network.ipv6,
        "internal": network.internal,
        "driver": network.driver,
        "driver_opts": network.options,
        "external": network.external,
    }


def renamed_networks(project: Project, observed: ObservedProject) -> dict[NetworkName, NetworkName]:
    """What the stack calls shared networks now, by what it called them, or by their names for who was connected by hand. A
    network has one name in a project at a time."""
    now = {network.full_name: network.key for network in project.networks.values() if network.external}
    return {
        key: now[network.full_name]
        for key, network in observed.networks.items()
        if network.external and now.get(network.full_name, key) != key and now[network.full_name] not in observed.networks
    }


def called_anew(service: Service, names: Mapping[NetworkName, NetworkName]) -> Service:
    """`service`, on the same networks by the names of now."""
    if not service.networks.keys() & names.keys():
        return service
    attachments = (replace(item, network=names.get(key, key)) for key, item in service.networks.items())
    return replace(service, networks={item.network: item for item in attachments})


def kept_by_hand(
    item: ObservedContainer, service: Service, project: Project, names: Mapping[NetworkName, NetworkName]
) -> tuple[Manual, tuple[str, ...]]:
    """As `model.manual.restored`, for a container that is to be as `service` says."""
    before = renamed(item.record.manual, names)
    found, told = restored(before, called_anew(item.definition, names), service, project)
    mine = {network.key for network in item.record.manual.networks}
    moved = tuple(f"{key} is called {names[key]} now" for key in sorted(names.keys() & mine))
    return found, (*moved, *told)
