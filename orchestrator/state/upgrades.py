"""What older versions stored, as this one stores it.

Each kind of stored value has a chain of pure functions, JSON in and JSON out, one per step: the first makes version 2 of
version 1. They know the classes of no version, so they stay as they are when the classes move on. A step adds what the new
version needs; what only the old one knew may stay, since the codec passes over it and the next write drops it. A step
raises KeyError, TypeError, AttributeError or ValueError for data that its version cannot have written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.errors import InputError
from orchestrator.state.upgrade_v1 import upgrade_endpoint_v1, upgrade_network_v1
from orchestrator.units import parse_signal

Data = dict[str, Any]

SIGTERM = 15


def project_2(project: Data) -> Data:
    """Networks have several subnets."""
    networks = project.get("networks", {})
    return project | {"networks": {key: upgrade_network_v1(item) for key, item in networks.items()}}


def record_2(record: Data, project: Data) -> Data:
    """A record says which container of its service it is, and what it was made from: all that version 1 knew of that is
    the recorded stack's definition of its service, and nothing of its image."""
    service = record["service"]
    definition = project["services"].get(service) or {"name": service, "image": ""}
    return record | {
        "instance": {"service": service},
        "definition": definition_of(definition),
        "endpoints": [upgrade_endpoint_v1(item) for item in record.get("endpoints", [])],
    }


def wanted_2(wanted: Data) -> Data:
    """Definitions have a table, and `networks` are those that exist: of the stack, those that a container is on."""
    project = project_2(wanted["project"])
    containers = [record_2(item, project) for item in wanted["containers"]]
    used = {endpoint["network"] for item in containers for endpoint in item["endpoints"]}
    networks = [item for key, item in project["networks"].items() if key in used]
    return wanted | {"project": project, "containers": containers, "networks": networks, "definitions": {}}


def event_2(event: Data) -> Data:
    """The same: only the line has a version now."""
    return event


def volume_2(volume: Data) -> Data:
    """The project, its key and the volume's identity are not known: whoever uses the volume next sets them."""
    return volume


STEPS: Mapping[str, tuple[Callable[..., Data], ...]] = {
    "wanted": (wanted_2,),
    "record": (record_2,),
    "event": (event_2,),
    "volume": (volume_2,),
}
"""By the kind of value. The steps of a journal's "record" also take the project, in the version that comes out."""


def upgrade(kind: str, data: Data, from_version: int, *context: Data) -> Data:
    """`data` through all steps of its kind that come after `from_version` (1 or more)."""
    for step in STEPS[kind][from_version - 1 :]:
        data = step(data, *context)
    return data


def definition_of(service: Data) -> Data:
    """What a container of `service` is made from, as far as the stack's file tells."""
    check = service.get("healthcheck")
    if check is not None and (check.get("test") is None or check.get("disabled")):
        check = None
    made: Data = {"service": service, "image": "", "stop_signal": _signal(service.get("stop_signal"))}
    return made if check is None else made | {"check": check}


def _signal(name: str | None) -> int:
    """Version 1 accepted names that are none, and its ``stop`` then sent SIGTERM's successor at once; now it is SIGTERM."""
    try:
        return parse_signal(name) if name else SIGTERM
    except InputError:
        return SIGTERM
