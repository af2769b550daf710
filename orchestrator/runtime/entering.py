"""The steps that enter the namespaces of a container: those that every monitor knows, where these do it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.contracts.runtime import SandboxSpec
from orchestrator.kernel import constants as c
from orchestrator.oci.namespaces import own_namespaces

_KINDS = {
    "user": c.CLONE_NEWUSER,
    "network": c.CLONE_NEWNET,
    "pid": c.CLONE_NEWPID,
    "mount": c.CLONE_NEWNS,
    "uts": c.CLONE_NEWUTS,
    "ipc": c.CLONE_NEWIPC,
    "cgroup": c.CLONE_NEWCGROUP,
}
_ALL = frozenset(_KINDS)
_OF_RUNS = ("pid", "ipc")
"""Shared ones that are of another container's run."""


def entering(spec: SandboxSpec) -> tuple[str, tuple[Any, ...]]:
    """Name and arguments of the step of a new run."""
    own = own_namespaces(spec.config)
    joined = [[kind, _KINDS[kind]] for kind in _OF_RUNS if kind in spec.shares]
    if own == _ALL and not joined:
        return "enter", ()
    made = sum(_KINDS[kind] for kind in own if kind not in ("user", "network", *spec.shares))
    return "enter_some", ("user" in own, "network" in own, made, joined)


def joining(config: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]]:
    """Those of the step of a further process."""
    own = own_namespaces(config)
    return ("join", ()) if own == _ALL else ("join_some", (sum(_KINDS[kind] for kind in own),))
