"""``pystack why SERVICE``."""

from __future__ import annotations

import time
from contextlib import nullcontext

from orchestrator.cli.connection import connect, explain_unknown
from orchestrator.cli.render.escape import escape_line, escape_text
from orchestrator.cli.render.statuses import addresses, is_plain, ports_text, state_text, up_text
from orchestrator.errors import InputError, OperationError, PystackError

_NOTABLE_S = 0.1
_LINES = 3
"""Of a container's output, of the last so many: later runs have written, too."""
_LOOKED_AT = 500
_LOGGED = 100
"""Events of a service, as the supervisor has it."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from orchestrator.cli.causes import Ask, Facts, Link
    from orchestrator.cli.render.statuses import Status
    from orchestrator.cli.settings import Settings
    from orchestrator.client import Client
    from orchestrator.contracts.site import Site


def why(settings: Settings, service: str, shape: str, count: int, index: int) -> None:
    """Explain why the containers of SERVICE, or of a job, are as they are: state, reason, and what led to it. `index` 0:
    all."""
    site = settings.site()
    client = connect(site)
    known: dict[str, Facts] = {}

    def ask(name: str) -> Facts:
        """What is known of another service; nothing of one that has no container."""
        if name not in known:
            try:
                known[name] = _facts(_told(client, name) if client is not None else _found(site, name))
            except PystackError:
                known[name] = [], []
        return known[name]

    with client or nullcontext():
        try:
            answer = _told(client, service, index) if client is not None else _found(site, service, index)
        except PystackError as error:
            raise explain_unknown(settings, error, (service,)) from None
        statuses, history = known[service] = _facts(answer)
        causes = _causes(site, ask, service)
    job = {key: answer[key] for key in ("schedules", "next_at") if key in answer}
    if shape == "json":
        import json

        from orchestrator.model.codec import to_json

        print(json.dumps({"statuses": statuses, "history": history, "causes": to_json(causes), **job}, indent=2))
        return
    alone = len(statuses) == 1 and is_plain(statuses[0])
    lines = [line for status in statuses for line in _state(site, status, status["service" if alone else "container"])]
    print("\n".join([*_job(service, job), *lines, *_chain(causes), *_history(history, count)]))


def _told(client: Client, service: str, index: int = 0) -> Mapping[str, Any]:
    """By the supervisor. Raises its errors."""
    answer: Mapping[str, Any] = client.request("why", {"service": service, **({"index": index} if index else {})})
    return answer


def _found(site: Site, service: str, index: int = 0) -> Mapping[str, Any]:
    """In the records and the event log, while there is no supervisor. Raises InputError for one that is not there."""
    from orchestrator.model.codec import to_json
    from orchestrator.state.journal import EventLog

    statuses = _recorded(site, service, index)
    events = EventLog(site).tail(_LOGGED, containers=[status["container"] for status in statuses])
    return {"statuses": statuses, "history": [to_json(event) for event in events]}


def _facts(answer: Mapping[str, Any]) -> Facts:
    return answer["statuses"], answer["history"]


def _causes(site: Site, ask: Ask, service: str) -> tuple[Link, ...]:
    from orchestrator.cli.causes import chain

    def said(container: str, before: float) -> list[str]:
        """The last lines that it had written by then, as far as it has not written many since."""
        from orchestrator.cli.logfiles import log_path
        from orchestrator.runtime.logs import read_entries

        entries = read_entries(log_path(site, container), _LOOKED_AT)  # type: ignore[arg-type]
        lines = [entry.line.decode("utf-8", "replace") for entry in entries if entry.time < before]
        return lines[-_LINES:]

    return chain(ask, service, said)


def _chain(links: tuple[Link, ...]) -> list[str]:
    """A line for each, indented below what it explains."""
    lines = ["because:"] if links else []
    depth = {"": 0}
    for link in links:
        depth[link.service] = depth[link.follows] + 1
        indent = "  " * depth[link.service]
        at = f"{_clock(link.at)}  " if link.at else ""
        before = "" if link.certain else "before that: "
        lines.append(f"{indent}{at}{before}{escape_line(link.text)}{f'; {link.whose}:' if link.output else ''}")
        lines += [f"{indent}  | {escape_line(line)}" for line in link.output]
    return lines


def _clock(at: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(at).strftime("%H:%M:%S.%f")[:-3]


def _recorded(site: Site, service: str, index: int) -> list[Status]:
    """Raises InputError, or OperationError, for one that is not there."""
    from orchestrator.cli.records import recorded_statuses
    from orchestrator.model.codec import to_json

    known = [status for status in recorded_statuses(site) if status.service == service]
    if not known:
        raise OperationError(f'service "{service}" has no container', hint=f"create it with: pystack up {service}")
    rows = [status for status in known if index in (0, status.number)]
    if not rows:
        raise InputError(f'service "{service}" has no container number {index}', hint="`pystack ps -a` lists them")
    return [to_json(status) for status in rows]


def _job(name: str, job: Mapping[str, Any]) -> list[str]:
    """When a job starts, as far as its schedule says."""
    if not job:
        return []
    from datetime import datetime

    lines = [f"{escape_line(name)} is a job: {escape_line('; '.join(job['schedules']))}"]
    if (next_at := job.get("next_at")) is not None:
        due = datetime.fromtimestamp(next_at).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
        return [*lines, f"  it is due next at {due}"]
    return [*lines, "  its schedule is not in force: `pystack up` begins it"]


def _state(site: Site, status: Status, name: str) -> list[str]:
    lines = [f"{escape_line(name)} is {escape_line(state_text(status))}"]
    if status.get("reason"):
        lines[0] += f": {escape_line(status['reason'])}"
    if since := up_text(status, time.time()):
        lines.append(f"  for {since}, as process {status.get('pid')}")
    if status.get("pid") is not None and (uses := _uses(site, status)):
        lines.append(f"  {uses}")
    if restarts := status.get("restarts"):
        lines.append(f"  restarted {restarts} {'time' if restarts == 1 else 'times'}")
    if used := _used(status.get("exit") or {}):
        lines.append(f"  {'its last run' if status.get('pid') else 'it'} {used}")
    for endpoint in status.get("endpoints", ()):
        lines.append(f"  on network {escape_line(endpoint['network'])}: {escape_line(', '.join(addresses(endpoint)))}")
    if status.get("published"):
        lines.append(f"  published: {escape_line(ports_text(status['published']))}")
    if probe := status.get("last_probe", "").strip():
        lines.append("  its last probe said:")
        lines += [f"    | {line}" for line in escape_text(probe).split("\n")]
    return lines


def _uses(site: Site, status: Status) -> str:
    """``uses 12MiB of 64MiB of memory``, and whom the kernel has killed for more; "" when its group does not say."""
    from orchestrator.kernel import cgroup
    from orchestrator.model.names import ContainerId
    from orchestrator.policy.exits import oom_text
    from orchestrator.runtime.bundle import group_path
    from orchestrator.runtime.cgroups import open_existing
    from orchestrator.runtime.usage import usage_of
    from orchestrator.units import format_bytes

    try:
        layout = cgroup.detect()
    except OSError:
        return ""
    group = group_path(site, ContainerId(status["container"]))
    with open_existing(layout, group) as found:
        kills = oom_text(found.oom_kills())
    used = usage_of(layout, group, status["pid"])
    if not used.memory_bytes:
        return ""
    return f"uses {format_bytes(used.memory_bytes)} of {format_bytes(used.limit_bytes)} of memory{kills}"


def _used(ended: Mapping[str, Any]) -> str:
    """What an end says of what came before it: ``used at most 64MiB, and waited 1.2s for memory``."""
    from orchestrator.units import format_bytes, format_duration

    parts = [f"used at most {format_bytes(ended['peak_bytes'])} of memory"] if ended.get("peak_bytes") is not None else []
    names = {"cpu": "processors", "memory": "memory", "io": "disks"}
    waits = {words: ended.get(f"{name}_stalled_s", 0.0) for name, words in names.items()}
    parts += [f"waited {format_duration(s)} for {words}" for words, s in waits.items() if s >= _NOTABLE_S]
    return ", ".join(parts)


def _history(history: Sequence[Any], count: int) -> list[str]:
    from orchestrator.cli.render.plain import event_text
    from orchestrator.cli.wire import event_of

    events = [event for event in map(event_of, history) if event is not None]
    shown = events[-count:] if count else []
    if not shown:
        return []
    lines = [f"what happened (the last {len(shown)} of {len(events)}):" if len(events) > len(shown) else "what happened:"]
    for event in shown:
        lines.append(f"  {_clock(event.at)}  {event.kind.value.ljust(18)}  {escape_line(event_text(event))}")
    return lines
