"""Whose namespaces and ids a container has, in the words of a config (config-linux.md, "Namespaces"). Pure.

A type that ``linux.namespaces`` does not name is the host's; one that it names is the container's own, or another
container's (`contracts.runtime.SandboxSpec.shares`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.contracts.site import IdMap
from orchestrator.model.namespaces import Namespaces, Sharing
from orchestrator.oci.terms import NAMESPACES

HOST_IDS = IdMap(0, (1 << 32) - 1)
"""All ids as they are: of a container in the host's user namespace."""


NETWORK_FILES = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
"""What goes with a network."""


def own_namespaces(config: Mapping[str, Any]) -> frozenset[str]:
    """The types that are not the host's."""
    return frozenset(item["type"] for item in (config.get("linux") or {}).get("namespaces") or ())


def ids_of(config: Mapping[str, Any], project: IdMap) -> IdMap:
    """The host's ids of the container's ids."""
    return project if "user" in own_namespaces(config) else HOST_IDS


def namespaces_of(namespaces: Namespaces, *, host_user: bool) -> list[dict[str, str]]:
    """``linux.namespaces``. `host_user`: it is in the host's user namespace, whether it says so or not."""
    hosts = {kind for kind in NAMESPACES if kind != "mount" and getattr(namespaces, kind).sharing is Sharing.HOST}
    if host_user:
        hosts.add("user")
    return [{"type": kind} for kind in NAMESPACES if kind not in hosts]
