"""How far the parts of an image are: what `up` says of one on its board, and `pull` and the like in blocks of lines."""

from __future__ import annotations

from collections import deque

from orchestrator.contracts.events import Event
from orchestrator.contracts.images import Transfer
from orchestrator.values import entity, field

_OVER = frozenset({"done", "shared", "cached", "failed"})
_TAIL_LINES = 6
_RATE_OVER_S = 2.0


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
    """`lines`: the last ones that a build step wrote."""

    action: str = "waiting"
    done_bytes: int = 0
    total_bytes: int | None = None
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL_LINES))

    @property
    def over(self) -> bool:
        return self.action in _OVER

    def text(self) -> str:
        """``pulling 4.1 of 10.0 MB``."""
        if self.over or not (self.done_bytes or self.total_bytes):
            return self.action
        if self.total_bytes is None:
            return f"{self.action} {size_text(self.done_bytes)}"
        return f"{self.action} {size_text(self.done_bytes)} of {size_text(self.total_bytes)}"


class Parts:
    """All parts of one image. Instants are the caller's clock, in seconds."""

    def __init__(self) -> None:
        self.parts: dict[str, Part] = {}
        self.sentence = ""
        self._moved = 0
        self._at: deque[tuple[float, int]] = deque()

    def take(self, news: str | Transfer, now_s: float) -> bool:
        """Whether something else is done with a part now."""
        if isinstance(news, str):
            self.sentence = news
            return True
        part = self.parts.setdefault(news.part, Part(action=""))
        if news.text:
            part.lines.append(news.text)
        changed = part.action != news.action
        if not changed:
            self._moved += max(0, news.done_bytes - part.done_bytes)
        part.action, part.done_bytes, part.total_bytes = news.action, news.done_bytes, news.total_bytes
        self._at.append((now_s, self._moved))
        while self._at[0][0] < now_s - _RATE_OVER_S and len(self._at) > 2:
            self._at.popleft()
        return changed

    def words(self) -> str:
        """All of it in a line: ``pulling 12.3 of 40.1 MB, 8.2 MB/s, 3 of 6 done``."""
        moving = [part for part in self.parts.values() if not part.over]
        if not moving:
            return self.sentence
        action = moving[0].action
        same = [part for part in moving if part.action == action]
        done, total = sum(part.done_bytes for part in same), sum(part.total_bytes or 0 for part in same)
        said = [action + (f" {size_text(done)} of {size_text(total)}" if total else f" {size_text(done)}" if done else "")]
        if rate := self.rate():
            said.append(f"{size_text(rate)}/s")
        if (over := len(self.parts) - len(moving)) or len(moving) > 1:
            said.append(f"{over} of {len(self.parts)} done")
        return ", ".join(said)

    def rate(self) -> float:
        """Bytes a second, lately."""
        if len(self._at) < 2 or self._at[-1][0] <= self._at[0][0]:
            return 0.0
        return (self._at[-1][1] - self._at[0][1]) / (self._at[-1][0] - self._at[0][0])


def moved_text(news: Transfer, changed: bool) -> str:
    """``a3ed95caeb02: pulling 10.0 MB``: the line for it where nothing is redrawn; "" for none."""
    if news.text:
        return f"{news.part}: {news.text}"
    if not changed or news.action == "waiting":
        return ""
    size = f" {size_text(news.total_bytes)}" if news.total_bytes and news.action not in _OVER else ""
    return f"{news.part}: {news.action}{size}"
