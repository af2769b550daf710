"""Instants as users write them: ``42m`` (ago), ``2026-05-04T12:00:00Z``, or seconds since the epoch."""

from __future__ import annotations

import re
from datetime import datetime

from orchestrator.errors import InputError
from orchestrator.units import parse_duration

_EPOCH = re.compile(r"[0-9]{9,}(?:\.[0-9]+)?")


def parse_instant(text: str, now: float) -> float:
    """Epoch seconds. A date without a zone is local time. Raises InputError."""
    if _EPOCH.fullmatch(text):
        return float(text)
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        pass
    try:
        return now - parse_duration(text)
    except ValueError:
        raise InputError(
            f'"{text}" is not a time', hint="write how long ago (42m, 1h30m), or a date such as 2026-05-04T12:00:00Z"
        ) from None
