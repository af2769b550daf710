"""Which containers and services there are, read as cheaply as it can be: `logs` asks before each run.

Only names and numbers are looked at, and hardly anything is made a value. Records that are not as this version writes
them (damaged, or older) are read by `state.records`, which takes far longer to import.
"""

from __future__ import annotations

import os

from orchestrator.kernel import jsontext
from orchestrator.kernel.plain import opener
from orchestrator.state.directory import JOURNAL, WANTED
from orchestrator.values import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from orchestrator.contracts.site import Site
    from orchestrator.model.names import ContainerId, ServiceName


@frozen
class RecordedContainer:
    """`role`, `number`: of its `Instance`; the role's value."""

    service: ServiceName
    role: str = "replica"
    number: int = 1


@frozen
class Recorded:
    """`services`: of the whole stack, also those that have no container. `unlogged`: those of which no log is kept."""

    containers: dict[ContainerId, RecordedContainer]
    services: tuple[ServiceName, ...] = ()
    unlogged: frozenset[ServiceName] = frozenset()


def recorded(site: Site) -> Recorded:
    """What is recorded of the project; nothing when there are no records. Raises as `FileState.load`."""
    try:
        return _seen(site)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        from orchestrator.state.records import FileState

        record = FileState(site).load()
        if record is None:
            return Recorded({})
        found = {item.container: item.instance for item in record.containers}
        containers = {name: RecordedContainer(it.service, it.role.value, it.number) for name, it in found.items()}
        services = record.project.services
        unlogged = frozenset(name for name, service in services.items() if not service.logging.kept)
        return Recorded(containers, tuple(services), unlogged)


def _seen(site: Site) -> Recorded:
    (wanted,) = _lines(os.path.join(site.data_dir, WANTED))
    found = {item["container"]: _container(item) for item in wanted["containers"]}
    journal = os.path.join(site.data_dir, JOURNAL)
    for line in _lines(journal) if os.path.exists(journal) else ():
        if line["generation"] < wanted["generation"]:
            continue  # From before the last commit.
        if "record" in line:
            found[line["record"]["container"]] = _container(line["record"])
        elif "forget" in line:
            found.pop(line["forget"], None)
    services = wanted["project"]["services"]
    unlogged = frozenset(name for name, service in services.items() if not service.get("logging", {}).get("kept", True))
    return Recorded(found, tuple(services), unlogged)


def _container(item: Any) -> RecordedContainer:
    instance = item["instance"]
    return RecordedContainer(instance["service"], instance.get("role", "replica"), instance.get("number", 1))


def _lines(path: str) -> list[Any]:
    with open(path, "rb", opener=opener) as file:
        return [jsontext.loads(line) for line in file.read().split(b"\n") if line]
