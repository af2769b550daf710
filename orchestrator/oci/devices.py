"""The devices of a container, in the words of an OCI config (runtime-spec, config-linux.md).

The group of a container gets a device list only where something depends on it: where a service asks for devices, or shares
the host's user namespace. Elsewhere no device opens but those of our own /dev: nothing can be made with mknod(2) in a user
namespace, and all that is mounted is ``nodev``. Pure.
"""

from __future__ import annotations

from typing import Any

from orchestrator.model.devices import ANY, DeviceNode
from orchestrator.model.service import Service
from orchestrator.values import frozen


@frozen
class PartMount:
    source: str
    target: str
    options: tuple[str, ...] = ()


@frozen
class HostParts:
    """What a service's devices are on this machine: nodes, and what CDI adds to them (container device interface,
    ``containerEdits``). `hooks`: kind -> the runtime-spec's hook objects."""

    nodes: tuple[DeviceNode, ...] = ()
    environment: tuple[str, ...] = ()
    mounts: tuple[PartMount, ...] = ()
    groups: tuple[int, ...] = ()
    hooks: tuple[tuple[str, dict[str, Any]], ...] = ()


def has_device_list(service: Service) -> bool:
    """Whether the container's group says which devices may be used."""
    wants = service.devices.grants or service.devices.rules or service.devices.requests
    return bool(wants) or service.security.privileged or service.namespaces.host_user


def devices_of(parts: HostParts) -> list[dict[str, Any]] | None:
    """``linux.devices``."""
    return [
        {
            "path": node.path,
            "type": node.kind,
            "major": node.major,
            "minor": node.minor,
            "fileMode": node.mode,
            "uid": node.uid,
            "gid": node.gid,
        }
        for node in parts.nodes
    ] or None


def device_list_of(service: Service, parts: HostParts) -> list[dict[str, Any]] | None:
    """``linux.resources.devices``: nothing, then what is asked for; all for a privileged service. The runtime adds what
    every container has."""
    if not has_device_list(service):
        return None
    if service.security.privileged:
        return [{"allow": True, "access": "rwm"}]
    rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    for node in parts.nodes:
        rules.append(
            {"allow": True, "type": node.kind, "major": node.major, "minor": node.minor, "access": node.access}
        )
    for rule in service.devices.rules:
        numbers = {name: number for name, number in (("major", rule.major), ("minor", rule.minor)) if number != ANY}
        rules.append({"allow": True, "type": rule.kind, **numbers, "access": rule.access})
    return rules
