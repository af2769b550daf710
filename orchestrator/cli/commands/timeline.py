"""``pystack timeline``: what each start consisted of, from the event log. No supervisor is needed."""

from __future__ import annotations

import shutil

from orchestrator.cli.settings import Settings
from orchestrator.cli.timeline.starts import STARTING_VERBS, Episode, Start, episodes
from orchestrator.contracts.events import Event
from orchestrator.contracts.site import Site
from orchestrator.errors import InputError
from orchestrator.state.journal import EventLog
from orchestrator.values import replace

_SAME_S = 0.05
"""By so much the wall clock may differ from the steady one over a start; else no moment is taken from one to the other."""


def timeline(settings: Settings, services: tuple[str, ...], everything: bool, shape: str) -> None:
    """Show when each container was started, and what its start waited for. Raises InputError when nothing was."""
    site = settings.site()
    found = _found(site, services, everything)
    if not found:
        about = f" of {', '.join(services)}" if services else ""
        raise InputError(
            f"the event log of project {site.project} has no start{about}", hint="`pystack up` starts what is not running"
        )
    found = tuple(_with_output(site, episode) for episode in found)
    if shape == "text":
        from orchestrator.cli.timeline.bars import render

        columns = shutil.get_terminal_size().columns  # COLUMNS, also where there is no terminal; 80 where nothing is known.
        lines = [render(episode, columns, colour=settings.terminal().colour_out) for episode in found]
        print("\n\n".join("\n".join(block) for block in lines))
        return
    from orchestrator.cli.timeline import pictures

    shapes = {"svg": pictures.as_svg, "html": pictures.as_html, "chrome": pictures.as_chrome, "json": pictures.as_json}
    print(shapes[shape](found))


def _found(site: Site, services: tuple[str, ...], everything: bool) -> tuple[Episode, ...]:
    log = EventLog(site)
    if everything:
        return tuple(item for item in episodes(log.since(0.0)) if _is_about(item, services))
    # Whose container a name is, is in what is said of it later: so an operation too many is looked at, not one too few.
    known = episodes(log.last_operation(_starts_something))
    if services and not any(_is_about(item, services) for item in known):
        known = episodes(log.since(0.0))
    about = [item for item in known if item.operation and _is_about(item, services)]
    return tuple(about[-1:])


def _starts_something(event: Event) -> bool:
    return event.detail.get("verb") in STARTING_VERBS and bool(event.detail.get("starts"))


def _is_about(episode: Episode, services: tuple[str, ...]) -> bool:
    return not services or any(item.service in services for item in episode.starts)


def _with_output(site: Site, episode: Episode) -> Episode:
    return replace(episode, starts=tuple(_heard(site, item) for item in episode.starts))


def _heard(site: Site, item: Start) -> Start:
    """With the moment of its first byte of output, as far as its log tells, and its end says that the clocks agree."""
    from orchestrator.runtime.logs import read_blocks
    from orchestrator.state.directory import LOGS

    if len(item.anchors) < 2:
        return item
    (wall_s, steady_s), (later_wall_s, later_steady_s) = item.anchors[0], item.anchors[-1]
    if abs((later_wall_s - wall_s) - (later_steady_s - steady_s)) > _SAME_S:
        return item
    first = next(read_blocks(f"{site.data_dir}/{LOGS}/{item.container}", since=wall_s), None)
    if first is None or not wall_s <= first[0] <= later_wall_s:
        return item
    moment_s = min(steady_s + first[0] - wall_s, later_steady_s)
    return replace(item, marks={**item.marks, "output": moment_s})
