"""Log lines on their way to stdout. They bypass rich: a stack writes many."""

from __future__ import annotations

import sys

from orchestrator.cli.render.escape import escape_line, escape_log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
_MAX_PREFIX = 32


class LogPrinter:
    """Writes ``service | line``, aligned and coloured by service.

    `raw`: lines are written as they came. Otherwise they are escaped. `prefix`: with the service's name;
    `timestamps`: RFC 3339 in UTC, to the microsecond.
    """

    def __init__(
        self,
        services: Iterable[str],
        *,
        colour: bool = False,
        raw: bool = False,
        prefix: bool = True,
        timestamps: bool = False,
    ) -> None:
        self._raw = raw
        self._timestamps = timestamps
        self._prefix = prefix
        self._colour = colour
        self._prefixes: dict[str, bytes] = {}
        self._width = 0
        self.add(services)

    def add(self, services: Iterable[str]) -> None:
        """Services that may write; all prefixes are then as wide as the longest."""
        names = list(dict.fromkeys([*self._prefixes, *services]))
        if len(names) == len(self._prefixes):
            return
        self._width = max((min(len(name), _MAX_PREFIX) for name in names), default=0)
        self._prefixes = {name: self._make_prefix(name, number) for number, name in enumerate(names)}

    def line(self, service: str, time: float, line: bytes) -> bytes:
        """One line, ready to be written, with its newline. `time`: epoch seconds."""
        if service not in self._prefixes:
            self.add([service])
        head = self._prefixes[service] if self._prefix else b""
        if self._timestamps:
            head += timestamp(time).encode() + b" "
        body = line if self._raw else escape_log(line).encode("utf-8", "replace")
        return head + body + b"\n"

    def write(self, data: bytes | bytearray) -> None:
        """To stdout at once. Raises BrokenPipeError."""
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def note(self, service: str, text: str) -> str:
        """A line about a service that is not the service's own: ``service * text``."""
        if service not in self._prefixes:
            self.add([service])
        return f"{escape_line(service).ljust(self._width)} * {escape_line(text)}"

    def _make_prefix(self, name: str, number: int) -> bytes:
        text = f"{escape_line(name).ljust(self._width)} | "
        if self._colour:
            text = f"\x1b[{_COLOURS[number % len(_COLOURS)]}m{text}\x1b[0m"
        return text.encode()


def timestamp(time: float) -> str:
    """RFC 3339 in UTC, to the microsecond. `time`: epoch seconds."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
