"""`exits.journal`: a JSON object a line, appended whole (docs/monitor-protocol.md, "Files")."""

from __future__ import annotations

import os
import time

from orchestrator.kernel import pidfd as pidfds
from orchestrator.kernel.jsontext import dumps, loads
from orchestrator.kernel.plain import open_plain
from orchestrator.kernel.suppress import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from orchestrator.runtime.monitor.runs import Run

NAME = "exits.journal"
NEW = f"{NAME}.new"
COMPACT_OVER_BYTES = 1 << 20
VERSION = 1
"""The highest of an entry that is read here; an entry says ``v`` from version 2 on. One of a newer version is passed over,
as a half-written one is: what it tells is lost, and a lost exit is a state that everything above can handle."""


def entries_of(lines: Iterable[bytes]) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Each entry and its line."""
    for line in lines:
        with suppress(ValueError):
            entry = loads(line)
            if isinstance(entry, dict) and entry.get("v", 1) in range(1, VERSION + 1):
                yield entry, line


def compacted(lines: Iterable[bytes]) -> bytes:
    """The last start and the last exit of each container that was not forgotten, in their order."""
    last: dict[tuple[str, str], bytes] = {}
    for entry, line in entries_of(lines):
        container, kind = str(entry.get("c")), str(entry.get("e"))
        if kind == "forget":
            for key in [key for key in last if key[0] == container]:
                del last[key]
        else:
            last.pop((container, kind), None)
            last[container, kind] = line if line.endswith(b"\n") else line + b"\n"
    return b"".join(last.values())


class Journal:
    """It is written anew, with the latest alone, whenever it has grown by a mebibyte: a container that crashes for years
    must not fill a disk."""

    def __init__(self, directory: int, boot_id: str) -> None:
        self._directory = directory
        self._fd = open_plain(NAME, os.O_RDWR | os.O_APPEND | os.O_CREAT, dir_fd=directory)
        self._size = os.fstat(self._fd).st_size
        self._limit = max(self._size, COMPACT_OVER_BYTES)
        self._boot_id = boot_id

    def write(self, **entry: Any) -> None:
        with suppress(OSError):  # A full disk: the exit is still told to the supervisor.
            self._size += os.write(self._fd, dumps({**entry, "boot": self._boot_id}).encode() + b"\n")
        if self._size > self._limit:
            with suppress(OSError):  # The old one goes on.
                self._compact()
            self._limit = self._size + COMPACT_OVER_BYTES

    def _compact(self) -> None:
        # Line by line: the monitor would keep the memory that all of it takes.
        with open(self._fd, "rb", closefd=False) as file:
            file.seek(0)
            data = compacted(file)
        fd = open_plain(NEW, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC, dir_fd=self._directory)
        try:
            if os.write(fd, data) != len(data):
                raise OSError(28, os.strerror(28), NEW)
            os.replace(NEW, NAME, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        except OSError:
            os.close(fd)
            raise
        os.close(self._fd)
        self._fd, self._size = fd, len(data)

    def started(self, run: Run) -> None:
        ticks = pidfds.start_time(run.pid)
        self.write(e="start", c=run.container, r=run.number, pid=run.pid, at=run.started, ticks=ticks, echo=run.echo)

    def ended(self, run: Run, status: int | None) -> float:
        at = time.time()
        self.write(
            e="exit", c=run.container, r=run.number, pid=run.pid, started=run.started, at=at, status=status, echo=run.echo
        )
        return at
