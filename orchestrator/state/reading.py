"""Reading a project's records, damaged or not, of this version or an older one.

In order: ``wanted.json``, or ``wanted.json.copy`` where that is damaged or gone, then the lines of ``records.journal`` from
that generation on. If both files are lost, the journal alone still tells of the containers that changed since the last
commit. What cannot be read is left out and told; nothing in here writes.
"""

from __future__ import annotations

import os
from typing import Any

from orchestrator.contracts.site import Site
from orchestrator.contracts.state import ContainerRecord, Definition, Finding, ProjectRecord
from orchestrator.errors import HostError, OperationError, access_hint
from orchestrator.kernel.plain import opener
from orchestrator.kernel.sealed import VERSION, Data, unseal, version_of
from orchestrator.model.codec import from_json
from orchestrator.model.names import ContainerId
from orchestrator.model.network import Network
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.state.definitions import Definitions
from orchestrator.state.directory import JOURNAL, WANTED, WANTED_COPY
from orchestrator.state.versions import upgraded
from orchestrator.values import replace

_UNFIT = (ValueError, KeyError, TypeError, AttributeError)
"""What data raises that nobody can have written."""


class Reading:
    """What the files say. `generation`: of the newest commit that left a trace. `damaged`: names of files to be kept aside
    before they are written again."""

    def __init__(self, site: Site) -> None:
        self.generation = 0
        self.definitions = Definitions()
        self.findings: list[Finding] = []
        self.damaged: list[str] = []
        self._site = site
        self._wanted: Data | None = None
        """What a ProjectRecord is made of, but for its containers."""
        self._stack: Data = {"services": {}}
        """The project as JSON: what lines of version 1 are completed by."""
        self._containers: dict[ContainerId, ContainerRecord] = {}
        lost = self._read_wanted()
        self._read_journal()
        if lost:
            self._tell_lost(lost)

    @property
    def record(self) -> ProjectRecord | None:
        if self._wanted is None and not self._containers:
            return None
        record = from_json(ProjectRecord, (self._wanted or self._guessed()) | {"containers": []})
        return replace(record, containers=tuple(self._containers.values()))

    def _read_wanted(self) -> list[str]:
        """The wanted state. The names of the files that should have told it and did not, if none did."""
        lost: list[str] = []
        for name in (WANTED, WANTED_COPY):
            if (raw := self._bytes(name)) is None:
                continue
            if any(self._take_wanted(value) for value in unseal(raw) if value is not None):
                if lost or name == WANTED_COPY:
                    what = "is damaged" if lost else "is gone"
                    self._tell(WANTED, what, f"{WANTED_COPY} was read instead, and says the same")
                return []
            self.damaged.append(name)
            lost.append(name)
        return lost

    def _take_wanted(self, value: Data) -> bool:
        try:
            version = version_of(value)
            self._refuse_newer(version, WANTED)
            value = upgraded("wanted", value, version)
            generation = int(value["generation"])
            containers, table = value["containers"], value["definitions"]
            if not isinstance(containers, list) or not isinstance(table, dict):
                raise ValueError("not a list and a table")
            project = from_json(ProjectRecord, value | {"containers": []}).project
        except _UNFIT:
            return False
        # The project is decoded once; `record` takes the value as it is.
        self.generation, self._wanted, self._stack = generation, value | {"project": project}, value["project"]
        self.definitions.table.update(table)
        unfit = sum(not self._take_record(item) for item in containers)
        if unfit:
            self._tell(WANTED, f"has {unfit} unreadable records", "those containers are known by what exists of them only")
        return True

    def _read_journal(self) -> None:
        raw = self._bytes(JOURNAL)
        if not raw:
            return
        unfit = sum(not (value is not None and self._take_line(value)) for value in unseal(raw))
        if unfit:
            lines = "a damaged line" if unfit == 1 else f"{unfit} damaged lines"
            self._tell(JOURNAL, f"has {lines}", "of some containers the last change is not known; all others are")
            self.damaged.append(JOURNAL)

    def _take_line(self, line: Data) -> bool:
        try:
            version = version_of(line)
            self._refuse_newer(version, JOURNAL)
            generation = int(line["generation"])
            if generation < self.generation:
                return True
            if "definition" in line:
                self.definitions.table.setdefault(line["definition"], line["value"])
            elif "forget" in line:
                self._containers.pop(line["forget"], None)
            elif not self._take_record(upgraded("record", line["record"], version, self._stack)):
                return False
        except _UNFIT:
            return False
        # Without a wanted state, the newest line tells how far it had come.
        self.generation = max(self.generation, generation)
        return True

    def _take_record(self, data: Any) -> bool:
        """One container. Version 1 has no references; in place of a definition that is lost stands a bare one."""
        try:
            definition = data.get("definition")
            if isinstance(definition, str):
                service = data["instance"]["service"]
                data = data | {"definition": self.definitions.get(definition) or Definition(Service(service, ""), "")}
            record = from_json(ContainerRecord, data)
        except _UNFIT:
            return False
        self._containers[record.container] = record
        return True

    def _guessed(self) -> Data:
        """A stack that is lost, as far as its containers tell: their services and networks, so that they are no orphans and
        can be taken down. It has no folder: the next ``up`` may come from any."""
        project = self._site.project
        known = [item.definition.service for item in self._containers.values() if item.definition is not None]
        keys = {endpoint.network for item in self._containers.values() for endpoint in item.endpoints}
        networks = {key: Network(key, f"{project}_{key}") for key in sorted(keys)}
        stack = Project(project, "", {service.name: service for service in known}, networks)
        return {"project": stack, "networks": list(networks.values())}

    def _bytes(self, name: str) -> bytes | None:
        path = os.path.join(self._site.data_dir, name)
        try:
            with open(path, "rb", opener=opener) as file:
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise HostError(f"cannot read {path}: {exc.strerror}", hint=access_hint(exc)) from exc

    def _refuse_newer(self, version: int, name: str) -> None:
        if version > VERSION:
            path = os.path.join(self._site.data_dir, name)
            raise OperationError(
                f"{path} was written by a newer pystack (version {version} of the records, this one knows {VERSION})",
                hint="use the newer pystack for this project",
            )

    def _tell(self, name: str, what: str, done: str) -> None:
        self.findings.append(Finding(os.path.join(self._site.data_dir, name), what, done))

    def _tell_lost(self, lost: list[str]) -> None:
        what = "is damaged" if len(lost) == 1 else f"is damaged, and {WANTED_COPY} too"
        count = len(self._containers)
        kept = f"{count} of its containers are known from {JOURNAL}, " if count else ""
        self._tell(lost[0], what, f"{kept}the stack has to be read from its files again; what exists is found by its names")
