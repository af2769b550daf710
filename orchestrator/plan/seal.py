"""What a plan rests on, so that a plan of yesterday is carried out only in the world that it was made for.

A seal maps each thing that a plan has looked at, by a name for people, to a digest of what it was: containers with their
records and whether they run, the images of services, networks, volumes, and the plan's own operations. Two that are equal
mean the same plan for the same world; what differs has moved.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from orchestrator.errors import MovedError
from orchestrator.model.codec import to_json
from orchestrator.model.names import ServiceName
from orchestrator.model.project import Project
from orchestrator.plan.observed import ObservedContainer, ObservedProject
from orchestrator.plan.plan import Plan

Seal = Mapping[str, str]

THE_PLAN = "the plan itself"
_STACK = "the compose files"
_NAMED = 5


def seal_of(plan: Plan, observed: ObservedProject, images: Mapping[ServiceName, str | None]) -> Seal:
    """`images`: as for `plan.reconcile`; those of the plan's services."""
    seal = {f"the image of {name}": identity or "not here" for name, identity in images.items()}
    seal |= {f"container {item.container}": _digest(_facts(item)) for item in observed.containers.values()}
    seal |= {f"container {name}": "left over" for name in observed.leftovers}
    seal |= {f"network {key}": _digest(to_json(network)) for key, network in observed.networks.items()}
    seal |= {f"volume {key}": identity for key, identity in observed.volumes.items()}
    return seal | {THE_PLAN: _digest(_without_places(to_json(plan.operations)))}


def stack_seal(project: Project) -> Seal:
    """Of what the compose files say. Where in the files it stands makes no difference."""
    data = _without_places(to_json(project))
    assert isinstance(data, dict)
    seal: dict[str, str] = {}
    for part, name in (("services", "service"), ("networks", "network"), ("volumes", "volume")):
        seal |= {f"{name} {key} of {_STACK}": _digest(value) for key, value in data.pop(part, {}).items()}
    return seal | {_STACK: _digest(data)}


def check_seal(expected: Seal, found: Seal) -> None:
    """Raises MovedError that names what is not as it was."""
    moved = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if not moved:
        return
    # The plan is another one because something has moved: it is named only when nothing else explains it.
    causes = [name for name in moved if name != THE_PLAN] or moved
    more = f" and {len(causes) - _NAMED} more" if len(causes) > _NAMED else ""
    raise MovedError(
        f"not as it was when the plan was made: {', '.join(causes[:_NAMED])}{more}",
        hint="nothing was done; `pystack plan -o FILE` makes a plan for how things are now",
    )


def _facts(item: ObservedContainer) -> list[object]:
    """What plans go by. That a container has crashed and is up again, or is about to be, moves nothing."""
    record = item.record
    return [record.config_hash, record.created_at, record.wanted.value, record.gave_up, item.live, item.paused]


def _digest(data: object) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _without_places(data: object) -> object:
    if isinstance(data, dict):
        return {key: _without_places(value) for key, value in data.items() if key not in ("place", "places")}
    return [_without_places(value) for value in data] if isinstance(data, list) else data
