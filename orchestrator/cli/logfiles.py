"""The project's log files, as the verbs need them. The reader is `orchestrator.runtime.logs`.

Which containers there are is told by the records and by the files themselves: no supervisor is needed.
"""

from __future__ import annotations

import heapq
import os

from orchestrator.runtime.logs import read_blocks, read_entries
from orchestrator.state.services import RecordedContainer, recorded
from orchestrator.values import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from orchestrator.cli.render.loglines import LogPrinter
    from orchestrator.contracts.site import Site
    from orchestrator.model.names import ContainerId, ServiceName
    from orchestrator.runtime.loglines import Block

    Named = tuple[ContainerId, Block]
    OnLost = Callable[[ContainerId, int, str], None]
    """A container, how many bytes of its output are missing, and why."""
REPLICA = "replica"
_BATCH_BYTES = 1 << 16


@frozen
class Writer:
    """A container that writes a log. `label`: what stands before its lines, as Compose has it: ``web-1``, or its whole name
    when that is not made of the project, the service and the number (a one-off, ``container_name``). `role`: as recorded,
    "" when no record knows it."""

    service: ServiceName
    label: str
    role: str = REPLICA
    number: int = 1


@frozen
class Writers:
    """`services`: of the recorded stack, and of the containers. `unlogged`: those of which no log is kept."""

    containers: dict[ContainerId, Writer]
    services: frozenset[str]
    unlogged: frozenset[str] = frozenset()

    def silent(self, containers: Iterable[ContainerId]) -> list[str]:
        """The services among those of `containers` of which no log is kept."""
        return sorted({self.containers[name].service for name in containers} & self.unlogged)

    def of(self, services: Iterable[str], index: int = 0) -> dict[ContainerId, Writer]:
        """The containers of `services` (none: all); with `index`, only the replica of that number."""
        wanted = set(services)
        return {
            container: writer
            for container, writer in self.containers.items()
            if (not wanted or writer.service in wanted) and (not index or (writer.role, writer.number) == (REPLICA, index))
        }


def writers(site: Site) -> Writers:
    """All containers that are recorded or have a log, sorted by service and number. One that no record knows stands under
    its own name."""
    seen = recorded(site)
    found = {container: _writer(site, container, item) for container, item in seen.containers.items()}
    for name in _logs(site):
        found.setdefault(name, Writer(name, name, ""))  # type: ignore[arg-type]  # As good a name of a service as any.
    order = sorted(found.items(), key=lambda item: (item[1].service, item[1].role != REPLICA, item[1].number, item[0]))
    return Writers(dict(order), frozenset(seen.services) | {writer.service for writer in found.values()}, seen.unlogged)


def without_log(services: list[str]) -> str:
    """What is said of `Writers.silent`."""
    return f"no log is kept of {', '.join(services)} (logging: {{driver: none}})"


def _writer(site: Site, container: ContainerId, item: RecordedContainer) -> Writer:
    short = f"{item.service}-{item.number}"
    regular = item.role == REPLICA and container == f"{site.project}-{short}"
    return Writer(item.service, short if regular else container, item.role, item.number)


def _logs(site: Site) -> list[ContainerId]:
    try:
        files = os.listdir(os.path.join(site.data_dir, "logs"))
    except FileNotFoundError:
        return []
    return [file.removesuffix(".log") for file in files if file.endswith(".log")]  # type: ignore[misc]


def last_lines(site: Site, container: ContainerId, count: int, since: float | None = None) -> list[str]:
    """The last lines a container wrote (`since` then: epoch seconds), decoded; none when there is no log."""
    entries = read_entries(log_path(site, container), count, since)
    return [entry.line.decode("utf-8", "surrogateescape") for entry in entries]


def merged(
    site: Site,
    containers: Iterable[ContainerId],
    tail: int | None,
    since: float | None,
    on_lost: OnLost,
    *,
    timed: bool = True,
) -> Iterator[Named]:
    """What all of them wrote, in the order of time; each one's lines stay in their own order. `since`: epoch seconds. Not
    `timed`: nobody looks at the times."""
    chosen = list(containers)
    timed = timed or len(chosen) > 1

    def blocks(name: ContainerId) -> Iterator[Block]:
        def lost(count: int, why: str) -> None:
            on_lost(name, count, why)

        return read_blocks(log_path(site, name), tail, since, timed=timed, on_lost=lost)

    return merge([(name, blocks(name)) for name in chosen])


def show(blocks: Iterable[Named], printer: LogPrinter) -> None:
    """Print them, many at a time, each stream to its own. Raises BrokenPipeError."""
    batch: list[bytes] = []
    size, on = 0, "stdout"
    for container, (time, stream, data) in blocks:
        if batch and (stream != on or size >= _BATCH_BYTES):
            printer.write(on, b"".join(batch))
            batch.clear()
            size = 0
        on = stream
        batch.append(text := printer.block(container, time, stream, data))
        size += len(text)
    if batch:
        printer.write(on, b"".join(batch))


def merge(streams: list[tuple[ContainerId, Iterator[Block]]]) -> Iterator[Named]:
    """The lines of all, in the order of time; each one's stay in their own order."""

    def named(container: ContainerId, blocks: Iterator[Block]) -> Iterator[Named]:
        return ((container, block) for block in blocks)

    if len(streams) == 1:
        return named(*streams[0])
    return heapq.merge(*(named(container, blocks) for container, blocks in streams), key=lambda item: item[1][0])


def log_path(site: Site, container: ContainerId) -> str:
    """Without the ``.log``."""
    return os.path.join(site.data_dir, "logs", container)
