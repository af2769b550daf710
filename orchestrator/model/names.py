"""Names that must not be mixed up, and how the names of kernel objects derive from them.

Every object that pystack makes outside its own directories (cgroup, bridge, veth, nft table) has a name that can be
computed from the data directory, the project and the container alone: the next command finds all left-overs without
having been told (security-facts: "intent before side effect").
"""

from __future__ import annotations

from enum import Enum
from typing import NewType

from orchestrator.model.keys import PROJECT_NAME_HINT as PROJECT_NAME_HINT
from orchestrator.model.keys import ProjectKey as ProjectKey
from orchestrator.model.keys import ProjectName as ProjectName
from orchestrator.model.keys import normal_project_name as normal_project_name
from orchestrator.model.keys import parse_project_name as parse_project_name
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

CONTAINER_NAME = r"[a-zA-Z0-9][a-zA-Z0-9_.-]+"
"""What a container may be called (a regular expression), as Docker has it."""

CGROUP_ROOT = "pystack"
_CGROUP_CONTROLLERS = (
    "blkio.", "cgroup.", "cpu.", "cpuacct.", "cpuset.", "debug.", "devices.", "dmem.", "freezer.", "hugetlb.", "io.",
    "irq.", "memory.", "misc.", "net_cls.", "net_prio.", "perf_event.", "pids.", "rdma.",
)  # fmt: skip
_CGROUP_FILES = frozenset({"tasks", "notify_on_release", "release_agent"})
"""What the kernel has in a group's directory: ``CONTROLLER.FILE``, and these (cgroups(7))."""

class Role(Enum):
    """What a container of a service is for."""

    REPLICA = "replica"
    ONE_OFF = "one-off"
    """Made by ``run``: never restarted, never replaced, not counted by conditions and ``scale``."""
    JOB = "job"
    """A run of a job, by hand or by its schedule: as a one-off, and the last few that ended stay."""
    INIT = "init"
    """Made by ``pre_start``, before a replica."""


SINGLE = frozenset({Role.ONE_OFF, Role.JOB})
"""Run once, beside what the stack wants: never restarted, never replaced."""
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


def successor_id(project: ProjectName, instance: Instance, current: ContainerId) -> ContainerId:
    """The name of the container that takes the place of the replica `current` while both are there: a replica has two
    names, and uses them by turns. No other replica's name ends so."""
    usual = instance_id(project, instance)
    return ContainerId(f"{usual}-b") if current == usual else usual


def volume_owner(project: ProjectName, instance: Instance, container: ContainerId) -> ContainerId:
    """Whose the anonymous volumes of `container` are: a replica has the same ones under both of its names."""
    usual = instance_id(project, instance)
    succeeds = instance.role is Role.REPLICA and container == successor_id(project, instance, usual)
    return usual if succeeds else container


def init_id(project: ProjectName, instance: Instance, step: int) -> ContainerId:
    """The name of the container that does a step (from 0) before `instance` starts: ``project-service-init-1.0``. No
    replica's name ends so."""
    return ContainerId(f"{project}-{instance.service}-{_INFIX[Role.INIT]}{instance.number}.{step}")


def bridge_name(key: ProjectKey, network: NetworkName, attempt: int = 0) -> str:
    """At most 15 bytes (IFNAMSIZ - 1): ``psb`` + 8 + 4. `attempt` counts on while another network has that name."""
    return f"psb{key}{short_hash(_again(network, attempt), 4)}"


def veth_name(key: ProjectKey, container: ContainerId, network: NetworkName, attempt: int = 0) -> str:
    """The host's end: ``psv`` + 6 + 6 = 15 bytes. `attempt` counts on while another container has that name."""
    return f"psv{key[:6]}{short_hash(_again(f'{container}/{network}', attempt), 6)}"


def _again(text: str, attempt: int) -> str:
    return f"{text}#{attempt}" if attempt else text


def bridge_mark(key: ProjectKey) -> str:
    """The alias of a bridge that the stack names: whose it is."""
    return f"pystack {key}"


def nft_table(key: ProjectKey) -> str:
    return f"pystack_{key}"


def seen_table(key: ProjectKey) -> str:
    """While somebody looks who talks to whom (``pystack net --observe on``)."""
    return f"pystack_{key}_seen"


def shared_bridge(data_root: str, network: str) -> str:
    """The bridge of a network that projects of `data_root` share: no project's key begins with ``n``. 15 bytes."""
    return f"psbn{_shared(data_root, network, 11)}"


def shared_table(data_root: str, network: str) -> str:
    return f"pystack_n_{_shared(data_root, network, 11)}"


def shared_mark(data_root: str, network: str) -> str:
    """The alias of such a bridge, whatever it is called."""
    return f"pystack network {_shared(data_root, network, 11)}"


def _shared(data_root: str, network: str, digits: int) -> str:
    return short_hash(f"{data_root}/{network}", digits)


def chaos_table(key: ProjectKey) -> str:
    """The tables of faults on purpose."""
    return f"pystack_{key}_chaos"


def cgroup_path(key: ProjectKey, container: ContainerId, parent: str = "") -> str:
    """Relative to each hierarchy's root: ``pystack/KEY/CONTAINER``, below `parent` if there is one; with ``_`` before an id
    that would be taken for one of the kernel's own files there (``memory.max``, ``tasks``). No id begins with that."""
    reserved = container in _CGROUP_FILES or any(container[: len(name)] == name for name in _CGROUP_CONTROLLERS)
    return f"{parent}{'/' if parent else ''}{CGROUP_ROOT}/{key}/{'_' if reserved else ''}{container}"
