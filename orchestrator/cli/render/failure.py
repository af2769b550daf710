"""A failed service, explained: how it ended, what its last probe said, what it last wrote, and whom it blocks."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from orchestrator.cli.render.board import Row, about
from orchestrator.cli.render.escape import escape_line, escape_text

LOG_LINES = 10


@dataclass(frozen=True, slots=True)
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
    return FailureReport(
        row.service,
        about(row.failure).removeprefix("failed: ") or "failed",
        exit_text(detail),
        str(detail.get("probe_output") or row.probe_output or ""),
        tuple(log),
        tuple(blocked) if isinstance(blocked, tuple) else (),
    )


def exit_text(detail: Mapping[str, object]) -> str:
    """``exited with code 1``, ``killed by signal 9 (SIGKILL)``, ``killed by the kernel: out of memory``."""
    if detail.get("oom"):
        return "killed by the kernel: out of memory (raise mem_limit, or use less)"
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


def describe(report: FailureReport) -> list[str]:
    """The report as lines for a terminal: escaped here."""
    lines = [f"{escape_line(report.service)} failed: {escape_line(report.reason)}"]
    if report.exit and report.exit.split(" (")[0] not in report.reason:
        lines.append(f"  it {_was(report.exit)}")
    if report.probe_output.strip():
        lines.append("  its last probe said:")
        lines += [f"    | {line}" for line in escape_text(report.probe_output.strip()).split("\n")[-LOG_LINES:]]
    if report.log:
        lines.append("  the last lines of its log:")
        lines += [f"    | {escape_line(line)}" for line in report.log]
    if report.blocks:
        lines.append(f"  not started because of it: {escape_line(', '.join(report.blocks))}")
    return lines


def _was(text: str) -> str:
    return f"was {text}" if text.startswith("killed") else text
