"""Why a service is as it is, told across services: ``web`` is blocked because of ``api``, which ended after ``db`` had.

What is certain is told as it is: whom a container waits for, or is blocked by, stands in its events. A run that ended by
itself says nothing of others; of what its service needs, what went wrong during that run or the run before it (and not
later than it ended) is told as having come before, and no more is claimed.

Statuses and events are read as the supervisor sends them, in JSON (`cli.render.statuses` says why).
"""

from __future__ import annotations

from orchestrator.values import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    Facts = tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]]
    """The statuses of a service's containers, and the events about them, oldest first."""
    Ask = Callable[[str], Facts]
    LastLines = Callable[[str, float], Sequence[str]]
    """What a container has written last before its next run began (epoch seconds; infinite: there is none)."""

_STATES = {
    "service_started": "to have started",
    "service_healthy": "to be healthy",
    "service_completed_successfully": "to have completed",
}
_TROUBLE = ("container.exited", "service.failed")
_MOST = 12
"""Links of a chain."""
_BEFORE_S = 60.0
"""What went wrong longer before a run ended, and was over, is not told as having come before."""


@frozen
class Link:
    """`text`: a sentence without its time. `at`: epoch seconds. `follows`: the service of the link that this one explains;
    `certain` False: it only came before that. `output`: the last lines of what `whose` names."""

    service: str
    text: str
    at: float
    follows: str = ""
    certain: bool = True
    output: tuple[str, ...] = ()
    whose: str = "its last output"


def chain(ask: Ask, service: str, last_lines: LastLines) -> tuple[Link, ...]:
    """The links from `service` to what was first, each service once. Nothing for one that runs and never did otherwise."""
    links: list[Link] = []
    seen = {service}
    open_ends: list[tuple[str, str, float | None]] = [(service, "", None)]
    while open_ends and len(links) < _MOST:
        name, follows, before = open_ends.pop(0)
        for link, next_ones in _explained(ask(name), name, follows, before, last_lines):
            links.append(link)
            for other, moment in next_ones:
                if other not in seen:
                    seen.add(other)
                    open_ends.append((other, name, moment))
    return tuple(links)


def _explained(
    facts: Facts, name: str, follows: str, before: float | None, last_lines: LastLines
) -> Iterator[tuple[Link, list[tuple[str, float | None]]]]:
    """A link for the worst of the service's containers, with the services to go on with. `before`: only what went wrong
    until then, in the run of somebody that needs it; None: as it is now."""
    statuses, history = facts
    if before is not None:
        if (trouble := _last_trouble(history, before)) is not None and trouble["at"] >= before - _BEFORE_S:
            yield _ended(trouble, history, name, follows, last_lines, certain=False)
        return
    order = ("blocked", "waiting", "failed", "restarting", "exited", "running")
    ranked = sorted(statuses, key=lambda row: order.index(row["phase"]) if row["phase"] in order else len(order))
    for row in ranked[:1]:
        own = [event for event in history if event.get("container") == row["container"]]
        match row["phase"]:
            case "blocked" | "failed" if (event := _last_of(own, "service.blocked", "container.starting")) is not None:
                on = str(event["detail"]["on"])
                condition = _condition(own, on)
                text = f"{name} is blocked: it needs {on} {condition}, which it cannot be any more"
                yield Link(name, text, event["at"], follows), [(on, None)]
            case "waiting":
                unmet = _unmet(own)
                words = " and ".join(f"{on} {_condition(own, on)}" for on in unmet)
                at = max(unmet.values(), default=own[-1]["at"] if own else 0.0)
                yield Link(name, f"{name} waits for {words or 'what it needs'}", at, follows), [(on, None) for on in unmet]
            case "running" if row.get("health") in ("starting", "unhealthy"):
                yield _unwell(row, own, name, follows), []
            case "running" if not row.get("restarts") and not follows:
                return
            case _ if (trouble := _last_trouble(own, None)) is not None:
                yield _ended(trouble, own, name, follows, last_lines)


def _ended(
    event: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    name: str,
    follows: str,
    last_lines: LastLines,
    *,
    certain: bool = True,
) -> tuple[Link, list[tuple[str, float | None]]]:
    """A run that ended, or could not begin; and what its service needs, to look for what came before."""
    at = event["at"]
    container, output = str(event.get("container", "")), tuple[str, ...]()
    if event["kind"] == "container.exited":
        later = (one["at"] for one in history if one["kind"] == "container.starting" and one.get("container") == container)
        output = tuple(last_lines(container, min((start for start in later if start > at), default=float("inf"))))
    needs = _needs(history, at)
    return Link(name, str(event["text"]), at, follows, certain, output), [(other, at) for other in needs]


def _unwell(row: Mapping[str, Any], own: Sequence[Mapping[str, Any]], name: str, follows: str) -> Link:
    probe = _last(own, "health.probed")
    text = f"{name} is unhealthy" if row["health"] == "unhealthy" else f"{name} is not healthy yet"
    lines = tuple(str(row.get("last_probe", "")).strip().splitlines()[-3:])
    return Link(name, text, probe["at"] if probe is not None else 0.0, follows, True, lines, "its last probe")


def _last_trouble(history: Sequence[Mapping[str, Any]], before: float | None) -> Mapping[str, Any] | None:
    """The last end of a run that nobody asked for, or the refusal to begin one; of the two that are told of one and the
    same end the first, which says how it ended."""
    found = None
    for event in history:
        if before is not None and event["at"] > before:
            break
        if event["kind"] in _TROUBLE:
            same = found is not None and event["kind"] == "service.failed" and event["at"] - found["at"] < 0.01
            found = found if same else event
    return found


def _last(events: Sequence[Mapping[str, Any]], kind: str) -> Mapping[str, Any] | None:
    return next((event for event in reversed(events) if event["kind"] == kind), None)


def _last_of(events: Sequence[Mapping[str, Any]], kind: str, undone_by: str) -> Mapping[str, Any] | None:
    """The last event of `kind`, unless one of `undone_by` came after it. (A supervisor that is gone leaves a record that
    says "failed" of what was blocked, too.)"""
    last = next((event for event in reversed(events) if event["kind"] in (kind, undone_by)), None)
    return last if last is not None and last["kind"] == kind else None


def _unmet(own: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What it waits for, and since when."""
    unmet: dict[str, float] = {}
    for event in own:
        on = str(event.get("detail", {}).get("on", ""))
        if event["kind"] == "service.waiting":
            unmet[on] = event["at"]
        elif event["kind"] == "condition.met":
            unmet.pop(on, None)
        elif event["kind"] == "container.starting":
            unmet.clear()
    return unmet


def _condition(own: Sequence[Mapping[str, Any]], on: str) -> str:
    for event in reversed(own):
        detail = event.get("detail", {})
        if event["kind"] == "service.waiting" and detail.get("on") == on:
            return _STATES.get(str(detail.get("condition")), "")
    return "to be there"


def _needs(history: Sequence[Mapping[str, Any]], before: float) -> list[str]:
    """The services that the run which had ended `before` needed."""
    starts = [event for event in history if event["kind"] == "container.starting" and event["at"] <= before]
    return [str(need).rpartition(":")[0] for need in starts[-1].get("detail", {}).get("needs", ())] if starts else []
