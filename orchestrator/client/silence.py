"""A supervisor that does not answer: what it is doing instead, and what the user can do."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.client.messages import Unanswered
from orchestrator.contracts.site import Site
from orchestrator.kernel.plain import opener

_STATES: Mapping[str, tuple[str, str]] = {
    "T": ("it is stopped (state T)", "`kill -CONT {pid}` lets it go on"),
    "t": ("a debugger holds it (state t)", "end the debugger"),
    "D": ("it waits for a disk or a file server (state D)", "look at what {data} is on"),
    "R": ("it is at work on something else (state R)", "wait"),
}
_OTHER = ("it is alive (state {state})", "wait")
"""The states of proc_pid_stat(5): what it is doing, and the gentle way out."""


def unanswered(site: Site, pid: int | None) -> Unanswered:
    """`pid`: the supervisor's, None when not even a connection came about."""
    pid = pid or _holder(site)
    state = _state(pid) if pid is not None else None
    if pid is None or state is None:
        return Unanswered(f"the supervisor of project {site.project} does not answer", hint="run the command again")
    doing, gentle = (text.format(pid=pid, data=site.data_dir, state=state) for text in _STATES.get(state, _OTHER))
    return Unanswered(
        f"the supervisor of project {site.project} (process {pid}) does not answer: {doing}",
        hint=f"{gentle}; `kill -9 {pid}` ends it: its containers go on, and the next command starts another, which takes "
        "them over",
    )


def _state(pid: int) -> str | None:
    """The letter of its state; None when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # The name before it is in parentheses and may hold anything.
            return file.read().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return None


def _holder(site: Site) -> int | None:
    """Who holds the project's lock, as it wrote there itself (`state.lock`)."""
    try:
        with open(f"{site.data_dir}/lock", encoding="utf-8", errors="replace", opener=opener) as file:
            text = file.read(32).strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None
