"""What a fake container has for programs and shows of itself (`fake_runtime`), in virtual time."""

from __future__ import annotations

import select
from collections.abc import Sequence

import trio

from orchestrator.errors import EXIT_NOT_FOUND
from orchestrator.model.health import Look, ProbeResult
from orchestrator.model.names import ContainerId
from orchestrator.values import frozen

COMMANDS = frozenset({"exit", "hang", "missing"})
"""Those of `run_command` that probes may be; any other probe asks its FakeService how it is."""


@frozen
class Act:
    """One thing that the scheduler had done, for tests of order."""

    at_s: float
    what: str
    container: ContainerId


async def look_in_time(wanted: Look, from_s: float, timeout_s: float) -> ProbeResult:
    """Of what is so from `from_s` on."""
    left_s = max(0.0, from_s - trio.current_time())
    await trio.sleep(min(left_s, timeout_s))
    return ProbeResult(0, "", left_s) if left_s <= timeout_s else ProbeResult(None, str(wanted), timeout_s)


async def run_command(argv: Sequence[str], timeout_s: float) -> ProbeResult:
    """``exit CODE OUTPUT``, ``sleep SECONDS``, ``hang``, ``missing``; anything else succeeds."""
    await trio.lowlevel.checkpoint()
    match list(argv):
        case ["exit", code, output]:
            return ProbeResult(int(code), output, 0.0)
        case ["sleep", seconds]:
            await trio.sleep(min(float(seconds), timeout_s))
            return ProbeResult(0, "", float(seconds))
        case ["hang"]:
            await trio.sleep(timeout_s)
            return ProbeResult(None, "", timeout_s)
        case ["missing"]:
            return ProbeResult(EXIT_NOT_FOUND, '"missing" was not found', 0.0)
        case _:
            return ProbeResult(0, "", 0.0)


def is_at_end(stdin: int | None) -> bool:
    """/dev/null is; a pipe is when nobody has its other end, and nothing is in it."""
    if stdin is None:
        return True
    poll = select.poll()
    poll.register(stdin, select.POLLIN)
    return any(events & select.POLLHUP and not events & select.POLLIN for _, events in poll.poll(0))
