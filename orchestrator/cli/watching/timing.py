"""When a burst of events is over. Pure: instants come as arguments (time.monotonic()).

A change alone is dealt with at once (watchfiles has waited a moment already). Where many come, it is waited until no more
come: a checkout of ten thousand files is a few looks, and one restart.
"""

from __future__ import annotations

STORM = 300
"""Paths that make a burst one."""
_STORM_CALM_S, _STORM_MOST_S = 0.15, 1.0
_ACTION_CALM_S, _ACTION_MOST_S = 0.25, 2.0


class Calm:
    """`due_s`: when nothing has come for `calm_s`, at the latest `most_s` after the first; None while nothing has come."""

    def __init__(self, calm_s: float = _ACTION_CALM_S, most_s: float = _ACTION_MOST_S) -> None:
        self._calm_s, self._most_s = calm_s, most_s
        self._first_s: float | None = None
        self.due_s: float | None = None

    def came(self, now_s: float) -> None:
        if self._first_s is None:
            self._first_s = now_s
        self.due_s = min(now_s + self._calm_s, self._first_s + self._most_s)

    def over(self, now_s: float) -> bool:
        return self.due_s is not None and now_s >= self.due_s

    def clear(self) -> None:
        self._first_s = self.due_s = None


class Burst:
    """Paths that something happened to, until they are looked at."""

    def __init__(self) -> None:
        self._paths: set[str] = set()
        self._calm = Calm(_STORM_CALM_S, _STORM_MOST_S)
        self.due_s: float | None = None

    def came(self, paths: set[str], now_s: float) -> None:
        self._paths |= paths
        self._calm.came(now_s)
        self.due_s = self._calm.due_s if len(self._paths) >= STORM else now_s

    def take(self, now_s: float) -> tuple[set[str], bool]:
        """(the paths, if it is time; whether it was a storm, in which the kernel may have dropped some)."""
        if self.due_s is None or now_s < self.due_s:
            return set(), False
        taken, self._paths = self._paths, set()
        self._calm.clear()
        self.due_s = None
        return taken, len(taken) >= STORM
