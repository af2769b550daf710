"""What an event says, in words made of its kind and its details, for where the service's name stands before them.

An event's own text is a whole sentence: it is shown as it is, or not at all.
"""

from __future__ import annotations

from orchestrator.contracts.events import Event, EventKind
from orchestrator.policy.exits import lingering_text, oom_text
from orchestrator.units import format_duration, signal_name
from orchestrator.values import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


_LEFT = {EventKind.CONTAINER_LINGERS: "left_s", EventKind.RESTART_SCHEDULED: "after_s"}
"""Which detail of an event is a time that runs out, by its kind."""


def counts_down(event: Event) -> bool:
    return event.kind in _LEFT


def later(event: Event, passed_s: float) -> Event:
    """An event that counts down, as it would be told `passed_s` after it came, to whole seconds."""
    left_s = event.detail.get(_LEFT[event.kind])
    if not isinstance(left_s, int | float) or passed_s < 1:
        return event
    return replace(event, detail={**event.detail, _LEFT[event.kind]: float(max(0, round(left_s - passed_s)))})


def words_of(event: Event) -> str:
    """``exited with code 1``, ``restarts in 0.1s``, ``unhealthy``; the whole sentence where details say too little."""
    detail = event.detail
    match event.kind:
        case EventKind.CONTAINER_EXITED:
            return exit_text(detail) or "exited"
        case EventKind.CONTAINER_STOPPED:
            return exit_text(detail) or "stopped"
        case EventKind.CONTAINER_LINGERS:
            return _lingering(detail) or event.text
        case EventKind.CONTAINER_STARTED:
            return "taken over" if detail.get("adopted") else "started"
        case EventKind.CONTAINER_REMOVED:
            return "removed"
        case EventKind.RESTART_SCHEDULED:
            return restart_text(detail)
        case EventKind.HEALTH_CHANGED:
            return str(detail.get("health", "health changed"))
        case EventKind.SERVICE_BLOCKED:
            if "dependency" in detail:  # Docker Compose's sentence.
                ended = f"container {detail['dependency']} exited ({detail.get('exit_status')})"
                return f"cannot start: dependency failed to start: {ended}"
            return f"cannot start because of {detail['on']}" if "on" in detail else event.text
    return event.text


def exit_text(detail: Mapping[str, object]) -> str:
    """``exited with code 1``, ``was killed by SIGKILL``, ``ran out of memory and was killed``; "" if unknown."""
    if detail.get("oom"):
        return "ran out of memory and was killed"
    kills = detail.get("oom_kills")
    beside = oom_text(kills) if isinstance(kills, int) else ""
    if isinstance(number := detail.get("signal"), int):
        return f"was killed by {signal_name(number)}{beside}"
    status = detail.get("exit_status")
    return "" if status is None else f"exited with code {status}{beside}"


def _lingering(detail: Mapping[str, object]) -> str:
    """"" where details are missing."""
    number, left_s, pid = detail.get("signal"), detail.get("left_s"), detail.get("pid")
    if not (isinstance(number, int) and isinstance(left_s, int | float) and isinstance(pid, int)):
        return ""
    return lingering_text(left_s, number, bool(detail.get("ignored")), str(detail.get("process")), pid)


def restart_text(detail: Mapping[str, object]) -> str:
    """``restarts in 0.1s``."""
    after_s = detail.get("after_s")
    return f"restarts in {format_duration(after_s)}" if isinstance(after_s, int | float) else "restarts"


def probe_text(detail: Mapping[str, object]) -> str:
    """``probe 2 of 5 failed: OUTPUT``; a failure within the start period does not count, and says so."""
    number, failures, retries = detail.get("number"), detail.get("failures"), detail.get("retries")
    output = first_line(detail.get("output", ""))
    text = f"probe {failures} of {retries} failed" if failures else f"probe {number} failed, which does not count yet"
    return f"{text}: {output}" if output else text


def first_line(output: object) -> str:
    return str(output).strip().split("\n")[0]
