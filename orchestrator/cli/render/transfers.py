"""What moves while images are pulled, pushed, built or loaded: for `pull`, `build` and the like, which have no supervisor.

    live    a block an image: what moves, how far, how fast; the last lines of a build step, folded once it succeeded
    plain   a line when something else is done with a part, and a build step's lines
    json    {"image": NAME, "part": ..., "action": ..., "done_bytes": ..., "total_bytes": ..., "text": ...} a line
    quiet   nothing

All of it goes to stderr. `Parts` is also what the board of `up` says of an image.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable

from orchestrator.cli.render.escape import escape_line
from orchestrator.cli.terminal import Terminal
from orchestrator.contracts.images import Progress, Transfer
from orchestrator.values import entity, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

_OVER = frozenset({"done", "shared", "cached", "failed"})
_BAR_CELLS = 24
_INTERVAL_S = 0.1
_TAIL_LINES = 6
_RATE_OVER_S = 2.0


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


class Transfers:
    """The images of one command. `of(name)` is the progress of one; `close` leaves the last state on the screen."""

    def __init__(self, terminal: Terminal) -> None:
        self._kind = terminal.progress
        self._terminal = terminal
        self._images: dict[str, Parts] = {}
        self._live: Live | None = None
        self._drawn_s = 0.0

    def of(self, name: str) -> Progress:
        parts = self._images.setdefault(name, Parts())
        take: dict[str, Callable[[str, Parts, str | Transfer], None]] = {
            "live": self._redraw, "json": self._json, "quiet": lambda *_: None,
        }  # fmt: skip
        return lambda news: take.get(self._kind, self._line)(name, parts, news)

    def note(self, text: str) -> None:
        """A line about the command itself, above what moves."""
        if self._kind == "json":
            print(json.dumps({"note": text}), file=sys.stderr, flush=True)
        elif self._live is not None:
            self._live.console.print(escape_line(text), markup=False, highlight=False, soft_wrap=True)
        elif self._kind != "quiet":
            print(escape_line(text), file=sys.stderr, flush=True)

    def close(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.update(self._region(live.console.width), refresh=True)
            live.stop()

    def _line(self, name: str, parts: Parts, news: str | Transfer) -> None:
        changed = parts.take(news, time.monotonic())
        if isinstance(news, str):
            self.note(news if name in news else f"{name}: {news}")
        elif news.text:
            self.note(f"{name}: {news.part}: {news.text}")
        elif changed and news.action != "waiting":
            size = f" {size_text(news.total_bytes)}" if news.total_bytes and not parts.parts[news.part].over else ""
            self.note(f"{name}: {news.part}: {news.action}{size}")

    def _json(self, name: str, parts: Parts, news: str | Transfer) -> None:
        now_s = time.monotonic()
        changed = parts.take(news, now_s)
        if isinstance(news, str):
            value: dict[str, object] = {"image": name, "text": news}
        elif changed or news.text or now_s - self._drawn_s >= _INTERVAL_S:
            self._drawn_s = now_s
            value = {"image": name, "part": news.part, "action": news.action, "done_bytes": news.done_bytes}
            value |= {"total_bytes": news.total_bytes, "text": news.text}
        else:
            return
        print(json.dumps(value), file=sys.stderr, flush=True)

    def _redraw(self, name: str, parts: Parts, news: str | Transfer) -> None:
        now_s = time.monotonic()
        parts.take(news, now_s)
        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            colour = self._terminal.colour_err
            console = Console(
                file=sys.stderr, force_terminal=True, color_system="standard" if colour else None, no_color=not colour
            )
            self._live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
            self._live.start()
        if now_s - self._drawn_s >= _INTERVAL_S:
            self._drawn_s = now_s
            self._live.update(self._region(self._live.console.width), refresh=True)

    def _region(self, columns: int) -> Text:
        from rich.text import Text

        lines: list[Text] = []
        for name, parts in self._images.items():
            lines.append(Text.assemble((escape_line(name), "bold"), "  ", escape_line(parts.words())))
            for label, part in parts.parts.items():
                if not part.over:
                    lines.append(Text.assemble("  ", escape_line(label), "  ", (self._bar(part), "cyan"), part.text()))
                    lines += [Text(f"    {escape_line(line)}", style="dim") for line in part.lines]
        for line in lines:
            line.truncate(columns - 1, overflow="ellipsis" if self._terminal.unicode else "crop")
        return Text("\n", no_wrap=True, overflow="crop").join(lines)

    def _bar(self, part: Part) -> str:
        if not part.total_bytes:
            return ""
        full = min(_BAR_CELLS, _BAR_CELLS * part.done_bytes // part.total_bytes)
        on, off = ("█", "░") if self._terminal.unicode else ("#", ".")
        return on * full + off * (_BAR_CELLS - full) + "  "
