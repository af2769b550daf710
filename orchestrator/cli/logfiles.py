"""The project's log files, as the verbs need them. The reader is `orchestrator.runtime.logs`.

Which containers there are, and of which service each is, is told by the records: no supervisor is needed.
"""

from __future__ import annotations

import heapq
import os

from orchestrator.runtime.logs import read_entries
from orchestrator.state.services import services_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from orchestrator.cli.render.loglines import LogPrinter
    from orchestrator.contracts.site import Site
    from orchestrator.model.names import ContainerId, ServiceName
    from orchestrator.runtime.logs import LogEntry

    Named = tuple[ServiceName, LogEntry]
_BATCH_BYTES = 1 << 16


def containers_to_show(site: Site) -> dict[ContainerId, ServiceName]:
    """The recorded containers, which may have written nothing yet, and all others that have a log: such a one stands under
    its own name. Sorted by service."""
    try:
        files = os.listdir(os.path.join(site.data_dir, "logs"))
    except FileNotFoundError:
        return {}
    named = [file.removesuffix(".log") for file in files if file.endswith(".log")]
    found: dict[Any, Any] = {name: name for name in named} | services_of(site)
    return dict(sorted(found.items(), key=lambda item: (item[1], item[0])))


def last_lines(site: Site, container: ContainerId, count: int, since: float | None = None) -> list[str]:
    """The last lines a container wrote (`since` then: epoch seconds), decoded; none when there is no log."""
    entries = read_entries(log_path(site, container), count, since)
    return [entry.line.decode("utf-8", "surrogateescape") for entry in entries]


def merged(
    site: Site, containers: Mapping[ContainerId, ServiceName], tail: int | None, since: float | None
) -> Iterator[Named]:
    """What all of them wrote, in the order of time; each one's lines stay in their own order. `since`: epoch seconds."""
    return merge((name, read_entries(log_path(site, container), tail, since)) for container, name in containers.items())


def show(entries: Iterable[Named], printer: LogPrinter) -> None:
    """Print them, many at a time. Raises BrokenPipeError."""
    batch = bytearray()
    for service, entry in entries:
        batch += printer.line(service, entry.time, entry.line)
        if len(batch) >= _BATCH_BYTES:
            printer.write(batch)
            batch.clear()
    if batch:
        printer.write(batch)


def merge(streams: Iterable[tuple[ServiceName, Iterator[LogEntry]]]) -> Iterator[Named]:
    """The lines of all, in the order of time; each one's stay in their own order."""

    def named(service: ServiceName, entries: Iterator[LogEntry]) -> Iterator[Named]:
        return ((service, entry) for entry in entries)

    return heapq.merge(*(named(service, entries) for service, entries in streams), key=lambda item: item[1].time)


def log_path(site: Site, container: ContainerId) -> str:
    """Without the ``.log``."""
    return os.path.join(site.data_dir, "logs", container)
