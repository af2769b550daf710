"""When a schedule is due: crontab(5), in a time zone, as Debian's cron(8) has it.

What is at a fixed time (neither minute nor hour begins with ``*``) and falls into the hour that a change of the clocks
leaves out is due right after it; in the hour that comes twice, the first time only. What has a ``*`` there goes by the
clock: it is due in both hours, and not in the one that is left out. `cronsim` does the arithmetic.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from itertools import islice, takewhile
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from orchestrator.errors import HostError
from orchestrator.model.job import Schedule

LOCAL_TIME = "/etc/localtime"
_UTC = frozenset({"UTC", "Etc/UTC"})
_LOCAL = Schedule("")
_CHANGE_S = 3 * 3600
"""More than any change of the clocks."""
_STEPS = 10
"""An hour that comes twice may give instants on the wrong side of the one that was asked for; a few of them."""


class Almanac:
    """`last_due` and `next_due` for somebody who asks again and again: between two instants the answers are the same."""

    def __init__(self) -> None:
        self._known: dict[tuple[Schedule, float], tuple[float, float]] = {}
        """By schedule, and by when the machine's time zone was set: the two instants that somebody was last between."""

    def last_due(self, schedule: Schedule, at_s: float) -> float | None:
        return self._around(schedule, at_s)[0]

    def next_due(self, schedule: Schedule, at_s: float) -> float | None:
        return self._around(schedule, at_s)[1]

    def _around(self, schedule: Schedule, at_s: float) -> tuple[float | None, float | None]:
        key = schedule, _local_since(schedule)
        known = self._known.get(key)
        if known is not None and known[0] <= at_s < known[1]:
            return known
        last, following = last_due(schedule, at_s), next_due(schedule, at_s)
        if last is not None and following is not None:
            self._known[key] = last, following
        return last, following


def _local_since(schedule: Schedule) -> float:
    """0 for one with a time zone of its own."""
    if schedule.timezone:
        return 0.0
    try:
        return os.stat(LOCAL_TIME).st_mtime
    except OSError:
        return 0.0


def last_due(schedule: Schedule, at_s: float) -> float | None:
    """The last instant (epoch seconds) that is not after `at_s`. Raises HostError for a zone that is gone."""
    begin_s, zone = int(at_s) + 1, zone_of(schedule)
    before_s = begin_s - _CHANGE_S
    offsets = {datetime.fromtimestamp(instant_s, zone).utcoffset() for instant_s in (before_s, begin_s)}
    if len(offsets) == 1:
        return _nearest(schedule, begin_s, at_s, back=True)
    # Back from within an hour that comes twice, what was due in the first one would be passed over.
    since = list(takewhile(lambda due_at: due_at <= at_s, _dues(schedule, before_s, back=False)))
    return since[-1] if since else _nearest(schedule, before_s + 1, before_s, back=True)


def next_due(schedule: Schedule, at_s: float) -> float | None:
    """The first instant after `at_s`; None: there is none. Raises HostError."""
    return _nearest(schedule, int(at_s), at_s, back=False)


def zone_of(schedule: Schedule) -> tzinfo:
    """Raises HostError when tzdata does not have it any more."""
    if schedule.timezone in _UTC:
        return UTC
    try:
        if schedule.timezone:
            return ZoneInfo(schedule.timezone)
        with open(LOCAL_TIME, "rb") as file:
            return ZoneInfo.from_file(file)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        if schedule.timezone:
            message = f'this machine does not know the time zone "{schedule.timezone}"'
            raise HostError(message, hint="install tzdata") from exc
        return UTC  # localtime(5): a machine without the file is on UTC.


def written(at_s: float, schedule: Schedule = _LOCAL) -> str:
    """For people, to the minute, in the schedule's time zone."""
    return datetime.fromtimestamp(at_s, zone_of(schedule)).strftime("%Y-%m-%d %H:%M %Z")


def _nearest(schedule: Schedule, begin_s: int, at_s: float, *, back: bool) -> float | None:
    for due_at in islice(_dues(schedule, begin_s, back=back), _STEPS):
        if (due_at <= at_s) if back else (due_at > at_s):
            return due_at
    return None


def _dues(schedule: Schedule, begin_s: int, *, back: bool) -> Iterator[float]:
    from cronsim import CronSim  # Only where there are jobs.

    for found in CronSim(schedule.cron, datetime.fromtimestamp(begin_s, zone_of(schedule)), reverse=back):
        yield found.timestamp()
