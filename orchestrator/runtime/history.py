"""What the exits' journal tells: which runs there were, and how they ended (docs/monitor-protocol.md, "Files")."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from orchestrator.contracts.runtime import Exit
from orchestrator.kernel.plain import opener
from orchestrator.model.names import ContainerId
from orchestrator.runtime.monitor.journal import COMPACT_OVER_BYTES, compacted, entries_of
from orchestrator.values import entity, field

_EXITS_KEPT = 4


def exit_of(status: int | None, at: float) -> Exit:
    """The Exit that a wait status (wait(2)) means; None is a lost one. (`ends` knows what else there is to it.)"""
    if status is None:
        return Exit(finished_at=at)
    if os.WIFEXITED(status):
        return Exit(code=os.WEXITSTATUS(status), finished_at=at)
    return Exit(signal=os.WTERMSIG(status), finished_at=at)


@entity
class History:
    """Of one container: the last run's number, and the exits of the latest runs. `base`: what was counted
    already when the last run began (`ends`)."""

    last_run: int = 0
    base: Mapping[str, Any] = field(default_factory=dict)
    exits: dict[int, Exit] = field(default_factory=dict)

    def add_exit(self, number: int, exit_: Exit) -> None:
        self.exits[number] = exit_
        while len(self.exits) > _EXITS_KEPT:
            del self.exits[min(self.exits)]

    @property
    def last_exit(self) -> Exit | None:
        return self.exits.get(self.last_run)


def read_journal(path: str) -> dict[ContainerId, History]:
    """All containers of the journal that were not forgotten. Half-written lines are passed over. Raises OSError."""
    found: dict[ContainerId, History] = {}
    for entry in _entries(path):
        container = ContainerId(str(entry.get("c")))
        if entry.get("e") == "forget":
            found.pop(container, None)
            continue
        history = found.setdefault(container, History())
        number = int(entry.get("r") or 0)
        if entry.get("e") == "start" and number >= history.last_run:
            history.last_run = number
            history.base = entry.get("echo") or {}
        elif entry.get("e") == "exit":
            history.last_run = max(number, history.last_run)
            history.add_exit(number, exit_of(entry.get("status"), float(entry.get("at") or 0.0)))
    return found


def running_pid(path: str, container: ContainerId) -> tuple[int, int] | None:
    """Pid and start time (clock ticks since boot) of the container's run, if it has not ended by what the journal `path`
    tells: of this boot, or the time is another's."""
    last: dict[str, Any] | None = None
    for entry in _entries(path):
        if entry.get("c") == container:
            last = entry
    if last is None or last.get("e") != "start":
        return None
    pid, ticks = last.get("pid"), last.get("ticks")
    return (pid, ticks) if isinstance(pid, int) and isinstance(ticks, int) and pid > 0 else None


def _entries(path: str) -> list[dict[str, Any]]:
    try:
        with open(path, "rb", opener=opener) as file:
            return [entry for entry, _ in entries_of(file)]
    except FileNotFoundError:
        return []


def compact_journal(path: str) -> None:
    """Rewrite a journal that has grown big, with only the last start and exit of each container. No monitor may run. Raises
    OSError, also when it is there and is no file that a monitor could write."""
    try:
        with open(path, "rb", opener=opener) as file:
            if os.fstat(file.fileno()).st_size <= COMPACT_OVER_BYTES:
                return
            data = compacted(file)
    except FileNotFoundError:
        return
    temporary = f"{path}.new"
    with open(temporary, "wb", opener=opener) as file:
        file.write(data)
    os.replace(temporary, path)
