"""Log files on their way to the screen while containers write them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

from orchestrator.cli.failures import note
from orchestrator.cli.logfiles import Writer, Writers, log_path, merge, show, without_log, writers
from orchestrator.cli.render.loglines import LogPrinter
from orchestrator.contracts.events import Event, EventKind
from orchestrator.contracts.site import Site
from orchestrator.kernel.inotify import Inotify
from orchestrator.model.names import ContainerId
from orchestrator.runtime.logs import Follower, Leases

if TYPE_CHECKING:
    from orchestrator.runtime.loglines import Block

_APPEARS = frozenset({EventKind.CONTAINER_CREATED, EventKind.CONTAINER_STARTING, EventKind.CONTAINER_STARTED})
"""After these a container may write."""
NO_SERVICE = ("",)
"""None is called so: nobody is followed."""


class LogFollower:
    """Prints what containers write, as they write it. `sources` says what to wait for, `pump` prints what is there.

    `services`: whose containers are followed, none: all; `index`: as for `Writers.of`; `role`: "" for any. What appears
    meanwhile is followed too: `notice` must be told of all events. `note`: says what is about the logs and not in them.
    """

    def __init__(
        self,
        site: Site,
        printer: LogPrinter,
        services: tuple[str, ...] = (),
        *,
        index: int = 0,
        role: str = "",
        note: Callable[[str], None] = note,
    ) -> None:
        self._site = site
        self._printer = printer
        self._services = services
        self._index = index
        self._role = role
        self._writers = Writers({}, frozenset())
        self._stack = ExitStack()
        self._inotify = self._stack.enter_context(Inotify())
        self._leases = Leases(os.path.dirname(log_path(site, ContainerId("x"))))
        self._stack.callback(self._leases.close)
        self._note = note
        self._told: set[str] = set()
        self._followers: dict[ContainerId, Follower] = {}
        self._unread = False
        """One was added, and was not read yet."""
        self.only: str | None = None
        """The service whose lines are printed; those of others are read, and passed over. None: all."""

    def __enter__(self) -> LogFollower:
        return self

    def __exit__(self, *_: object) -> None:
        for follower in self._followers.values():
            follower.close()
        self._stack.close()

    def add_all(self, *, tail: int | None = None, since: float | None = None) -> None:
        """Follow all that are recorded or have a log. Nothing happens to those that are followed already. `pump` must
        follow: only a log that was read to its end wakes whoever waits for `sources`."""
        self._leases.hold_new()
        self._writers = writers(self._site)
        chosen = self._chosen()
        if silent := [name for name in self._writers.silent(chosen) if name not in self._told]:
            self._told.update(silent)
            self._note(without_log(silent))
        self._printer.add({container: writer.label for container, writer in chosen.items()})
        for container in chosen:
            self._add(container, tail, since)

    def notice(self, event: Event, since: float | None = None) -> None:
        """Follow the container that `event` is about, if it is one to be followed and may write from now on. `since`: only
        what it writes after that (epoch seconds)."""
        container = event.container
        if container is None:
            return
        if event.kind is EventKind.CONTAINER_REMOVED:
            self._forget(container)
        if event.kind not in _APPEARS or (self._services and event.service not in self._services):
            return
        if container not in self._writers.containers:
            self.add_all(since=since)
        if container in self._chosen():
            self._add(container, None, since, complete=event.kind is EventKind.CONTAINER_CREATED)
            self.pump()

    def writer(self, container: ContainerId) -> Writer | None:
        """What is known of a container."""
        return self._writers.containers.get(container)

    def sources(self) -> list[Inotify]:
        return [self._inotify]

    def pump(self) -> None:
        """Print what has come. Costs next to nothing when nothing has."""
        if self._inotify.clear() or self._unread:
            self._read()

    def finish(self) -> None:
        """Print what is there, also what has no newline: nothing more will come."""
        self._inotify.clear()
        self._read()
        self._show([(container, follower.finish()) for container, follower in self._followers.items()])

    def _read(self) -> None:
        self._unread = False
        self._show([(container, follower.read()) for container, follower in self._followers.items()])
        for container, follower in list(self._followers.items()):
            if follower.gone:
                # A next container of that name may be there already, and all that was told of it was read before this look.
                self._end(container, follower)
                self._follow(container, None, None, complete=True)

    def _forget(self, container: ContainerId) -> None:
        """It was removed: one of that name is followed again from when it is created. What is read already of the next one
        (this event was late) goes on."""
        follower = self._followers.get(container)
        if follower is not None and (follower.gone or not follower.found):
            self._end(container, follower)

    def _end(self, container: ContainerId, follower: Follower) -> None:
        self._show([(container, follower.finish())])
        follower.close()
        del self._followers[container]

    def _show(self, blocks: list[tuple[ContainerId, Iterator[Block]]]) -> None:
        lines = merge(blocks)
        if (only := self.only) is not None:
            known = self._writers.containers
            lines = (line for line in lines if line[0] in known and known[line[0]].service == only)
        show(lines, self._printer)

    def _chosen(self) -> dict[ContainerId, Writer]:
        chosen = self._writers.of(self._services, self._index)
        return {name: writer for name, writer in chosen.items() if not self._role or writer.role == self._role}

    def _add(self, container: ContainerId, tail: int | None, since: float | None, *, complete: bool = False) -> None:
        if container not in self._followers:
            self._unread = True
            self._follow(container, tail, since, complete=complete)

    def _follow(self, container: ContainerId, tail: int | None, since: float | None, *, complete: bool) -> None:
        def lost(count: int, why: str) -> None:
            self._note(self._printer.lost(container, count, why))

        self._followers[container] = Follower(
            log_path(self._site, container),
            tail=tail,
            since=since,
            inotify=self._inotify,
            on_lost=lost,
            leases=self._leases,
            complete=complete,
        )
