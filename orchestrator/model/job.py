"""A job: a container that runs to its end, by hand or by a schedule (compose-spec, ``jobs``)."""

from __future__ import annotations

from enum import Enum

from orchestrator.values import frozen


class Concurrency(Enum):
    """What becomes of a run that is due while the last one still runs."""

    FORBID = "forbid"
    QUEUE = "queue"


class MissedFires(Enum):
    """What becomes of the runs that nobody was there to start."""

    ONE = "one"
    """All of them together are made up for by one."""
    SKIP = "skip"


@frozen
class Schedule:
    """`cron`: the five fields of crontab(5). `written`: as the stack has it (``@weekly``). `timezone`: a name of tzdata,
    "" for the machine's own."""

    cron: str
    written: str = ""
    timezone: str = ""
    concurrency: Concurrency = Concurrency.FORBID
    missed_fires: MissedFires = MissedFires.ONE

    @property
    def wild(self) -> bool:
        """It goes by the clock whatever is done to that (`policy.firing`)."""
        minute, hour, *_ = self.cron.split()
        return "*" in (minute[0], hour[0])

    def __str__(self) -> str:
        return f"{self.written or self.cron}{f', {self.timezone}' if self.timezone else ''}"


@frozen
class Job:
    """What starts a job; what it is made from is the service of its name. `manual`: it may be run by hand. `enabled`: its
    profiles are active."""

    manual: bool = True
    schedule: tuple[Schedule, ...] = ()
    enabled: bool = True
