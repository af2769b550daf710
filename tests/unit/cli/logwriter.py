"""Log files as the monitor writes them (docs/monitor-protocol.md, "Files")."""

from __future__ import annotations

import os
import struct
import time

from orchestrator.contracts.site import Site
from orchestrator.contracts.state import ContainerRecord, Definition, ProjectRecord
from orchestrator.model.names import ContainerId, Instance, ServiceName
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.state.records import FileState


def recorded(site: Site, **containers: str) -> None:
    """The project's records say that these containers (``-`` written as ``_``) are of these services."""
    os.makedirs(site.data_dir, mode=0o700, exist_ok=True)
    records = []
    for name, service in containers.items():
        definition = Definition(Service(ServiceName(service), "host"))
        records.append(ContainerRecord(ContainerId(name.replace("_", "-")), Instance(definition.service.name), definition))
    state = FileState(site)
    state.commit(ProjectRecord(Project(site.project, "/", {}), tuple(records)))
    state.close()


class LogWriter:
    """Appends lines to a container's log. Bytes first, then the index record, as the monitor does."""

    def __init__(self, site: Site, container: str) -> None:
        directory = os.path.join(site.data_dir, "logs")
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self._prefix = os.path.join(directory, container)
        for kind in ("log", "idx"):
            open(f"{self._prefix}.{kind}", "ab").close()

    def write(self, data: bytes, time_ns: int | None = None, stream: int = 1) -> None:
        offset = os.path.getsize(f"{self._prefix}.log")
        with open(f"{self._prefix}.log", "ab") as file:
            file.write(data)
        record = struct.pack("<QIIQ", offset, len(data), stream, time.time_ns() if time_ns is None else time_ns)
        with open(f"{self._prefix}.idx", "ab") as file:
            file.write(record)
