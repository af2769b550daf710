"""The critical path of an episode: what its end waited for, link by link, and how much later each other start could have
been without moving the end.

The model: a container starts when it is made and the conditions on what it needs hold, and `lag` later for other reasons;
from then on it takes as long as it took. One of a rolling update is made when its turn comes, for which another one has
made room. That reproduces the times that were measured, and says what they would have been with one part gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.cli.timeline.starts import Episode, Span, Start
from orchestrator.values import frozen

_MARKS = {"service_started": "started", "service_healthy": "ready", "service_completed_successfully": "completed"}
_WAITS = frozenset({"queue", "turn", "wait"})
"""What nobody can shorten by itself."""
_NOTABLE_S = 0.0005


@frozen
class Link:
    """A start on the critical path: `begin_s` until `end_s` it was what the end waited for."""

    container: str
    begin_s: float
    end_s: float


@frozen
class Advice:
    """The part whose absence would bring the end forward most: to `end_s` from the beginning, instead of `before_s`;
    then `container` would be the last on the path, as `then` says."""

    container: str
    service: str
    phase: str
    length_s: float
    before_s: float
    end_s: float
    then: str


@frozen
class Critical:
    """`slack_s`: by container."""

    path: tuple[Link, ...]
    slack_s: Mapping[str, float]
    advice: Advice | None


def critical(episode: Episode) -> Critical:
    """Of starts that came to an end; others are on no path."""
    starts = sorted((item for item in episode.starts if "starting" in item.marks), key=lambda item: item.marks["starting"])
    if not starts:
        return Critical((), {}, None)
    edges = {item.container: _edges(item, starts) for item in starts}
    turns = {item.container: other for item in starts for other in starts if item.after == other.container}
    path = _path(episode, starts, edges, turns)
    return Critical(path, _slack(starts, edges, turns), _advice(episode, starts, edges, turns, path))


Edges = Mapping[str, Sequence[tuple[Start, float]]]
"""Container -> the starts that it needed, each with the moment at which the condition on it held."""

Turns = Mapping[str, Start]
"""Container -> the start that made room for its turn."""


def _edges(item: Start, starts: Sequence[Start]) -> list[tuple[Start, float]]:
    """A condition that held only after the start (of a replica that came later) was none of this one."""
    found = []
    for service, condition in item.needs:
        for other in starts:
            held_s = other.marks.get(_MARKS.get(condition, "ready"))
            if other.service == service and held_s is not None and held_s <= item.marks["starting"]:
                found.append((other, held_s))
    return found


def _path(episode: Episode, starts: Sequence[Start], edges: Edges, turns: Turns) -> tuple[Link, ...]:
    links: list[Link] = []
    item, end_s = max(starts, key=lambda start: start.finish_s), episode.end_s
    while True:
        needed = max(edges[item.container], key=lambda pair: pair[1], default=None)
        if needed is None or needed[1] < item.marks["prepared"]:
            if (before := turns.get(item.container)) is None:
                links.append(Link(item.container, episode.begin_s, end_s))
                return tuple(reversed(links))
            needed = before, item.marks["turn"]
        links.append(Link(item.container, needed[1], end_s))
        item, end_s = needed


def _slack(starts: Sequence[Start], edges: Edges, turns: Turns) -> dict[str, float]:
    end_s = max(item.finish_s for item in starts)
    slack = {item.container: end_s - item.finish_s for item in starts}
    for item in reversed(starts):  # Who needs others starts after them.
        held = edges[item.container]
        gate_s = max([item.marks["prepared"], *(held_s for _, held_s in held)])
        for other, held_s in held:
            room_s = slack[item.container] + gate_s - held_s
            slack[other.container] = max(0.0, min(slack[other.container], room_s))
        if (before := turns.get(item.container)) is not None:
            room_s = slack[item.container] + gate_s - item.marks["prepared"]
            slack[before.container] = max(0.0, min(slack[before.container], room_s))
    return {name: round(seconds, 6) for name, seconds in slack.items()}


def _advice(
    episode: Episode, starts: Sequence[Start], edges: Edges, turns: Turns, path: Sequence[Link]
) -> Advice | None:
    by_name = {item.container: item for item in starts}
    best: Advice | None = None
    for link in path:
        item = by_name[link.container]
        for span in item.spans:
            if span.phase in _WAITS or span.end_s <= link.begin_s or span.length_s < _NOTABLE_S:
                continue
            ends = _without(starts, edges, turns, _shared(starts, item, span))
            last = max(ends, key=lambda name: ends[name])
            end_s = ends[last] - episode.begin_s
            if best is None or end_s < best.end_s:
                before_s = episode.end_s - episode.begin_s
                best = Advice(item.container, item.service, span.phase, span.length_s, before_s, end_s, last)
    return best if best is not None and best.end_s < best.before_s - _NOTABLE_S else None


def _shared(starts: Sequence[Start], item: Start, span: Span) -> dict[str, Span]:
    """The span, with those of others that are the same work: an image is obtained once for all."""
    same = (span.phase, round(span.end_s, 6))
    found = {item.container: span}
    for other in starts if span.phase == "image" else ():
        for theirs in other.spans:
            if (theirs.phase, round(theirs.end_s, 6)) == same:
                found[other.container] = theirs
    return found


def _without(
    starts: Sequence[Start], edges: Edges, turns: Turns, changed: Mapping[str, Span]
) -> dict[str, float]:
    """When each start would have been over without these spans of theirs."""
    earlier: dict[str, float] = {}
    """By container: how much earlier it would have started."""
    ends = {}

    def saved(item: Start, moment_s: float) -> float:
        """Of what is gone, the part that lies before `moment_s`, and after the start."""
        gone = changed.get(item.container)
        if gone is None or gone.begin_s < item.marks["starting"] or moment_s <= gone.begin_s:
            return 0.0
        return min(gone.end_s, moment_s) - gone.begin_s

    for item in starts:
        starting_s, prepared_s = item.marks["starting"], item.marks["prepared"]
        held = [held_s for _, held_s in edges[item.container]]
        lag_s = starting_s - max([prepared_s, *held])
        gone = changed.get(item.container)
        if gone is not None and gone.end_s <= prepared_s:
            prepared_s -= gone.length_s
        elif gone is not None and gone.end_s <= starting_s:
            lag_s = max(0.0, lag_s - gone.length_s)
        if (before := turns.get(item.container)) is not None:
            prepared_s -= earlier[before.container] + saved(before, item.marks["turn"])
        sooner = [
            held_s - earlier.get(other.container, 0.0) - saved(other, held_s) for other, held_s in edges[item.container]
        ]
        earlier[item.container] = starting_s - (max([prepared_s, *sooner]) + lag_s)
        ends[item.container] = item.finish_s - earlier[item.container] - saved(item, item.finish_s)
    return ends
