"""The project's log files, as the verbs need them. The reader is `orchestrator.runtime.logs`.

Which containers there are is told by the files themselves, so that reading logs needs neither a supervisor nor records.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack

from orchestrator.cli.render.loglines import LogPrinter
from orchestrator.contracts.site import Site
from orchestrator.kernel.inotify import Inotify
from orchestrator.model.names import ContainerId, ServiceName
from orchestrator.runtime.logs import Follower, LogEntry, read_entries

Named = tuple[ServiceName, LogEntry]
_BATCH_BYTES = 1 << 16


def containers_with_logs(site: Site) -> dict[ContainerId, ServiceName]:
    """Containers that have a log, sorted by service. The service is in the container's name (`model.names`)."""
    try:
        files = os.listdir(os.path.join(site.data_dir, "logs"))
    except FileNotFoundError:
        return {}
    found = {}
    for file in files:
        container = file.removesuffix(".log")
        service, _, index = container.removeprefix(f"{site.project}-").rpartition("-")
        if file.endswith(".log") and service and index.isdecimal():
            found[ContainerId(container)] = ServiceName(service)
    return dict(sorted(found.items(), key=lambda item: (item[1], item[0])))


def last_lines(site: Site, container: ContainerId, count: int, since: float | None = None) -> list[str]:
    """The last lines a container wrote (`since` then: epoch seconds), decoded; none when there is no log."""
    entries = read_entries(log_path(site, container), count, since)
    return [entry.line.decode("utf-8", "surrogateescape") for entry in entries]


def merged(
    site: Site, containers: Mapping[ContainerId, ServiceName], tail: int | None, since: float | None
) -> Iterator[Named]:
    """What all of them wrote, in the order of time; each one's lines stay in their own order. `since`: epoch seconds."""
    return _merge((name, read_entries(log_path(site, container), tail, since)) for container, name in containers.items())


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


class LogFollower:
    """Prints what containers write, as they write it. `sources` says what to wait for, `pump` prints what is there."""

    def __init__(self, site: Site, printer: LogPrinter) -> None:
        self._site = site
        self._printer = printer
        self._stack = ExitStack()
        self._inotify = self._stack.enter_context(Inotify())
        self._followers: dict[ContainerId, tuple[ServiceName, Follower]] = {}

    def __enter__(self) -> LogFollower:
        return self

    def __exit__(self, *_: object) -> None:
        for followed in self._followers.values():
            followed[1].close()
        self._stack.close()

    def add(
        self, container: ContainerId, service: ServiceName, *, tail: int | None = None, since: float | None = None
    ) -> None:
        """Follow one more; nothing happens if it is followed already. The log need not exist yet. `pump` must follow: only
        a log that was read to its end wakes whoever waits for `sources`."""
        if container not in self._followers:
            path = log_path(self._site, container)
            self._followers[container] = service, Follower(path, tail=tail, since=since, inotify=self._inotify)
            self._printer.add([service])

    def sources(self) -> list[Inotify]:
        return [self._inotify]

    def pump(self) -> None:
        """Print what has come."""
        self._inotify.clear()
        show(_merge((service, follower.read()) for service, follower in self._followers.values()), self._printer)
        for container, (service, follower) in list(self._followers.items()):
            if follower.gone:
                show(((service, entry) for entry in follower.finish()), self._printer)
                follower.close()
                del self._followers[container]

    def finish(self) -> None:
        """Print what is there, also what has no newline: nothing more will come."""
        self.pump()
        show(_merge((service, follower.finish()) for service, follower in self._followers.values()), self._printer)


def _merge(streams: Iterable[tuple[ServiceName, Iterator[LogEntry]]]) -> Iterator[Named]:
    def named(service: ServiceName, entries: Iterator[LogEntry]) -> Iterator[Named]:
        return ((service, entry) for entry in entries)

    return heapq.merge(*(named(service, entries) for service, entries in streams), key=lambda item: item[1].time)


def log_path(site: Site, container: ContainerId) -> str:
    """Without the ``.log``."""
    return os.path.join(site.data_dir, "logs", container)
