"""How a run ended, in words."""

from __future__ import annotations

from typing import Protocol

from orchestrator.units import signal_name


class ExitView(Protocol):
    """What the policies look at; ``contracts.runtime.Exit`` has this shape. Neither code nor signal: status lost."""

    @property
    def code(self) -> int | None: ...

    @property
    def signal(self) -> int | None: ...

    @property
    def oom_killed(self) -> bool: ...


def succeeded(exit: ExitView) -> bool:
    """Ended by itself with code 0."""
    return exit.code == 0


def describe_exit(exit: ExitView) -> str:
    """``exited with code 1``, ``was killed by SIGSEGV``, ``ran out of memory and was killed``."""
    if exit.oom_killed:
        return "ran out of memory and was killed"
    if exit.code is not None:
        return f"exited with code {exit.code}"
    if exit.signal is not None:
        return f"was killed by {signal_name(exit.signal)}"
    return "ended while nobody watched (exit status lost)"
