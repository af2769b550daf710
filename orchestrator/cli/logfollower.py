"""Log files on their way to the screen while containers write them."""

from __future__ import annotations

from contextlib import ExitStack

from orchestrator.cli.logfiles import log_path, merge, show
from orchestrator.cli.render.loglines import LogPrinter
from orchestrator.contracts.site import Site
from orchestrator.kernel.inotify import Inotify
from orchestrator.model.names import ContainerId, ServiceName
from orchestrator.runtime.logs import Follower


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
        show(merge((service, follower.read()) for service, follower in self._followers.values()), self._printer)
        for container, (service, follower) in list(self._followers.items()):
            if follower.gone:
                show(((service, entry) for entry in follower.finish()), self._printer)
                follower.close()
                del self._followers[container]

    def finish(self) -> None:
        """Print what is there, also what has no newline: nothing more will come."""
        self.pump()
        show(merge((service, follower.finish()) for service, follower in self._followers.values()), self._printer)
