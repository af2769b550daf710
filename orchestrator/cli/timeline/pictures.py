"""Episodes as SVG, HTML, JSON, and in Chrome's trace event format ("Trace Event Format", chrome://tracing and
ui.perfetto.dev)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import Any

from orchestrator.cli.timeline.bars import advice_text, hint_of, label, render, seconds
from orchestrator.cli.timeline.critical import critical
from orchestrator.cli.timeline.starts import PHASES, Episode, Start

_FILL = {
    "queue": "#d0d0d0", "image": "#b07aa1", "stop": "#edc948", "sandbox": "#4e79a7", "network": "#76b7b2",
    "wait": "#e6e6e6", "prepare": "#f28e2b", "exec": "#59a14f", "backoff": "#e15759", "ready": "#8cd17d", "run": "#a0cbe8",
}  # fmt: skip
_ROW, _BAR, _LEFT, _WIDE = 24, 16, 180, 760
_MICROSECONDS = 1e6


def as_json(episodes: Sequence[Episode]) -> str:
    return json.dumps([_data(episode) for episode in episodes], indent=2)


def as_chrome(episodes: Sequence[Episode]) -> str:
    """A process an episode, a thread a container; complete events ("X"), and instants ("i") for the moments."""
    events: list[dict[str, Any]] = []
    for pid, episode in enumerate(episodes, 1):
        events.append({"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": episode.title}})
        for tid, item in enumerate(episode.starts, 1):
            events.append({"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": item.container}})
            at = {"pid": pid, "tid": tid, "cat": item.service}
            for span in item.spans:
                when = {"ts": _micro(span.begin_s, episode), "dur": round(span.length_s * _MICROSECONDS)}
                events.append({"ph": "X", "name": PHASES[span.phase][1], **when, **at})
            for name, moment_s in item.marks.items():
                events.append({"ph": "i", "s": "t", "name": name, "ts": _micro(moment_s, episode), **at})
    return json.dumps({"displayTimeUnit": "ms", "traceEvents": events})


def as_svg(episodes: Sequence[Episode]) -> str:
    """One picture; below each episode's bars what it says in words."""
    parts: list[str] = []
    y = 10
    for episode in episodes:
        y = _draw(parts, episode, y) + _ROW
    size = f'width="{_LEFT + _WIDE + 150}" height="{y}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>"])


def as_html(episodes: Sequence[Episode]) -> str:
    """A page that needs nothing else: the picture, and the bars as text."""
    text = "\n\n".join("\n".join(render(episode, 100, colour=False)) for episode in episodes)
    head = '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>pystack timeline</title></head><body>'
    return f"{head}\n{as_svg(episodes)}\n<pre>{escape(text)}</pre>\n</body></html>"


def _data(episode: Episode) -> dict[str, Any]:
    found = critical(episode)
    begin_s = episode.begin_s
    advice = found.advice
    return {
        "title": episode.title,
        "at": episode.at,
        "length_s": _since(episode.end_s, begin_s),
        "steady": episode.steady,
        "starts": [_start_data(item, episode, found.slack_s.get(item.container)) for item in episode.starts],
        "critical_path": [
            {"container": link.container, "begin_s": _since(link.begin_s, begin_s), "end_s": _since(link.end_s, begin_s)}
            for link in found.path
        ],
        "shorten": None
        if advice is None
        else {
            "container": advice.container,
            "phase": advice.phase,
            "length_s": round(advice.length_s, 6),
            "would_take_s": round(advice.end_s, 6),
            "then": advice.then,
        },
    }


def _start_data(item: Start, episode: Episode, slack_s: float | None) -> dict[str, Any]:
    begin_s = episode.begin_s
    return {
        "container": item.container,
        "service": item.service,
        "end": item.end,
        "text": item.text,
        "slack_s": slack_s,
        "needs": [{"service": service, "condition": condition} for service, condition in item.needs],
        "phases": [
            {"phase": span.phase, "begin_s": _since(span.begin_s, begin_s), "end_s": _since(span.end_s, begin_s)}
            for span in item.spans
        ],
        "marks": {name: _since(moment_s, begin_s) for name, moment_s in item.marks.items()},
    }


def _draw(parts: list[str], episode: Episode, y: int) -> int:
    found = critical(episode)
    whole = (episode.end_s - episode.begin_s) or 1.0
    names = {item.container: label(item, episode) for item in episode.starts}
    on_path = {link.container for link in found.path}
    parts.append(_text(10, y + 12, f"{episode.title}: {seconds(whole)}", bold=True))
    y += _ROW
    for item in episode.starts:
        parts.append(_text(10, y + 12, names[item.container], bold=item.container in on_path))
        for span in item.spans:
            x = _LEFT + (span.begin_s - episode.begin_s) / whole * _WIDE
            wide = max(0.5, span.length_s / whole * _WIDE)
            box = f'<rect x="{x:.2f}" y="{y}" width="{wide:.2f}" height="{_BAR}" fill="{_FILL[span.phase]}">'
            parts.append(f"{box}<title>{escape(hint_of(item))}</title></rect>")
        if (output := item.marks.get("output")) is not None:
            x = _LEFT + (output - episode.begin_s) / whole * _WIDE
            parts.append(f'<circle cx="{x:.2f}" cy="{y + _BAR / 2}" r="3"><title>first output</title></circle>')
        parts.append(_text(_LEFT + _WIDE + 8, y + 12, f"{item.end}, {seconds(item.finish_s - episode.begin_s)}"))
        y += _ROW
    used = [name for name in PHASES if any(span.phase == name for item in episode.starts for span in item.spans)]
    for number, name in enumerate(used):
        x, below = _LEFT + number % 4 * 190, y + number // 4 * 18
        parts.append(f'<rect x="{x}" y="{below}" width="10" height="10" fill="{_FILL[name]}"/>')
        parts.append(_text(x + 14, below + 9, PHASES[name][1]))
    y += -(-len(used) // 4) * 18
    if found.advice is not None:
        parts.append(_text(10, y + 14, advice_text(found.advice, names)))
        y += _ROW
    return y


def _text(x: float, y: float, text: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x}" y="{y}"{weight}>{escape(text)}</text>'


def _since(moment_s: float, begin_s: float) -> float:
    return round(moment_s - begin_s, 6)


def _micro(moment_s: float, episode: Episode) -> int:
    return round((moment_s - episode.begin_s) * _MICROSECONDS)
