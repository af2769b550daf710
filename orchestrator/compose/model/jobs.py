"""``jobs``: what starts each. A job is a service in all but that, and its name is no service's (as with Docker Compose)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from orchestrator.compose.model.choice import Standing
from orchestrator.compose.model.reader import Reader
from orchestrator.compose.model.selection import profiles_of, services_of
from orchestrator.compose.text.diagnostics import Diagnostic
from orchestrator.compose.text.tree import Node, diagnostic, place_of
from orchestrator.model.job import Concurrency, Job, MissedFires, Schedule

FIELDS = 5
_NAMES = "minute, hour, day of the month, month, day of the week"
NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
"""crontab(5), but for ``@reboot``, which is no time."""
_UTC = frozenset({"UTC", "Etc/UTC"})
"""There without tzdata too."""
_SOME_DAY = datetime(2000, 1, 1, tzinfo=UTC)


def jobs_of(model: Node) -> dict[str, Node]:
    jobs = model.get("jobs")
    return jobs.value if jobs is not None and isinstance(jobs.value, dict) else {}


def is_active(job: Node, profiles: Iterable[str]) -> bool:
    return Standing(profiles_of(job), {}).active(set(profiles))


def called(model: Node, names: Iterable[str]) -> dict[str, Node]:
    """The jobs among `names`."""
    jobs, services = jobs_of(model), services_of(model)
    return {name: jobs[name] for name in names if name in jobs and name not in services}


def check_names(model: Node, found: list[Diagnostic]) -> None:
    """Add to `found` the names that a job and a service have."""
    for name, job in jobs_of(model).items():
        service = services_of(model).get(name)
        if service is not None:
            related = (place_of(service, f"services.{name}", key=True),)
            found.append(diagnostic(job, f"jobs.{name}", f'"{name}" is a service already', key=True, related=related))


def needs_of(job: Node, model: Node) -> tuple[str, ...]:
    """The services that it depends on."""
    depends_on = job.get("depends_on")
    known = services_of(model)
    return tuple(name for name, _ in depends_on.items() if name in known) if depends_on is not None else ()


def triggers(read: Reader, node: Node, path: str, profiles: Iterable[str]) -> Job:
    """What cannot be read is a finding, and left out."""
    own = node.get("triggers")
    assert own is not None, "the shape requires it"
    schedule = own.get("schedule")
    entries = schedule.elements() if schedule is not None else []
    manual = own.get("manual") is None or read.flag(own, f"{path}.triggers", "manual")
    found = [_schedule(read, item, f"{path}.triggers.schedule[{number}]") for number, item in enumerate(entries)]
    return Job(manual, tuple(item for item in found if item is not None), is_active(node, profiles))


def _schedule(read: Reader, node: Node, path: str) -> Schedule | None:
    read.mark(node, path)
    at = node.get("cron")
    assert at is not None, "the shape requires it"
    written = (read.text(node, "cron") or "").strip()
    cron = read.attempt(at, f"{path}.cron", lambda _: parse_cron(written), "")
    zone = node.get("timezone")
    name = read.text(node, "timezone") or ""
    if zone is not None and name:
        read.attempt(zone, f"{path}.timezone", lambda _: _check_zone(name), None)
    concurrency, missed = read.text(node, "concurrency"), read.text(node, "missed_fires")
    if not cron:
        return None
    return Schedule(
        cron,
        written if written != cron else "",
        name,
        Concurrency(concurrency) if concurrency else Concurrency.FORBID,
        MissedFires(missed) if missed else MissedFires.ONE,
    )


def parse_cron(text: str) -> str:
    """The five fields that `text` says. Raises ValueError."""
    from cronsim import CronSim, CronSimError  # Only for a stack that has jobs.

    cron = NICKNAMES.get(text.lower(), text)
    if cron.startswith("@"):
        raise ValueError(f'"{text}" is not one of {", ".join(NICKNAMES)}')
    if (count := len(cron.split())) != FIELDS:
        raise ValueError(f'"{text}" has {count} fields, and needs five: {_NAMES}')
    try:
        next(CronSim(cron, _SOME_DAY))
    except CronSimError as exc:
        raise ValueError(f'"{text}" is not a time as crontab(5) has it: {str(exc)[:1].lower()}{str(exc)[1:]}') from None
    except StopIteration:
        raise ValueError(f'"{text}" is never') from None
    return " ".join(cron.split())


def _check_zone(name: str) -> None:
    try:
        if name not in _UTC:
            ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        message = f'"{name}" is not a time zone that this machine knows (a name such as Europe/Berlin, of tzdata)'
        raise ValueError(message) from None
