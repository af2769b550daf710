"""How far the parts of an image are: what `up` says of one on its board, and `pull` and the like in blocks of lines."""

from __future__ import annotations

from collections import deque

from orchestrator.contracts.events import Event
from orchestrator.contracts.images import Transfer
from orchestrator.values import entity, field

_OVER = frozenset({"done", "shared", "cached", "failed"})
_TAIL_LINES = 6
_RATE_OVER_S = 2.0
_STEP_S = 0.1
"""Instants that are closer to each other count as one."""


def transfer_of(event: Event) -> Transfer:
    """What an ``image.progress`` tells."""
    detail = event.detail
    total = detail.get("total_bytes")
    return Transfer(
        str(detail.get("part", "")),
        str(detail.get("action", "")),
        int(str(detail.get("done_bytes") or 0)),
        int(str(total)) if total is not None else None,
        event.text,
    )


def size_text(number: float) -> str:
    """``12.3 MB``: powers of 1000, as registries and disks have them."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


@entity
class Part:
    """`lines`: the last ones that a build step wrote. `began_s`: when what is done with it now was begun. `told_s`: kept by
    who tells of it now and then."""

    action: str = "waiting"
    done_bytes: int = 0
    total_bytes: int | None = None
    began_s: float = 0.0
    told_s: float = float("-inf")
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL_LINES))

    @property
    def over(self) -> bool:
        return self.action in _OVER

    def text(self, now_s: float) -> str:
        """``pulling 4.1 of 10.0 MB``; ``building 3 s``."""
        if self.action == "building":
            passed_s = int(now_s - self.began_s)
            return f"{self.action} {passed_s} s" if passed_s else self.action
        if self.over or not (self.done_bytes or self.total_bytes):
            return self.action
        return f"{self.action} {amount(self.done_bytes, self.total_bytes)}"


def amount(done: int, total: int | None) -> str:
    """``4.1 of 10.0 MB``."""
    if not total:
        return size_text(done)
    number, unit = size_text(done).split()
    whole = size_text(total)
    return f"{number} of {whole}" if whole.endswith(f" {unit}") else f"{number} {unit} of {whole}"


class Parts:
    """All parts of one image. Of one that is over, only that it is; so thousands of them cost little. Instants are the
    caller's clock, in seconds."""

    def __init__(self) -> None:
        self.moving: dict[str, Part] = {}
        self.sentence = ""
        self._over: dict[str, str] = {}
        self._moved = 0
        self._at: deque[tuple[float, int]] = deque()

    def take(self, news: str | Transfer, now_s: float) -> bool:
        """Whether something else is done with a part now."""
        if isinstance(news, str):
            self.sentence = news
            return True
        before = self._over.get(news.part)
        if news.action in _OVER:
            if (part := self.moving.pop(news.part, None)) is not None and news.action == "done":
                self._note(max(0, news.done_bytes - part.done_bytes), now_s)
            self._over[news.part] = news.action
            return before is None
        self._over.pop(news.part, None)
        part = self.moving.setdefault(news.part, Part(action=""))
        if news.text:
            part.lines.append(news.text)
        changed = part.action != news.action
        if changed:
            part.began_s = now_s
        else:
            self._note(max(0, news.done_bytes - part.done_bytes), now_s)
        part.action, part.done_bytes, part.total_bytes = news.action, news.done_bytes, news.total_bytes
        return changed

    def _note(self, moved: int, now_s: float) -> None:
        if not moved:
            return
        if not self._at:
            self._at.append((now_s, self._moved))
        self._moved += moved
        if len(self._at) > 1 and now_s - self._at[-2][0] < _STEP_S:
            self._at.pop()
        self._at.append((now_s, self._moved))

    def words(self, now_s: float) -> str:
        """All of it in a line: ``pulling 12.3 of 40.1 MB, 8.2 MB/s, 3 of 6 done``."""
        moving = list(self.moving.values())
        if not moving:
            over = list(self._over.values())
            failed = over.count("failed")
            counted = f"{len(over) - failed} of {len(over)} done" + (f", {failed} failed" if failed else "")
            return counted if over else self.sentence
        begun = [part for part in moving if part.action != "waiting"] or moving
        action = begun[0].action
        same = [part for part in begun if part.action == action]
        done, total = sum(part.done_bytes for part in same), sum(part.total_bytes or 0 for part in same)
        said = [f"{action} {amount(done, total)}" if done or total else action]
        if rate := self.rate(now_s):
            said.append(f"{size_text(rate)}/s")
        count = len(self._over) + len(moving)
        if count > 1:
            said.append(f"{len(self._over)} of {count} done")
        return ", ".join(said)

    def rate(self, now_s: float) -> float:
        """Bytes a second, lately; 0.0 when nothing moves any more."""
        while self._at and self._at[0][0] < now_s - _RATE_OVER_S:
            self._at.popleft()
        if not self._at or now_s - self._at[0][0] < _STEP_S:
            return 0.0
        return (self._moved - self._at[0][1]) / (now_s - self._at[0][0])


def moved_text(news: Transfer, changed: bool) -> str:
    """``a3ed95caeb02: pulling 10.0 MB``: the line for it where nothing is redrawn; "" for none. That a build step is being
    carried out needs none: its instruction was told."""
    if news.text:
        return f"{news.part}: {news.text}"
    if not changed or news.action in ("waiting", "building"):
        return ""
    size = f" {size_text(news.total_bytes)}" if news.total_bytes and news.action not in _OVER else ""
    return f"{news.part}: {news.action}{size}"
