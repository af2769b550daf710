"""An episode as bars of letters: readable in 60 columns, without colours, in ASCII."""

from __future__ import annotations

from datetime import datetime

from orchestrator.cli.render.escape import escape_line
from orchestrator.cli.timeline.critical import Advice, Critical, critical
from orchestrator.cli.timeline.starts import PHASES, READY, Episode, Start
from orchestrator.units import format_duration

COLOURS = {
    "queue": "90", "image": "35", "stop": "33", "sandbox": "34", "network": "36", "wait": "90",
    "prepare": "33", "exec": "32", "backoff": "31", "ready": "92", "run": "94",
}  # fmt: skip
"""SGR parameters."""
SHORTENS = {
    "image": "`pystack pull` or `pystack build` does that beforehand",
    "stop": "a program that obeys its stop signal ends sooner, and so does a smaller stop_grace_period",
    "prepare": "its pre_start decides",
    "backoff": "it crashed first: `pystack why` says of what",
    "ready": "its own start decides, and how often healthcheck.start_interval looks",
    "run": "the job itself decides",
}
"""What a user can do about a phase. Others are ours to shorten."""
_SLACK = "(+TIME): so much later it would have made no difference"
_NAME = 16
_LEAST_BAR = 20


def render(episode: Episode, columns: int, *, colour: bool) -> list[str]:
    """The bars, the critical path, and what would shorten it."""
    found = critical(episode)
    at = datetime.fromtimestamp(episode.at).strftime("%Y-%m-%d %H:%M:%S")
    lines = [f"{escape_line(episode.title)} at {at}, {seconds(episode.end_s - episode.begin_s)}"]
    if not episode.steady:
        lines.append("  (logged by an older version: by the wall clock)")
    names = {item.container: label(item, episode) for item in episode.starts}
    width = max(len(name) for name in names.values())
    width = min(width, max(_NAME, columns - 2 - 22 - _LEAST_BAR))
    bar = max(_LEAST_BAR, columns - width - 2 - 22)
    path = {link.container for link in found.path}
    for item in sorted(episode.starts, key=lambda item: (item.finish_s, item.container)):
        mark = "*" if item.container in path else " "
        name = names[item.container]
        name = name if len(name) <= width else name[: width - 1] + "~"
        drawn = _bar(item, episode, bar, colour=colour)
        lines.append(f"{mark} {name.ljust(width)} {drawn} {_outcome(item, episode, found)}".rstrip())
    used = {span.phase for item in episode.starts for span in item.spans}
    lines += _wrapped("  ", [f"{sign} {words}" for name, (sign, words) in PHASES.items() if name in used], columns)
    return [*lines, *_path_lines(episode, found, names, columns)]


def label(item: Start, episode: Episode) -> str:
    """The service, or with several containers of it their names."""
    alone = sum(other.service == item.service for other in episode.starts) == 1
    return escape_line(item.service if alone else item.container)


def seconds(length_s: float) -> str:
    if length_s >= 1:
        return f"{length_s:.2f} s"
    return f"{length_s * 1000:.{0 if length_s >= 0.0995 else 1}f} ms"


def _outcome(item: Start, episode: Episode, found: Critical) -> str:
    if item.end not in READY:
        return item.end
    slack = found.slack_s.get(item.container, 0.0)
    spare = f" (+{seconds(slack)})" if slack >= 0.0005 else ""
    return f"{seconds(item.finish_s - episode.begin_s)}{spare}"


def _bar(item: Start, episode: Episode, width: int, *, colour: bool) -> str:
    """Each cell is the phase that fills most of it, and none is left out that has a cell to itself."""
    whole = (episode.end_s - episode.begin_s) or 1.0
    cells: list[str] = []
    for number in range(width):
        begin, end = (episode.begin_s + whole * edge / width for edge in (number, number + 1))
        shares = [(min(span.end_s, end) - max(span.begin_s, begin), span.phase) for span in item.spans]
        share, phase = max(shares, default=(0.0, ""))
        cells.append(phase if share > 0 else "")
    output = item.marks.get("output")
    seen = int((output - episode.begin_s) / whole * width) if output is not None else -1
    text = ""
    for number, phase in enumerate(cells):
        sign = "o" if number == seen and phase else PHASES[phase][0] if phase else " "
        text += f"\x1b[{COLOURS[phase]}m{sign}\x1b[0m" if colour and phase else sign
    return text


def _path_lines(episode: Episode, found: Critical, names: dict[str, str], columns: int) -> list[str]:
    if not found.path:
        return ["  no container came so far that it was started"]
    parts = [f"{names[link.container]} {seconds(link.end_s - link.begin_s)}" for link in found.path]
    lines = _wrapped("* critical path: ", [*(f"{part} ->" for part in parts[:-1]), parts[-1]], columns, " ")
    if any(slack >= 0.0005 for slack in found.slack_s.values()):
        lines += _wrapped("  ", _SLACK.split(), columns, " ")
    if found.advice is not None:
        lines += _wrapped("  ", advice_text(found.advice, names).split(), columns, " ")
    return lines


def advice_text(advice: Advice, names: dict[str, str]) -> str:
    """``shorten db (until it is ready: 4.20 s): without that 3.90 s instead of 8.12 s, and then cache decides; ...``"""
    name = names[advice.container]
    text = f"shorten {name} ({PHASES[advice.phase][1]}: {seconds(advice.length_s)}): without that it would take "
    text += f"{seconds(advice.end_s)} instead of {seconds(advice.before_s)}"
    if advice.then != advice.container:
        text += f", and {names[advice.then]} would be the last"
    return text + (f"; {SHORTENS[advice.phase]}" if advice.phase in SHORTENS else "")


def _wrapped(first: str, words: list[str], columns: int, gap: str = ", ") -> list[str]:
    lines = [first]
    for number, word in enumerate(words):
        piece = word + (gap.rstrip() if gap != " " and number + 1 < len(words) else "")
        if len(lines[-1]) + len(piece) + 1 > columns and lines[-1].strip():
            lines.append(" " * min(len(first), 4))
        lines[-1] += piece if lines[-1].endswith(" ") else " " + piece
    return lines


def hint_of(start: Start) -> str:
    """The start's times in words, for a title in a picture."""
    parts = [f"{PHASES[span.phase][1]} {format_duration(round(span.length_s, 4))}" for span in start.spans]
    return f"{start.container}: {', '.join(parts)}"
