"""A failed container, explained: why, what its last probe said, and what it last wrote."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.cli.render.board import Row
from orchestrator.cli.render.escape import escape_line, escape_text
from orchestrator.values import frozen

LOG_LINES = 10


@frozen
class FailureReport:
    """`reason`: the event's sentence, which names the container for people. `log`: its last lines, already decoded."""

    reason: str
    service: str = ""
    container: str = ""
    out_of_memory: bool = False
    probe_output: str = ""
    log: tuple[str, ...] = ()


def report_of(row: Row, log: Iterable[str]) -> FailureReport:
    """The report of a row with a failure."""
    assert row.failure is not None
    detail = row.failure.detail
    return FailureReport(
        row.failure.text or f"{row.service} failed",
        row.service,
        row.container or "",
        bool(detail.get("oom")),
        str(detail.get("probe_output") or row.probe_output or ""),
        tuple(log),
    )


def describe(report: FailureReport) -> list[str]:
    """The report as lines for a terminal: escaped here. Nothing is left of one that has no more than its reason, which its
    event and the command's own error have said."""
    details = []
    if report.out_of_memory:
        details.append("  out of memory: raise its mem_limit, or let it use less")
    if report.probe_output.strip():
        details.append("  its last probe said:")
        details += [f"    | {line}" for line in escape_text(report.probe_output.strip()).split("\n")[-LOG_LINES:]]
    if report.log:
        details.append("  the last lines of its log:")
        details += [f"    | {escape_line(line)}" for line in report.log]
    return [escape_line(report.reason), *details] if details else []
