"""Which container of which project publishes a host port, by the records of the projects."""

from __future__ import annotations

from orchestrator.errors import PystackError
from orchestrator.model.names import ProjectName
from orchestrator.state.directory import site_of
from orchestrator.state.reading import Reading


def publisher(data_root: str, project: str, protocol: str, port: int) -> tuple[str, str] | None:
    """The service and the container of `project` that `port` was given to; None when its records do not say."""
    try:
        record = Reading(site_of(data_root, "/", ProjectName(project))).record
    except PystackError:
        return None
    for item in record.containers if record is not None else ():
        if any((one.protocol, one.host_port) == (protocol, port) for one in item.published):
            return item.instance.service, item.container
    return None
