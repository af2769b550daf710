"""``pystack top``."""

from __future__ import annotations

import time

from orchestrator.cli.containers import Containers
from orchestrator.cli.render.escape import escape_line
from orchestrator.cli.render.table import table
from orchestrator.cli.settings import Settings
from orchestrator.runtime.process_table import Shown, processes_of

_HEADER = ("SERVICE", "#", "UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD")


def top(settings: Settings, services: tuple[str, ...]) -> None:
    """Show the processes of services."""
    lines = []
    with Containers(settings, services) as containers:
        for row in containers.rows():
            if row.get("pid") is not None:
                number = str(row.get("number", 1))
                for process in processes_of(containers.layout, containers.group(row)):
                    lines.append((row["service"], number, *_cells(process, time.time())))
    if lines:
        print(table(_HEADER, lines))


def _cells(process: Shown, now: float) -> tuple[str, ...]:
    began = time.localtime(process.began_at)
    today = now - process.began_at < 24 * 3600
    minutes, seconds = divmod(process.cpu_s, 60)
    return (
        process.user,
        str(process.pid),
        str(process.parent),
        str(process.cpu_percent),
        time.strftime("%H:%M" if today else "%b%d", began),
        process.terminal,
        f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}",
        escape_line(process.command),
    )
