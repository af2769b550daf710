"""How a run ended, in words."""

from __future__ import annotations

from typing import Protocol

from orchestrator.units import format_duration, signal_name


class ExitView(Protocol):
    """What the policies look at; ``contracts.runtime.Exit`` has this shape. Neither code nor signal: status lost."""

    @property
    def code(self) -> int | None: ...

    @property
    def signal(self) -> int | None: ...

    @property
    def oom_killed(self) -> bool: ...

    @property
    def oom_kills(self) -> int: ...


def succeeded(exit: ExitView) -> bool:
    """Ended by itself with code 0."""
    return exit.code == 0


def describe_exit(exit: ExitView) -> str:
    """``exited with code 1``, ``was killed by SIGSEGV``, ``ran out of memory and was killed``; beside the others, of how
    many of its processes the last is true."""
    if exit.oom_killed:
        return "ran out of memory and was killed"
    if exit.code is not None:
        text = f"exited with code {exit.code}"
    elif exit.signal is not None:
        text = f"was killed by {signal_name(exit.signal)}"
    else:
        text = "ended while nobody watched (exit status lost)"
    return text + oom_text(exit.oom_kills)


def oom_text(kills: int) -> str:
    """`` (before, the kernel killed 2 of its processes for want of memory)``, or ""."""
    return f" (before, the kernel killed {kills} of its processes for want of memory)" if kills else ""


def lingering_text(left_s: float, number: int, ignored: bool, process: str, pid: int) -> str:
    """``ignores SIGTERM; killed in 8s; its PID 1 is sh``: of a run that has not ended yet after the signal `number`.
    `ignored`: by its first process, which is `pid` in its own namespace."""
    how = f"ignores {signal_name(number)}" if ignored else f"has not ended yet after {signal_name(number)}"
    whose = "its PID 1" if pid == 1 else "its first process"
    return f"{how}; killed in {format_duration(round(left_s))}; {whose} is {process}"
