"""``pystack stats``: what containers use, again and again."""

from __future__ import annotations

import sys
import time
from typing import Any

from orchestrator.cli.containers import Containers
from orchestrator.cli.render.rows import render_rows
from orchestrator.cli.render.sizes import binary_size, decimal_size
from orchestrator.cli.render.statuses import identity
from orchestrator.cli.settings import Settings
from orchestrator.cli.terminal import width
from orchestrator.client import SupervisorGone
from orchestrator.runtime.usage import Usage, usage_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orchestrator.cli.render.statuses import Status

_COLUMNS = {
    "ID": "CONTAINER ID",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}
_FIRST_S, _EVERY_S = 0.5, 1.0
"""Between two looks: the use of processors is measured from one to the next."""
_HOME, _CLEAR, _TO_END, _BELOW = "\x1b[H", "\x1b[2J", "\x1b[K", "\x1b[J"


def stats(
    settings: Settings, services: tuple[str, ...], everything: bool, shape: str, no_stream: bool, no_trunc: bool
) -> None:
    """Show what containers use, until Ctrl-C or until the project is taken down."""
    live = sys.stdout.isatty() and not no_stream and not shape.strip().startswith(("json", "{"))
    columns = None if no_trunc or not sys.stdout.isatty() else width()
    with Containers(settings, services) as containers:
        before = _look(containers, containers.rows())
        pause_s, clear = _FIRST_S, _CLEAR
        while True:
            time.sleep(pause_s if before or not no_stream else 0)
            try:
                rows = containers.rows()
            except SupervisorGone:
                return
            now = _look(containers, rows)
            shown = [
                _row(row, now.get(row["container"]), before.get(row["container"]), no_trunc=no_trunc)
                for row in rows
                if everything or row["container"] in now
            ]
            text = render_rows(shown, shape, _COLUMNS, width=columns)
            if live:
                text = f"{clear}{_HOME}{text}".replace("\n", f"{_TO_END}\n") + f"{_TO_END}\n{_BELOW}"
            if text:
                print(text, end="" if live else "\n", flush=True)
            if no_stream or containers.gone:
                return
            before, pause_s, clear = now, _EVERY_S, ""


def _look(containers: Containers, rows: list[Status]) -> dict[str, Usage]:
    """By container, those that run."""
    return {
        row["container"]: usage_of(containers.layout, containers.group(row), row["pid"])
        for row in rows
        if row.get("pid") is not None
    }


def _row(row: Status, now: Usage | None, before: Usage | None, *, no_trunc: bool) -> dict[str, Any]:
    """Docker's names."""
    used = now or Usage(0.0)
    share = now.cpu_share(before) if now is not None and before is not None else 0.0
    full = identity(row, 64 if no_trunc else 12)
    return {
        "BlockIO": f"{decimal_size(used.read_bytes)} / {decimal_size(used.written_bytes)}",
        "CPUPerc": f"{100 * share:.2f}%",
        "Container": full,
        "ID": full,
        "MemPerc": f"{100 * used.memory_bytes / used.limit_bytes if used.limit_bytes else 0:.2f}%",
        "MemUsage": f"{binary_size(used.memory_bytes)} / {binary_size(used.limit_bytes)}",
        "Name": row["container"],
        "NetIO": f"{decimal_size(used.received_bytes)} / {decimal_size(used.sent_bytes)}",
        "PIDs": str(used.pids),
    }
