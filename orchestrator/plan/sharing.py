"""Whose namespaces the containers of a service are in, as a plan sees it: which services have to be there first, and which
very container it is. A container is made anew when the one whose namespaces it is in is another. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.model.names import ContainerId, Instance, ServiceName, instance_id
from orchestrator.model.namespaces import Namespace, Sharing
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.plan.observed import ObservedContainer, ObservedProject


def shared_of(service: Service) -> dict[str, Namespace]:
    """The type of each namespace that is another container's -> whose."""
    kinds = {"network": service.namespaces.network, "pid": service.namespaces.pid, "ipc": service.namespaces.ipc}
    others = (Sharing.SERVICE, Sharing.CONTAINER)
    return {kind: namespace for kind, namespace in kinds.items() if namespace.sharing in others}


def shared_services(project: Project, service: Service) -> dict[ServiceName, str]:
    """The services of the stack in whose first container's namespaces it is, by whichever name -> the type of the first of
    these."""
    found: dict[ServiceName, str] = {}
    for kind, namespace in shared_of(service).items():
        name = ServiceName(namespace.of)
        owner = name if namespace.sharing is Sharing.SERVICE else _service_with(project, ContainerId(namespace.of))
        if owner is not None and (namespace.sharing is Sharing.SERVICE or not _waits_for(project, owner, service.name)):
            found.setdefault(owner, kind)
    return found


def _service_with(project: Project, container: ContainerId) -> ServiceName | None:
    """The service whose first container is called so."""
    for name, service in project.services.items():
        if container == (service.container_name or instance_id(project.name, Instance(name))):
            return name
    return None


def _waits_for(project: Project, owner: ServiceName, name: ServiceName) -> bool:
    """Whether `owner` needs `name` first, or is it: two cannot wait for each other, and nobody has said that they do."""
    seen, todo = {owner}, [owner]
    while todo:
        if (each := todo.pop()) == name:
            return True
        service = project.services.get(each)
        if service is None:
            continue
        others = [ServiceName(item.of) for item in shared_of(service).values() if item.sharing is Sharing.SERVICE]
        others += service.depends_on
        for item in shared_of(service).values():
            if item.sharing is Sharing.CONTAINER and (found := _service_with(project, ContainerId(item.of))) is not None:
                others.append(found)
        todo += [other for other in others if other not in seen]
        seen.update(others)
    return False


def owners(service: Service, observed: ObservedProject) -> dict[str, ObservedContainer]:
    """The type of each namespace that is another container's of this project -> that container, if it is there: of a
    service its first replica."""
    found: dict[str, ObservedContainer] = {}
    for kind, namespace in shared_of(service).items():
        if namespace.sharing is Sharing.SERVICE:
            replicas = observed.replicas(ServiceName(namespace.of))
            owner = replicas[0] if replicas else None
        else:
            owner = observed.containers.get(ContainerId(namespace.of))
        if owner is not None:
            found[kind] = owner
    return found


def shared_identities(service: Service, observed: ObservedProject) -> Mapping[str, str]:
    """What of `plan.hashing.config_hash` is about them."""
    return {kind: identity(item.container, item.record.created_at) for kind, item in owners(service, observed).items()}


def identity(container: ContainerId, created_at: float) -> str:
    """A name for this very container: another one of the same name has another."""
    return f"{container}@{created_at:.6f}"
