"""``ps``: a container's status as a table row, and as JSON with the keys of ``docker compose ps --format json``.

A status is what the supervisor sent (`contracts.events.ContainerStatus` as JSON, where fields that have their default are
absent) and is not made a value first: those classes take longer to import than all that ``ps`` does. For verbs that need
a value, `cli.wire` makes it.
"""

from __future__ import annotations

from orchestrator.cli.render.published import links_text
from orchestrator.cli.render.published import ports_text as published_text
from orchestrator.cli.render.table import table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    Status = Mapping[str, Any]

ALIVE = frozenset({"waiting", "created", "starting", "running", "paused", "restarting", "stopping"})
"""Phases in which a container runs or will do so by itself."""
FAILED = frozenset({"failed", "blocked"})
_UP = ("running", "paused")
_HEADER = ("SERVICE", "NAME", "STATE", "UP", "RESTARTS", "ADDRESS", "URL", "PORTS", "NOTE")


_DOCKER_STATES = {
    "running": "running",
    "paused": "paused",
    "stopping": "running",
    "restarting": "restarting",
}
"""By phase. In any other nothing runs: Docker says whether something ever did."""


def docker_state(status: Status) -> str:
    """One of Docker's words (``running``, ``restarting``, ``exited``, ``created``), which scripts compare.

    Who is ``running`` has a program: `exec` reaches it.
    """
    phase = status["phase"]
    if status.get("exit") is None or phase in ("created", "waiting", "blocked"):
        return _DOCKER_STATES.get(phase, "created")
    return "restarting" if phase == "starting" else _DOCKER_STATES.get(phase, "exited")


def identity(status: Status, digits: int = 12) -> str:
    """Hex digits for this very container: the next one of its name has others."""
    from orchestrator.model.keys import short_hash

    return short_hash(f"{status['container']}@{status.get('created_at', 0.0):.6f}", digits)


def is_plain(status: Status) -> bool:
    """It is the first replica: where all are, the service's name says which container it is."""
    return (status.get("role", "replica"), status.get("number", 1)) == ("replica", 1)


def state_text(status: Status) -> str:
    """``running (healthy)``, ``running (cut from db)``, ``exited (1)``, ``waiting``."""
    phase: str = status["phase"]
    if phase in _UP and (told := [*_health_of(status), *status.get("faults", ())]):
        return f"{phase} ({', '.join(told)})"
    if refused := status.get("refused"):
        return f"{phase} ({refused})"
    if phase in ("exited", "failed") and (ended := status.get("exit")) is not None:
        return f"{phase} ({exit_code_text(ended)})"
    return phase


def _health_of(status: Status) -> list[str]:
    return [status["health"]] if status["phase"] == "running" and status["health"] != "none" else []


def exit_status(ended: Mapping[str, Any]) -> int:
    """As a shell has it: the code, 128 and the signal, or 255 when it is lost (`contracts.runtime.Exit.status`)."""
    if (code := ended.get("code")) is not None:
        return int(code)
    return 255 if _lost(ended) else 128 + int(ended["signal"])


def last_status(status: Status) -> int:
    """What its last start came to: the exit code, as a shell has it, of its run, or of what was refused to run. 0: neither
    was."""
    ended = status.get("exit")
    return int(status.get("refused") or 0) or (exit_status(ended) if ended is not None else 0)


def ended_well(status: Status) -> bool:
    """It was asked to stop, or ended with 0."""
    return status.get("wanted") == "stopped" or last_status(status) == 0


def _lost(ended: Mapping[str, Any]) -> bool:
    return ended.get("code") is None and ended.get("signal") is None


def exit_code_text(ended: Mapping[str, Any]) -> str:
    if _lost(ended):
        return "status lost"
    return f"{exit_status(ended)}, out of memory" if ended.get("oom_killed") else str(exit_status(ended))


def ports_text(published: Iterable[Mapping[str, Any]], exposed: Iterable[str] = ()) -> str:
    """What is published, and then what is only exposed."""
    return ", ".join([*published_text(published), *exposed])


def _exposed(text: str) -> dict[str, Any]:
    """As Docker Compose shows a port that is not published; of a range its first."""
    port, _, protocol = text.partition("/")
    return {"URL": "", "TargetPort": int(port.partition("-")[0]), "PublishedPort": 0, "Protocol": protocol}


def addresses(endpoint: Mapping[str, Any]) -> list[str]:
    return [address["ip"] for address in endpoint["addresses"]]


def up_text(status: Status, now: float) -> str:
    """How long it has been running, or "". `now`: epoch seconds."""
    started_at = status.get("started_at")
    if status["phase"] not in _UP or not started_at:
        return ""
    from orchestrator.units import format_duration

    return format_duration(max(0.0, now - started_at))


