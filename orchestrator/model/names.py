"""Names that must not be mixed up, and how the names of kernel objects derive from them.

Every object that pystack makes outside its own directories (cgroup, bridge, veth, nft table) has a name that can be
computed from the data directory, the project and the container alone: the next command finds all left-overs without
having been told (security-facts: "intent before side effect").
"""

from __future__ import annotations

import hashlib
from typing import NewType

ProjectName = NewType("ProjectName", str)
ServiceName = NewType("ServiceName", str)
NetworkName = NewType("NetworkName", str)
"""The key under ``networks:`` (``default``), not the full name (``P_default``)."""
VolumeName = NewType("VolumeName", str)
"""The key under ``volumes:``, not the full name (``P_data``)."""
ContainerId = NewType("ContainerId", str)
"""``PROJECT-SERVICE-N``: the container's name and its directory's name, unique within a data directory."""
ProjectKey = NewType("ProjectKey", str)
"""Eight hex digits that stand for (data directory, project) in the names of kernel objects."""

CGROUP_ROOT = "pystack"


def short_hash(text: str, length: int) -> str:
    """The first `length` hex digits of SHA-256 of `text`."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:length]


def project_key(data_dir: str, project: ProjectName) -> ProjectKey:
    return ProjectKey(short_hash(f"{data_dir}\0{project}", 8))


def container_id(project: ProjectName, service: ServiceName, index: int = 1) -> ContainerId:
    """The container's name, as Docker Compose v2 makes it: ``project-service-1``."""
    return ContainerId(f"{project}-{service}-{index}")


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
