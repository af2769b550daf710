"""``pystack watch``: keep containers in step with the files that they were made from (docs/watch.md)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from orchestrator.cli.commands.up import bring_up
from orchestrator.cli.connection import connect
from orchestrator.cli.dryrun import told_instead
from orchestrator.cli.interrupts import Interrupts
from orchestrator.cli.operation import wait_any
from orchestrator.cli.render.board import Board
from orchestrator.cli.render.plain import PlainProgress, QuietProgress
from orchestrator.cli.render.progress import choose
from orchestrator.cli.watching.alone import alone
from orchestrator.cli.watching.preparing import Prepared, prepare
from orchestrator.cli.watching.session import Manner, Watching
from orchestrator.cli.wire import encoded, event_of
from orchestrator.client import Client, EventMessage
from orchestrator.client.connection import soonest
from orchestrator.contracts.control import Events
from orchestrator.errors import EXIT_CANCELLED, PystackError
from orchestrator.model.build import PullPolicy
from orchestrator.values import replace

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from orchestrator.cli.render.progress import Progress
    from orchestrator.cli.settings import Settings
    from orchestrator.contracts.site import Site
    from orchestrator.model.project import Project

_LOOK_S = 1.0
"""Between two looks whether there is a supervisor again."""


def watch(settings: Settings, services: tuple[str, ...], no_up: bool, prune: bool, quiet: bool) -> int:
    """Bring services up and watch their files until Ctrl-C, which leaves them running."""
    project, chosen = settings.load_to_run(services)
    prepared = prepare(project, chosen, lambda text: settings.warn((text,)))
    site = settings.site_named(project.name)
    if told_instead(settings, *(_would(each) for each in prepared)):
        return 0
    progress = progress_of(settings, quiet=quiet)
    with alone(site), Watching(settings, site, prepared, progress, Manner(prune)) as watching:
        if not no_up:
            bring_up(settings, _built(project, chosen), services, chosen, quiet=quiet)
        _follow(site, watching)
    return EXIT_CANCELLED


def _would(each: Prepared) -> str:
    rule = each.rule
    target = f" to {rule.target}" if rule.target else ""
    return f"would watch {rule.path} for {each.service}: {rule.action.value}{target}"


@contextlib.contextmanager
def watching_beside(settings: Settings, project: Project, managed: Collection[str]) -> Iterator[Watching]:
    """For ``up --watch``, which follows logs and events itself."""
    prepared = prepare(project, managed, lambda text: settings.warn((text,)))
    site = settings.site_named(project.name)
    manner = Manner(everything=False)
    with alone(site), Watching(settings, site, prepared, progress_of(settings), manner) as watching:
        yield watching


def progress_of(settings: Settings, *, quiet: bool = False) -> Progress:
    """Of operations that begin among other lines."""
    terminal = settings.terminal()
    if terminal.progress in ("json", "quiet"):
        return choose(terminal, "watch", Board())
    return _Quiet() if quiet else PlainProgress()


class _Quiet(QuietProgress):
    """What is done is told; what builds and containers do is not."""

    def note(self, text: str) -> None:
        PlainProgress().note(text)


def _built(project: Project, chosen: Collection[str]) -> Project:
    """With the images of what is watched built anew, as Docker Compose does it: they may be older than the files."""
    services = {
        name: replace(service, pull_policy=PullPolicy("build"))
        if name in chosen and service.watch and service.build is not None
        else service
        for name, service in project.services.items()
    }
    return replace(project, services=services)


def _follow(site: Site, watching: Watching) -> None:
    """Until Ctrl-C."""
    events: Client | None = None
    with Interrupts() as interrupts:
        try:
            events = _subscribed(site, watching)
            watching.begin()
            watching.pump()
            while not interrupts.take():
                limit_s = watching.left_s() if events is not None else soonest(watching.left_s(), _LOOK_S)
                wait_any(filter(None, [interrupts, events, *watching.sources()]), limit_s)
                events = _heard(events, watching) if events is not None else _subscribed(site, watching)
                watching.pump()
        finally:
            if events is not None:
                events.close()


def _subscribed(site: Site, watching: Watching) -> Client | None:
    try:
        client = connect(site)
        if client is not None:
            client.send(*encoded(Events(None)))
            watching.missed()
        return client
    except PystackError:
        return None


def _heard(events: Client, watching: Watching) -> Client | None:
    """All that there is; None when nobody tells any more: the project is down, or its supervisor was killed."""
    try:
        while (message := events.receive(0)) is not None:
            event = event_of(message.value) if isinstance(message, EventMessage) else None
            if event is not None:
                watching.notice(event)
    except PystackError:
        events.close()
        watching.missed()
        return None
    return events