def as_table(statuses: Sequence[Status], now: float, columns: int | None = None, *, links: bool = False) -> str:
    """`now`: epoch seconds. Containers are named where a service has several. `links`: with URLs, for a terminal."""
    named = not all(map(is_plain, statuses))
    rows = []
    for status in statuses:
        well = status["phase"] == "running" and status["health"] != "unhealthy"
        rows.append(
            (
                status["service"],
                status["container"] if named else "",
                state_text(status),
                up_text(status, now),
                str(status.get("restarts") or ""),
                ", ".join(ip for endpoint in status.get("endpoints", ()) for ip in addresses(endpoint)),
                links_text(status.get("published", ())) if links else "",
                ports_text(status.get("published", ()), status.get("exposed", ())),
                "" if well else status.get("reason", ""),
            )
        )
    return table(_HEADER, rows, columns)


def docker_status(status: Status, now: float) -> str:
    """As ``docker ps`` says it: ``Up 5 minutes (healthy)``, ``Exited (1) 3 seconds ago``. `now`: epoch seconds."""
    state, ended = docker_state(status), status.get("exit")
    if state in ("running", "paused"):
        health = "".join(_health_of(status))
        told = "Paused" if state == "paused" else "health: starting" if health == "starting" else health
        return f"Up {_span(now - (status.get('started_at') or now))}" + (f" ({told})" if told else "")
    if ended is not None and state in ("exited", "restarting"):
        since = f" {_span(now - ended['finished_at'])} ago" if ended.get("finished_at") else ""
        return f"{state.capitalize()} ({last_status(status)}){since}"
    return state.capitalize()


_DAY_S = 86400
_SPANS = ((60, "second", 1), (3600, "minute", 60), (2 * _DAY_S, "hour", 3600), (14 * _DAY_S, "day", _DAY_S))
"""Below how many seconds which unit is used, and its seconds."""
_FEW = {
    (0, "second"): "Less than a second",
    (1, "second"): "1 second",
    (1, "minute"): "About a minute",
    (1, "hour"): "About an hour",
}


def _span(seconds: float) -> str:
    """``5 minutes``, as Docker rounds it down."""
    for limit, unit, size in _SPANS:
        if seconds < limit:
            count = max(0, int(seconds // size))
            return _FEW.get((count, unit), f"{count} {unit}s")
    return f"{int(seconds // (7 * _DAY_S))} weeks"


def as_json(status: Status, project: str, now: float) -> dict[str, Any]:
    """Docker's keys first, so that scripts for it work; then what Docker does not know."""
    from datetime import UTC, datetime

    created = datetime.fromtimestamp(status.get("created_at", 0.0), UTC)
    running, published = status["phase"] in _UP, status.get("published", ())
    exposed = status.get("exposed", ())
    ended, mounts = status.get("exit"), status.get("mounts", ())
    return {
        "ID": identity(status),
        "Name": status["container"],
        "Image": status["image"],
        "Service": status["service"],
        "Project": project,
        "State": docker_state(status),
        "Names": status["container"],
        "Command": '"' + " ".join(status.get("command", ())) + '"',
        "Health": "" if status["health"] == "none" else status["health"],
        "ExitCode": 0 if running else last_status(status),
        "Status": docker_status(status, now),
        "CreatedAt": created.strftime("%Y-%m-%d %H:%M:%S +0000 UTC"),
        "RunningFor": f"{_span(now - status.get('created_at', now))} ago",
        "Size": "",
        "Mounts": ",".join(mounts),
        "LocalVolumes": str(sum(not mount.startswith("/") for mount in mounts)),
        "Networks": ",".join(f"{project}_{endpoint['network']}" for endpoint in status.get("endpoints", ())),
        "Ports": ports_text(published, exposed),
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(status.get("labels", {}).items())),
        "Publishers": [
            {
                "URL": port["host_ip"],
                "TargetPort": port["target"],
                "PublishedPort": port["host_port"],
                "Protocol": port.get("protocol", "tcp"),
            }
            for port in published
        ]
        + [_exposed(text) for text in exposed],
        "Phase": status["phase"],
        "Role": status.get("role", "replica"),
        "Number": status.get("number", 1),
        "Pid": status.get("pid"),
        "Restarts": status.get("restarts", 0),
        "OOMKilled": ended is not None and bool(ended.get("oom_killed")),
        "OOMKills": ended.get("oom_kills", 0) if ended is not None else 0,
        "PeakMemory": ended.get("peak_bytes") if ended is not None else None,
        "Stalled": {name: (ended or {}).get(f"{name}_stalled_s", 0.0) for name in ("cpu", "memory", "io")},
        "Addresses": {endpoint["network"]: addresses(endpoint)[0] for endpoint in status.get("endpoints", ())},
        "Wanted": status.get("wanted", "running"),
        "Reason": status.get("reason", ""),
        "LastProbe": status.get("last_probe", ""),
        "Faults": list(status.get("faults", ())),
    }
