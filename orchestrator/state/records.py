"""The project's records.

``wanted.json`` is replaced durably, once per operation, *before* its first side effect:

    {"check":..., "version":2, "generation":N, "project":Project, ... ,
     "containers":[ContainerRecord], "definitions":{HASH:Definition}}

``wanted.json.copy`` says the same: where one of the two is damaged, the other one is read. ``records.journal`` then takes a
line per change of one container, appended with a single write(2):

    {"check":..., "version":2, "generation":N, "record":ContainerRecord}      or      {..., "forget":ID}

A record's definition is written as its hash; before the first record with a new one comes ``{..., "definition":HASH,
"value":Definition}``, in the same write. Lines of an older generation are from before the last commit and do not count.
`model.codec` writes values, `kernel.sealed` their check, `state.upgrades` reads those of older versions, `state.reading`
what is damaged. A killed process loses nothing, a power cut at most the lines of the journal, whose containers are gone
then anyway.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from orchestrator.contracts.site import Site
from orchestrator.contracts.state import ContainerRecord, Finding, ProjectRecord
from orchestrator.errors import HostError
from orchestrator.kernel.atomic import keep_aside, replace_file
from orchestrator.kernel.plain import open_plain
from orchestrator.kernel.sealed import VERSION, seal
from orchestrator.model.codec import to_json
from orchestrator.model.names import ContainerId
from orchestrator.state.definitions import Definitions
from orchestrator.state.directory import JOURNAL, WANTED, WANTED_COPY
from orchestrator.state.lock import remove_project_directory
from orchestrator.state.reading import Reading
from orchestrator.values import fields, replace

_COMPACT_AT_BYTES = 1 << 20
_PLAIN = tuple((item.name, item.default) for item in fields(ContainerRecord) if item.name != "definition")
"""The fields of a record that are written as they are."""


class FileState:
    """`contracts.state.State` on files. The caller holds the project's lock to write; `load` needs no lock: it reads a
    consistent state at any time, because `wanted.json` is replaced whole and the journal only grows within a generation."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._directory = site.data_dir
        self._generation: int | None = None
        self._definitions = Definitions()
        self._findings: tuple[Finding, ...] = ()
        self._damaged: tuple[str, ...] = ()
        self._journal: int | None = None
        self._committed: ProjectRecord | None = None
        self._written: dict[ContainerId, ContainerRecord] = {}
        """By identity, what is on disk of each container since the last commit of ours."""

    def load(self) -> ProjectRecord | None:
        reading = Reading(self._site)
        self._generation, self._definitions = reading.generation, reading.definitions
        self._findings, self._damaged = tuple(reading.findings), tuple(reading.damaged)
        return reading.record

    def findings(self) -> tuple[Finding, ...]:
        return self._findings

    def commit(self, record: ProjectRecord) -> None:
        if self._generation is None:
            self.load()
        assert self._generation is not None
        if self._is_of_same_stack(record):
            self._append(b"".join(self._lines(item) for item in record.containers if self._is_new(item)), durable=True)
            return
        generation, definitions = self._generation + 1, Definitions()
        containers = []
        for item in record.containers:
            containers.append(_to_json(item))
            if item.definition is not None:
                containers[-1]["definition"] = definitions.put_from(self._definitions, item.definition)
        wanted = {"version": VERSION, "generation": generation, **to_json(replace(record, containers=()))}
        data = seal(wanted | {"containers": containers, "definitions": definitions.table})
        try:
            self._keep_damaged()
            replace_file(self._path(WANTED), data)
            self._generation, self._definitions = generation, definitions
            # Not durably: after a power cut one of the two is whole, and then it is the other one.
            replace_file(self._path(WANTED_COPY), data, durable=False)
            os.ftruncate(self._journal_fd(), 0)
        except OSError as exc:
            self._committed = None
            raise self._refused(exc) from exc
        self._committed = record
        self._written = {item.container: item for item in record.containers}

    def _is_of_same_stack(self, record: ProjectRecord) -> bool:
        """Whether it differs from what was committed last in what is said of its containers alone."""
        last = self._committed
        return (
            last is not None
            and not self._damaged
            and record.project is last.project
            and record.networks == last.networks
            and record.jobs == last.jobs
            and self._written.keys() == {item.container for item in record.containers}
        )

    def _is_new(self, record: ContainerRecord) -> bool:
        return self._written[record.container] is not record

    def update(self, record: ContainerRecord) -> None:
        self._append(self._lines(record))
        self._written[record.container] = record

    def _lines(self, record: ContainerRecord) -> bytes:
        before, data = b"", _to_json(record)
        if record.definition is not None:
            data["definition"], new = self._definitions.put(record.definition)
            if new:
                digest = data["definition"]
                before = self._line({"definition": digest, "value": self._definitions.table[digest]})
        return before + self._line({"record": data})

    def forget(self, container: ContainerId) -> None:
        self._append(self._line({"forget": container}))
        self._written.pop(container, None)

    def clear(self) -> None:
        self.close()
        self._committed = None
        try:
            # The copy first: if this is interrupted, it must not stand for a project that is gone.
            for name in (WANTED_COPY, WANTED, JOURNAL):
                with suppress(FileNotFoundError):
                    os.unlink(self._path(name))
            remove_project_directory(self._directory)
        except OSError as exc:
            raise self._refused(exc) from exc

    def close(self) -> None:
        if self._journal is not None:
            os.close(self._journal)
            self._journal = None

    def _line(self, what: dict[str, Any]) -> bytes:
        return seal({"version": VERSION, "generation": self._generation or 0} | what)

    def _append(self, data: bytes, *, durable: bool = False) -> None:
        try:
            fd = self._journal_fd()
            size = os.fstat(fd).st_size
            if os.write(fd, data) != len(data):
                os.ftruncate(fd, size)
                raise OSError(28, os.strerror(28))
            if durable:
                os.fdatasync(fd)
        except OSError as exc:
            self._definitions = Definitions()  # What was to be written is not there: the next line brings its own again.
            raise self._refused(exc) from exc
        if size + len(data) > _COMPACT_AT_BYTES and (record := self.load()) is not None:
            self._committed = None
            self.commit(record)

    def _journal_fd(self) -> int:
        if self._journal is None:
            self._journal = open_plain(self._path(JOURNAL), os.O_RDWR | os.O_APPEND | os.O_CREAT)
            size = os.fstat(self._journal).st_size
            if size and os.pread(self._journal, 1, size - 1) != b"\n":
                os.write(self._journal, b"\n")  # A power cut tore the last line.
        return self._journal

    def _keep_damaged(self) -> None:
        for name in self._damaged:
            if name == JOURNAL:
                self.close()
            with suppress(FileNotFoundError):
                keep_aside(self._path(name))
        self._damaged = ()

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)

    def _refused(self, exc: OSError) -> HostError:
        where = os.path.join(self._directory, exc.filename or "").rstrip("/")
        return HostError(
            f"cannot write the records of project {self._site.project} in {where}: {exc.strerror}",
            hint="free some space, or choose another place with --data-dir" if exc.errno == 28 else None,
        )


def _to_json(record: ContainerRecord) -> dict[str, Any]:
    """As `model.codec` has it, without the definition."""
    out: dict[str, Any] = {}
    for name, default in _PLAIN:
        item = getattr(record, name)
        if item is not default and item != default:
            out[name] = to_json(item)
    return out
