"""Log lines on their way to stdout and stderr. They bypass rich: a stack writes many."""

from __future__ import annotations

import sys

from orchestrator.cli.render.escape import escape_line, escape_log
from orchestrator.values import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchestrator.cli.terminal import Terminal
    from orchestrator.model.names import ContainerId

_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
_MAX_LABEL = 32


@frozen
class Look:
    """How lines look on one of the two outputs. `raw`: as they came; otherwise they are escaped."""

    colour: bool = False
    raw: bool = False


_PLAIN = Look()


class LogPrinter:
    """Writes ``web-1  | line``, aligned and coloured by container; what a container writes to stderr goes to stderr.

    `prefix`: with the container's label; `timestamps`: RFC 3339 in UTC, to the microsecond. `before_writing` is called each
    time before lines are written: who else uses the terminal makes room.
    """

    def __init__(self, out: Look = _PLAIN, err: Look = _PLAIN, *, prefix: bool = True, timestamps: bool = False) -> None:
        self._looks = {"stdout": out, "stderr": err}
        self._timestamps = timestamps
        self._prefix = prefix
        self._labels: dict[ContainerId, str] = {}
        self._heads: dict[tuple[str, str], bytes] = {}
        self._open: dict[str, str] = {}
        """By stream: whose line has no end yet; "": somebody's, which will have none."""
        self._width = 0
        self.before_writing: Callable[[], None] | None = None

    def add(self, labels: Mapping[ContainerId, str]) -> None:
        """Containers that may write, and what stands before their lines; all prefixes are then as wide as the longest."""
        self._labels.update(labels)
        self._width = max((min(len(label), _MAX_LABEL) for label in self._labels.values()), default=0)
        self._heads.clear()

    @property
    def exact(self) -> bool:
        """Whether what comes out is what the container wrote, to the byte."""
        return all(map(self._is_exact, self._looks))

    def _is_exact(self, stream: str) -> bool:
        return not self._prefix and not self._timestamps and self._looks[stream].raw

    def block(self, container: ContainerId, time: float, stream: str, data: bytes) -> bytes:
        """What `Follower` gives (`runtime.loglines`), ready to be written. `time`: epoch seconds. A line without a newline
        gets one; of exact output only when something else follows."""
        look, unended = self._looks[stream], self._open.get(stream)
        if not data:
            return self._end_line(container, stream)
        head = self._head(container, stream, look) if self._prefix else b""
        if self._timestamps:
            head += timestamp(time).encode() + b" "
        begin = head
        if unended is not None:
            begin = b"" if unended == container else b"\n" + head
            del self._open[stream]
        if not look.raw and not (data.isascii() and data.decode().replace("\n", "").isprintable()):
            data = b"\n".join(escape_log(line).encode("utf-8", "replace") for line in data.split(b"\n"))
        if not data.endswith(b"\n"):
            self._open[stream] = container
        if not head:
            return begin + data if begin else data
        text = data.replace(b"\n", b"\n" + head)
        # Not the head after the last newline; without copying it all once more.
        return b"".join((begin, memoryview(text)[: -len(head)] if data.endswith(b"\n") else text))

    def _end_line(self, container: ContainerId, stream: str) -> bytes:
        """The container's line has no newline, and does not go on."""
        if self._open.get(stream) != container:
            return b""
        if self._is_exact(stream):
            self._open[stream] = ""
            return b""
        del self._open[stream]
        return b"\n"

    def write(self, stream: str, data: bytes) -> None:
        """To stdout or stderr, at once. Raises BrokenPipeError."""
        if self.before_writing is not None:
            self.before_writing()
        target = sys.stderr if stream == "stderr" else sys.stdout
        target.flush()
        target.buffer.write(data)
        target.buffer.flush()

    def lost(self, container: ContainerId, count: int, why: str) -> str:
        """A line about output that cannot be shown."""
        from orchestrator.units import format_bytes

        label = escape_line(self._labels.get(container, container))
        return f"{format_bytes(count)} that {label} wrote are missing here: {why}"

    def note(self, container: ContainerId, text: str) -> str:
        """A line about a container that is not the container's own, as Compose words it: ``web-1 exited with code 1``."""
        return f"{escape_line(self._labels.get(container, container))} {escape_line(text)}"

    def _head(self, container: ContainerId, stream: str, look: Look) -> bytes:
        head = self._heads.get((container, stream))
        if head is None:
            if container not in self._labels:
                self.add({container: container})
            head = self._heads[container, stream] = self._make_head(container, look)
        return head

    def _make_head(self, container: ContainerId, look: Look) -> bytes:
        text = f"{escape_line(self._labels[container]).ljust(self._width)}  | "
        if look.colour:
            number = list(self._labels).index(container)
            text = f"\x1b[{_COLOURS[number % len(_COLOURS)]}m{text}\x1b[0m"
        return text.encode()


def printer_for(
    terminal: Terminal, *, colour: bool = True, raw: bool = False, prefix: bool = True, timestamps: bool = False
) -> LogPrinter:
    """One that suits the terminal: lines are escaped and coloured only where there is one, but for `raw` and `colour`."""
    out = Look(colour and terminal.colour_out, raw or not terminal.stdout_tty)
    err = Look(colour and terminal.colour_err, raw or not terminal.stderr_tty)
    return LogPrinter(out, err, prefix=prefix, timestamps=timestamps)


_seconds: dict[int, str] = {}
"""The text of the last second: lines come in the order of time, and the calendar costs more than a line."""


def timestamp(time: float) -> str:
    """RFC 3339 in UTC, to the microsecond. `time`: epoch seconds."""
    second, micros = divmod(round(time * 1_000_000), 1_000_000)
    text = _seconds.get(second)
    if text is None:
        from time import gmtime, strftime

        _seconds.clear()
        text = _seconds[second] = strftime("%Y-%m-%dT%H:%M:%S", gmtime(second))
    return f"{text}.{micros:06d}Z"
