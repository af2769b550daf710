"""Pieces of output put together to lines.

What comes out are blocks: as many whole lines as were written at once, so that nobody has to look at each line who only
passes it on.
"""

from __future__ import annotations

from orchestrator.values import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterable, Iterator

    Block = tuple[float, str, bytes]
    """When the first byte of its first line was read (seconds since the epoch), the stream, and whole lines with their
    newlines; or one that goes on in the stream's next block, because it is too long; or b"": it does not go on, the program
    ended without a newline."""
else:
    from _collections import deque  # The module around it takes longer to import than `logs` to read a log.

LONGEST_LINE = 1 << 20
"""A line that is longer is given in pieces: no output may fill the reader's memory."""


@frozen
class LogEntry:
    """One line. `time`: seconds since the epoch at which its first byte was read. `line`: without the newline; `ended`
    False: there was none (yet): the program ended or the line is too long."""

    time: float
    stream: str
    line: bytes
    ended: bool = True


class Lines:
    """Puts the pieces of each stream together to lines."""

    def __init__(self) -> None:
        self._begun: dict[str, tuple[float, list[bytes], int]] = {}
        self._open: dict[str, float] = {}
        """Streams whose last block had no newline."""

    def feed(self, stream: str, time: float, data: bytes) -> Iterator[Block]:
        cut = data.rfind(b"\n") + 1
        if cut:
            first = 0
            self._open.pop(stream, None)
            if stream in self._begun:
                began, before, _ = self._begun.pop(stream)
                first = data.find(b"\n") + 1
                yield began, stream, b"".join([*before, data[:first]])
            if first < cut:
                yield time, stream, data if cut - first == len(data) else data[first:cut]
            data = data[cut:]
        if data:
            began, before, length = self._begun.pop(stream, (time, [], 0))
            before.append(data)
            if length + len(data) >= LONGEST_LINE:
                self._open[stream] = began
                yield began, stream, b"".join(before)
            else:
                self._begun[stream] = began, before, length + len(data)

    def finish(self) -> Iterator[Block]:
        """What has no newline, which does not go on."""
        begun, self._begun = self._begun, {}
        unended, self._open = self._open, {}
        for stream, (time, pieces, _) in sorted(begun.items(), key=lambda item: item[1][0]):
            unended[stream] = time
            yield time, stream, b"".join(pieces)
        for stream, time in unended.items():
            yield time, stream, b""


def entries_of(blocks: Iterable[Block]) -> Iterator[LogEntry]:
    """The blocks' lines, each by itself."""
    for time, stream, data in blocks:
        *whole, rest = data.split(b"\n")
        for line in whole:
            yield LogEntry(time, stream, line)
        if rest:
            yield LogEntry(time, stream, rest, ended=False)


def lines_in(data: bytes) -> int:
    """How many lines a block has."""
    return data.count(b"\n") + (data[-1:] not in (b"\n", b""))


def last(blocks: Iterable[Block], count: int) -> Iterator[Block]:
    """Those with the last `count` lines."""
    kept: deque[tuple[Block, int]] = deque()
    total = 0
    for block in blocks:
        kept.append((block, lines_in(block[2])))
        total += kept[-1][1]
        while kept and total - kept[0][1] >= count:
            total -= kept.popleft()[1]
    surplus = max(0, total - count)  # Of the first block, only the end is shown.
    for (time, stream, data), _ in kept:
        yield time, stream, data.split(b"\n", surplus)[surplus]
        surplus = 0
