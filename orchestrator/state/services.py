"""Which service each container is of, read as cheaply as it can be: `logs` asks before each run.

Only containers' names and their services are looked at, and nothing is made a value. Records that are not as this version
writes them (damaged, or older) are read by `state.records`, which takes far longer to import.
"""

from __future__ import annotations

import os

from orchestrator.kernel import jsontext
from orchestrator.state.directory import JOURNAL, WANTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from orchestrator.contracts.site import Site
    from orchestrator.model.names import ContainerId, ServiceName


def services_of(site: Site) -> dict[ContainerId, ServiceName]:
    """The service of each container that is recorded. Raises as `FileState.load`."""
    try:
        return _seen(site)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        from orchestrator.state.records import FileState

        record = FileState(site).load()
        return {item.container: item.instance.service for item in record.containers} if record is not None else {}


def stack_of(site: Site) -> set[str]:
    """The names of the recorded stack's services. Raises as `FileState.load`."""
    try:
        (wanted,) = _lines(os.path.join(site.data_dir, WANTED))
        return set(wanted["project"]["services"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        from orchestrator.state.records import FileState

        record = FileState(site).load()
        return {str(name) for name in record.project.services} if record is not None else set()


def _seen(site: Site) -> dict[ContainerId, ServiceName]:
    (wanted,) = _lines(os.path.join(site.data_dir, WANTED))
    found = {item["container"]: item["instance"]["service"] for item in wanted["containers"]}
    for line in _lines(os.path.join(site.data_dir, JOURNAL)):
        if line["generation"] < wanted["generation"]:
            continue  # From before the last commit.
        if "record" in line:
            found[line["record"]["container"]] = line["record"]["instance"]["service"]
        elif "forget" in line:
            found.pop(line["forget"], None)
    return found


def _lines(path: str) -> list[Any]:
    with open(path, "rb") as file:
        return [jsontext.loads(line) for line in file.read().split(b"\n") if line]
