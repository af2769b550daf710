"""When a burst of events is over. Pure: instants come as arguments (time.monotonic()).

A change alone is dealt with in a moment: an editor's save is several events. Where many come, it is waited until no more
come: a checkout of ten thousand files is a few looks, and one restart.
"""

from __future__ import annotations

STORM = 300
"""Paths that make a burst one."""
_CALM_S, _MOST_S = 0.01, 0.06
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
        self._few, self._many = Calm(_CALM_S, _MOST_S), Calm(_STORM_CALM_S, _STORM_MOST_S)

    @property
    def due_s(self) -> float | None:
        return (self._many if len(self._paths) >= STORM else self._few).due_s

    def came(self, paths: set[str], now_s: float) -> None:
        self._paths |= paths
        for calm in (self._few, self._many):
            calm.came(now_s)

    def take(self, now_s: float) -> set[str]:
        """The paths, if it is time."""
        if self.due_s is None or now_s < self.due_s:
            return set()
        taken, self._paths = self._paths, set()
        for calm in (self._few, self._many):
            calm.clear()
        return taken
