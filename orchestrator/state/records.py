"""The project's records.

``wanted.json`` is replaced durably, once per operation, *before* its first side effect:

    {"version": 1, "generation": N, "project": Project, "containers": [ContainerRecord]}

``records.journal`` then takes a line per change of one container, appended with a single write(2):

    {"generation": N, "record": ContainerRecord}      or      {"generation": N, "forget": ID}

Lines of another generation are from before the last commit and do not count; a torn last line (power cut) is ignored.
Values are written by `model.codec`. A killed process loses nothing, a power cut at most the lines of the journal, whose
containers are gone then anyway.
"""

from __future__ import annotations

import json
import os
from typing import Any

from orchestrator.contracts.site import Site
from orchestrator.contracts.state import ContainerRecord, ProjectRecord
from orchestrator.errors import HostError, OperationError
from orchestrator.kernel.trees import remove_tree
from orchestrator.model.codec import from_json, to_json
from orchestrator.model.names import ContainerId
from orchestrator.model.project import Project
from orchestrator.values import replace

VERSION = 1
_COMPACT_AT_BYTES = 1 << 20


class FileState:
    """`contracts.state.State` on files. The caller holds the project's lock to write; `load` needs no lock: it reads a
    consistent state at any time, because `wanted.json` is replaced whole and the journal only grows within a generation."""

    def __init__(self, site: Site) -> None:
        self._directory = site.data_dir
        self._project = site.project
        self._generation = 0
        self._journal: int | None = None

    def load(self) -> ProjectRecord | None:
        try:
            with open(self._path("wanted.json"), encoding="utf-8") as file:
                data = json.load(file)
            generation = int(data["generation"])
            if data.get("version") != VERSION:
                raise ValueError(f"version {data.get('version')!r} is not {VERSION}")
            record = ProjectRecord(
                from_json(Project, data["project"]), tuple(from_json(ContainerRecord, item) for item in data["containers"])
            )
        except FileNotFoundError:
            return None
        except OSError as exc:
            message = f"cannot read the records of project {self._project}: {exc.strerror}"
            raise HostError(message, hint="run as root") from exc
        except (ValueError, KeyError, TypeError) as exc:
            raise OperationError(
                f"the records of project {self._project} in {self._path('wanted.json')} are unreadable: {exc}",
                hint="move the file away and run `pystack down`, which finds left-overs without it",
            ) from exc
        self._generation = generation
        return replace(record, containers=tuple(self._replay(record.containers, generation)))

    def commit(self, record: ProjectRecord) -> None:
        generation = self._generation + 1
        body = {"version": VERSION, "generation": generation} | {
            "project": to_json(record.project),
            "containers": [to_json(item) for item in record.containers],
        }
        try:
            self._replace_durably("wanted.json", json.dumps(body).encode())
            self._generation = generation
            os.ftruncate(self._journal_fd(), 0)
        except OSError as exc:
            raise self._refused(exc) from exc

    def update(self, record: ContainerRecord) -> None:
        self._append({"generation": self._generation, "record": to_json(record)})

    def forget(self, container: ContainerId) -> None:
        self._append({"generation": self._generation, "forget": container})

    def clear(self) -> None:
        self.close()
        try:
            remove_tree(self._directory)
        except OSError as exc:
            raise self._refused(exc) from exc

    def close(self) -> None:
        if self._journal is not None:
            os.close(self._journal)
            self._journal = None

    def _replay(self, containers: tuple[ContainerRecord, ...], generation: int) -> list[ContainerRecord]:
        known = {record.container: record for record in containers}
        for line in self._journal_lines():
            if line.get("generation") != generation:
                continue
            if "forget" in line:
                known.pop(line["forget"], None)
            else:
                record = from_json(ContainerRecord, line["record"])
                known[record.container] = record
        return list(known.values())

    def _journal_lines(self) -> list[dict[str, Any]]:
        try:
            with open(self._path("records.journal"), "rb") as file:
                raw = file.read().split(b"\n")
        except FileNotFoundError:
            return []
        lines = []
        for text in raw[:-1]:
            try:
                lines.append(json.loads(text))
            except ValueError:
                continue
        return lines

    def _append(self, line: dict[str, Any]) -> None:
        data = json.dumps(line).encode() + b"\n"
        try:
            fd = self._journal_fd()
            if os.write(fd, data) != len(data):
                raise OSError(28, os.strerror(28))
            full = os.fstat(fd).st_size > _COMPACT_AT_BYTES
        except OSError as exc:
            raise self._refused(exc) from exc
        if full and (record := self.load()) is not None:
            self.commit(record)

    def _journal_fd(self) -> int:
        if self._journal is None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._journal = os.open(self._path("records.journal"), flags, 0o600)
        return self._journal

    def _replace_durably(self, name: str, data: bytes) -> None:
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            temporary = f".{name}.new"
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            with os.fdopen(os.open(temporary, flags, 0o600, dir_fd=directory), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
            os.fsync(directory)
        finally:
            os.close(directory)

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)

    def _refused(self, exc: OSError) -> HostError:
        return HostError(
            f"cannot write the records of project {self._project} in {self._directory}: {exc.strerror}",
            hint="free some space, or choose another place with --data-dir" if exc.errno == 28 else None,
        )
