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
from collections.abc import Callable, Iterator
from itertools import islice

from orchestrator.cli.render.escape import escape_line
from orchestrator.cli.render.transfer import Part, Parts, moved_text
from orchestrator.cli.terminal import Terminal
from orchestrator.contracts.images import Progress, Transfer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

_BAR_CELLS = 24
_INTERVAL_S = 0.1


class Transfers:
    """The images of one command. `of(name)` is the progress of one; `tick` is called every `interval_s` by who can; `close`
    leaves the last state on the screen."""

    def __init__(self, terminal: Terminal) -> None:
        self._kind = terminal.progress
        self._terminal = terminal
        self._images: dict[str, Parts] = {}
        self._live: Live | None = None
        self._drawn_s = 0.0

    @property
    def interval_s(self) -> float | None:
        return _INTERVAL_S if self._kind == "live" else None

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

    def step(self, text: str) -> None:
        """A line as `render.steps` has them, where there are lines alone."""
        if self._kind == "plain":
            self.note(text)

    def tick(self) -> None:
        """Time has passed."""
        if self._live is not None:
            self._drawn_s = time.monotonic()
            size = self._live.console.size
            self._live.update(self._region(self._drawn_s, size.width, size.height), refresh=True)

    def close(self) -> None:
        if (live := self._live) is not None:
            try:
                self.tick()
            finally:  # Once: a terminal may be gone.
                self._live = None
                live.stop()

    def _line(self, name: str, parts: Parts, news: str | Transfer) -> None:
        changed = parts.take(news, time.monotonic())
        if isinstance(news, str):
            self.note(news if name in news else f"{name}: {news}")
        elif line := moved_text(news, changed):
            self.note(f"{name}: {line}")

    def _json(self, name: str, parts: Parts, news: str | Transfer) -> None:
        """Of each part what changes, and now and then how far it is."""
        now_s = time.monotonic()
        changed = parts.take(news, now_s)
        if isinstance(news, str):
            print(json.dumps({"image": name, "text": news}), file=sys.stderr, flush=True)
            return
        part = parts.moving.get(news.part)
        if not (changed or news.text or (part is not None and now_s - part.told_s >= _INTERVAL_S)):
            return
        if part is not None:
            part.told_s = now_s
        value = {"image": name, "part": news.part, "action": news.action, "done_bytes": news.done_bytes}
        value |= {"total_bytes": news.total_bytes, "text": news.text}
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
            self._live = Live(
                console=console,
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=False,
                vertical_overflow="crop",
            )
            self._live.start()
        if now_s - self._drawn_s >= _INTERVAL_S:
            self.tick()

    def _region(self, now_s: float, columns: int, height: int) -> Text:
        """At most `height` - 1 lines of `columns` - 1 cells: images first, then what room there is for their parts."""
        from rich.text import Text

        room = max(1, height - 1)
        images = list(self._images.items())
        shown = images[: room - 1] if len(images) > room else images
        left = room - len(shown) - (len(images) > len(shown))
        lines: list[Text] = []
        for name, parts in shown:
            lines.append(Text.assemble((escape_line(name), "bold"), "  ", escape_line(parts.words(now_s))))
            own = list(self._of_parts(parts, now_s, left))[:left]
            left -= len(own)
            lines += own
        if len(images) > len(shown):
            lines.append(Text(f"and {len(images) - len(shown)} more", style="dim"))
        for line in lines:
            line.truncate(columns - 1, overflow="ellipsis" if self._terminal.unicode else "crop")
        return Text("\n", no_wrap=True, overflow="crop").join(lines)

    def _of_parts(self, parts: Parts, now_s: float, most: int) -> Iterator[Text]:
        from rich.text import Text

        for label, part in islice(parts.moving.items(), most):
            yield Text.assemble("  ", escape_line(label), "  ", (self._bar(part), "cyan"), part.text(now_s))
            for line in part.lines:
                yield Text(f"    {escape_line(line)}", style="dim")

    def _bar(self, part: Part) -> str:
        if not part.total_bytes:
            return ""
        full = min(_BAR_CELLS, _BAR_CELLS * part.done_bytes // part.total_bytes)
        on, off = ("█", "░") if self._terminal.unicode else ("#", ".")
        return on * full + off * (_BAR_CELLS - full) + "  "
