"""A failed service, explained: how it ended, what its last probe said, what it last wrote, and whom it blocks."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping

from orchestrator.cli.render.board import Row, about
from orchestrator.cli.render.escape import escape_line, escape_text
from orchestrator.values import frozen

LOG_LINES = 10
BLOCKED = "(not started because of that: "
"""In an operation's error (`scheduler.outcome`)."""
_OOM = "killed by the kernel: out of memory"


@frozen
class FailureReport:
    """`reason`: the event's sentence. `exit`: code, signal, OOM in words, or "". `log`: its last lines, already decoded."""

    service: str
    reason: str
    exit: str = ""
    probe_output: str = ""
    log: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()


def report_of(row: Row, log: Iterable[str]) -> FailureReport:
    """The report of a row with a failure."""
    assert row.failure is not None
    detail = row.failure.detail
    blocked = detail.get("blocked")
    reason = about(row.failure)
    # One that was refused never ran: its status is only what the command will end with.
    refused = reason.startswith("failed: ")
    return FailureReport(
        row.service,
        reason.removeprefix("failed: ") or "failed",
        "" if refused else exit_text(detail),
        str(detail.get("probe_output") or row.probe_output or ""),
        tuple(log),
        tuple(blocked) if isinstance(blocked, tuple) else (),
    )


def exit_text(detail: Mapping[str, object]) -> str:
    """``exited with code 1``, ``killed by signal 9 (SIGKILL)``, ``killed by the kernel: out of memory``."""
    if detail.get("oom"):
        return _OOM
    if (number := detail.get("signal")) is not None:
        return f"killed by signal {signal_text(number)}"
    status = detail.get("exit_status")
    return "" if status is None else f"exited with code {status}"


def signal_text(number: object) -> str:
    """``9 (SIGKILL)``."""
    try:
        return f"{number} ({signal.Signals(int(str(number))).name})"
    except ValueError:
        return str(number)


def describe(report: FailureReport, error: str) -> list[str]:
    """The report as lines for a terminal: escaped here. `error`: the command's own error, which is printed after all
    reports; what it says is left to it, and nothing is left of a report that says no more."""
    details = []
    if report.exit == _OOM:
        known = "out of memory" in report.reason
        details.append("  raise its mem_limit, or let it use less" if known else f"  it was {_OOM}")
    elif report.exit and report.exit.split(" (")[0] not in report.reason:
        details.append(f"  it {_was(report.exit)}")
    if report.probe_output.strip():
        details.append("  its last probe said:")
        details += [f"    | {line}" for line in escape_text(report.probe_output.strip()).split("\n")[-LOG_LINES:]]
    if report.log:
        details.append("  the last lines of its log:")
        details += [f"    | {escape_line(line)}" for line in report.log]
    if report.blocks and BLOCKED not in error:
        details.append(f"  not started because of it: {escape_line(', '.join(report.blocks))}")
    if not details and report.reason in error:
        return []
    return [f"{escape_line(report.service)} failed: {escape_line(report.reason)}", *details]


def _was(text: str) -> str:
    return f"was {text}" if text.startswith("killed") else text
