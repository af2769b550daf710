"""Signals by name and by number (signal(7))."""

from __future__ import annotations

import signal

from orchestrator.errors import InputError


def signal_number(text: str) -> int:
    """``9``, ``KILL``, ``SIGKILL``, ``SIGRTMIN+3``; ``0`` asks whether there is somebody. Raises InputError."""
    word = text.upper().removeprefix("SIG")
    if word.isdigit():
        if int(word) < signal.NSIG:
            return int(word)
        raise InputError(f"unknown signal {text!r}")
    sign = "+" if "+" in word else "-"
    base, sign, offset = word.partition(sign)
    base = {"CLD": "CHLD", "IOT": "ABRT", "POLL": "IO"}.get(base, base)
    found = getattr(signal, f"SIG{base}", None)
    if not isinstance(found, signal.Signals) or (sign and (not base.startswith("RT") or not offset.isdigit())):
        raise InputError(f"unknown signal {text!r}", hint="a number, or a name as SIGTERM or TERM")
    number = int(found) + (int(offset) if sign == "+" else -int(offset) if sign else 0)
    if not 0 < number < signal.NSIG:
        raise InputError(f"unknown signal {text!r}")
    return number
