"""Names that must not be mixed up, and how the names of kernel objects derive from them.

Every object that pystack makes outside its own directories (cgroup, bridge, veth, nft table) has a name that can be
computed from the data directory, the project and the container alone: the next command finds all left-overs without
having been told (security-facts: "intent before side effect").
"""

from __future__ import annotations

from enum import Enum
from typing import NewType

from orchestrator.model.keys import ProjectKey as ProjectKey
from orchestrator.model.keys import ProjectName as ProjectName
from orchestrator.model.keys import project_key as project_key
from orchestrator.model.keys import short_hash as short_hash
from orchestrator.values import frozen

ServiceName = NewType("ServiceName", str)
NetworkName = NewType("NetworkName", str)
"""The key under ``networks:`` (``default``), not the full name (``P_default``)."""
VolumeName = NewType("VolumeName", str)
"""The key under ``volumes:``, not the full name (``P_data``)."""
ContainerId = NewType("ContainerId", str)
"""The container's name (``PROJECT-SERVICE-1``, ``container_name``) and its directory's name. Unique within its project
alone: whatever lies outside the project's own directory is named by (project key, id). Never parsed: see `Instance`."""

CGROUP_ROOT = "pystack"


class Role(Enum):
    """What a container of a service is for."""

    REPLICA = "replica"
    ONE_OFF = "one-off"
    """Made by ``run``: never restarted, never replaced, not counted by conditions and ``scale``."""
    JOB = "job"
    """Made by a job's trigger."""
    INIT = "init"
    """Made by ``pre_start``, before a replica."""


_INFIX = {Role.REPLICA: "", Role.ONE_OFF: "run-", Role.JOB: "job-", Role.INIT: "init-"}


@frozen
class Instance:
    """Which container of a service it is. `number` counts from 1 among those of the same role."""

    service: ServiceName
    role: Role = Role.REPLICA
    number: int = 1


def container_id(project: ProjectName, service: ServiceName, index: int = 1) -> ContainerId:
    """The container's name, as Docker Compose v2 makes it: ``project-service-1``."""
    return instance_id(project, Instance(service, number=index))


def instance_id(project: ProjectName, instance: Instance, slug: str = "") -> ContainerId:
    """The name of a container that the stack does not name, as Docker Compose v2 makes it: ``project-service-1``,
    ``project-service-run-SLUG``. `slug` (hex digits) stands for the number where numbers would be used again too soon."""
    return ContainerId(f"{project}-{instance.service}-{_INFIX[instance.role]}{slug or instance.number}")


def bridge_name(key: ProjectKey, network: NetworkName) -> str:
    """At most 15 bytes (IFNAMSIZ - 1): ``psb`` + 8 + 4."""
    return f"psb{key}{short_hash(network, 4)}"


def veth_name(key: ProjectKey, container: ContainerId, network: NetworkName) -> str:
    """The host's end: ``psv`` + 6 + 6 = 15 bytes."""
    return f"psv{key[:6]}{short_hash(f'{container}/{network}', 6)}"


def nft_table(key: ProjectKey) -> str:
    return f"pystack_{key}"


def cgroup_path(key: ProjectKey, container: ContainerId) -> str:
    """Relative to each hierarchy's root: ``pystack/KEY/CONTAINER``."""
    return f"{CGROUP_ROOT}/{key}/{container}"
