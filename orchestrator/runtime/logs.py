"""Reading containers' logs, without the supervisor and without trio: the command line does this itself.

The bytes are in ``PREFIX.log``, who wrote which when in ``PREFIX.idx``; rotated pairs are ``PREFIX.log.1`` and so on, the
highest number being the oldest (docs/monitor-protocol.md, "Logs"). The index follows the bytes: what it covers is there.
A line may begin in one file and end in the next; lines of the two streams may be interleaved in pieces. No line goes on
from one run to the next.
"""

from __future__ import annotations

import os
from itertools import chain
from time import sleep
from time import time as now

from orchestrator.runtime.loglines import Lines, LogEntry, entries_of, last
from orchestrator.runtime.logpairs import Leases, Pair, file_name, files_of, identity_of, open_log, serial_of
from orchestrator.runtime.monitor.logformat import BREAK, LOST, MARKS, STDERR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from orchestrator.kernel.inotify import Inotify
    from orchestrator.runtime.loglines import Block
    from orchestrator.runtime.logpairs import Identity, Span

    OnLost = Callable[[int, str], None]
    """How many bytes are missing here, and why."""

__all__ = ["Follower", "Leases", "LogEntry", "entries_of", "follow", "read_blocks", "read_entries"]
UNWRITTEN = "they could not be written (a full disk?)"
ROTATED = "the log was rotated away before they were read"
_PIECE_BYTES = 1 << 17
_TRIES = 100
"""How often files that are being renamed are looked at again; a rotation is a few system calls."""
_SETTLING = 20
"""Milliseconds in which a writer that lives has written the record of what it has written."""


def read_blocks(
    path_prefix: str,
    tail: int | None = None,
    since: float | None = None,
    *,
    timed: bool = True,
    on_lost: OnLost | None = None,
) -> Iterator[Block]:
    """All of a log, oldest first. `tail`: only so many last lines; `since`: only those not older (epoch seconds). Not
    `timed`: nobody asks for the times, which are then those of whole passages. A log that does not exist has no lines.
    Raises HostError."""
    follower = Follower(path_prefix, tail=tail, since=since, timed=timed, on_lost=on_lost)
    try:
        if tail is None:
            yield from follower.read()
            yield from follower.finish()
        else:
            # A last line without its newline is one of the last lines.
            yield from last(chain(follower.read(), follower.finish()), tail)
    finally:
        follower.close()


def read_entries(path_prefix: str, tail: int | None = None, since: float | None = None) -> Iterator[LogEntry]:
    """As `read_blocks`, line by line."""
    return entries_of(read_blocks(path_prefix, tail, since))


class Follower:
    """Reads a log to its present end, and again when there is more. `inotify`: becomes readable when there is; several
    followers may share one. Without it, this is a plain reader. `timed`, `on_lost`: as for `read_blocks`. `leases`: shared
    with others; from now on nothing is deleted that this one has not read. `complete`: it is here from before the log's
    first byte on, so that it is a loss if that is not there."""

    def __init__(
        self,
        path_prefix: str,
        *,
        tail: int | None = None,
        since: float | None = None,
        inotify: Inotify | None = None,
        timed: bool = True,
        on_lost: OnLost | None = None,
        leases: Leases | None = None,
        complete: bool = False,
    ) -> None:
        self._prefix = path_prefix
        self._tail = tail
        self._since = since
        self._timed = timed or since is not None
        self._inotify = inotify
        self._on_lost = on_lost
        self._lines = Lines()
        self._pair: Pair | None = None
        self._finished: tuple[Identity, int] | None = None
        self._expected = 0 if complete else None
        """How many bytes are to come before the next file."""
        directory, self._name = os.path.split(path_prefix)
        self._own_leases = Leases(directory or ".") if leases is None else None
        self._leases = leases or self._own_leases
        self._hold()
        if inotify is not None:
            from orchestrator.kernel.constants import IN_CREATE, IN_MOVED_TO

            try:  # noqa: SIM105
                inotify.watch(directory or ".", IN_CREATE | IN_MOVED_TO)
            except FileNotFoundError:
                pass  # There is no folder for logs where nothing of the project was ever begun.

    def read(self) -> Iterator[Block]:
        """The lines that were completed since the last call. `tail` applies to the first call."""
        tail, self._tail = self._tail, None
        blocks = self._blocks(self._spans(tail))
        return blocks if tail is None else last(blocks, tail)

    def skip(self) -> None:
        """Pass over what is there already. Before the first `read` or `pieces`."""
        try:
            self._pair = Pair(self._prefix, 0)
        except FileNotFoundError:
            return
        self._hold(self._pair.serial)
        self._watch_index()
        self._pair.skip_all()

    def finish(self) -> Iterator[Block]:
        """What there is yet, also without a newline, when nothing more will come."""
        yield from self._blocks(self._rest())
        yield from filter(self._wanted, self._lines.finish())

    @property
    def found(self) -> bool:
        """Whether there was a log."""
        return self._pair is not None

    @property
    def gone(self) -> bool:
        """Whether the log was removed (its container was)."""
        return self._pair is not None and not files_of(self._prefix)

    def close(self) -> None:
        if self._pair is not None:
            self._pair.close()
            self._pair = None
        if self._own_leases is not None:
            self._own_leases.close()
        elif self._leases is not None:
            self._leases.release(self._name)

    def pieces(self) -> Iterator[tuple[str, float, bytes]]:
        """What was written since the last call, as it came: stream, time, bytes. Instead of `read`, not beside it:
        `since` is not looked at."""
        for pair, (kind, time, offset, length) in self._spans(None):
            if kind < MARKS:
                yield from _read(pair, kind, time, offset, length)

    def spans(self) -> Iterator[tuple[Pair, Span]]:
        """As `pieces`, with what is left of a log that nobody writes to any more, and as places in the files."""
        yield from self._spans(None)
        yield from self._rest()

    def _wanted(self, block: Block) -> bool:
        return self._since is None or block[0] >= self._since

    def _blocks(self, spans: Iterator[tuple[Pair, Span]]) -> Iterator[Block]:
        for pair, (kind, time, offset, length) in spans:
            if kind == BREAK:
                yield from filter(self._wanted, self._lines.finish())
            elif kind < MARKS:
                for stream, _, data in _read(pair, kind, time, offset, length):
                    yield from filter(self._wanted, self._lines.feed(stream, time, data))

    def _spans(self, tail: int | None) -> Iterator[tuple[Pair, Span]]:
        if self._pair is None and not self._open_next(tail):
            return
        while (pair := self._pair) is not None:
            # First whether it was rotated away, then its end: in this order nothing can be written in between.
            rotated = identity_of(file_name(self._prefix, "log")) not in (pair.identity, None)
            if pair.index < 0 and not rotated and pair.find_index(self._prefix):
                self._hold(pair.serial)
                self._watch_index()
            yield from self._of(pair, pair.spans(self._timed))
            if not rotated:
                return
            yield from self._of(pair, pair.rest())
            self._finished = pair.identity, pair.serial
            self._expected = pair.before + pair.size if pair.before is not None else None
            pair.close()
            self._pair = None
            if not self._open_next():
                return

    def _rest(self) -> Iterator[tuple[Pair, Span]]:
        """Of a file that is still written to: what the index does not cover although it had time to."""
        pair = self._pair
        if pair is None:
            return
        found = os.fstat(pair.log)
        for _ in range(_SETTLING):
            yield from self._of(pair, pair.spans(self._timed))
            if pair.covered >= found.st_size:
                return
            if found.st_mtime < now() - 1:
                break
            sleep(0.001)
        yield from self._of(pair, pair.rest())

    def _of(self, pair: Pair, spans: Iterator[Span]) -> Iterator[tuple[Pair, Span]]:
        for span in spans:
            if span[0] == LOST:
                self._tell_lost(int(span[1]), UNWRITTEN)
            yield pair, span

    def _tell_lost(self, count: int, why: str) -> None:
        if count > 0 and self._on_lost is not None:
            self._on_lost(count, why)

    def _hold(self, serial: int = 0) -> None:
        if self._leases is not None:
            self._leases.hold(self._name, serial)

    def _open_next(self, tail: int | None = None) -> bool:
        """Open the file that follows the finished one, or the first that is needed; False if there is none. The files may
        be renamed while we look: what was opened counts only if nothing has moved in between."""
        if self._finished is None:
            self._hold()
        for _ in range(_TRIES):
            files = _settled(self._prefix)
            newer = self._newer(files)
            if not newer:
                return False
            number = max(newer) if self._finished is not None else self._first(newer, tail)
            try:
                pair = Pair(self._prefix, number)
            except FileNotFoundError:
                continue
            self._hold(pair.serial)
            if number == 0:
                self._watch_index()
            if files_of(self._prefix) == files:
                self._take(pair, tail)
                return True
            pair.close()
        return False

    def _take(self, pair: Pair, tail: int | None) -> None:
        self._pair = pair
        if self._expected is not None and pair.before:  # Not at all: it is the log of another container of that name.
            self._tell_lost(pair.before - self._expected, ROTATED)
        if self._finished is None and (tail is not None or self._since is not None):
            pair.skip(tail, self._since)

    def _newer(self, files: Mapping[int, tuple[Identity, object]]) -> Mapping[int, object]:
        if self._finished is None:
            return files
        finished, serial = self._finished
        at = next((number for number, (log, _) in files.items() if log == finished), None)
        if at is not None:
            return {number: pair for number, pair in files.items() if number < at}
        # It was deleted meanwhile, and so were those between it and the oldest; or only it was.
        return {number: pair for number, pair in files.items() if not 0 < serial_of(self._prefix, number) <= serial}

    def _watch_index(self) -> None:
        if self._inotify is None:
            return
        from orchestrator.kernel.constants import IN_DELETE_SELF, IN_MODIFY, IN_MOVE_SELF

        try:  # noqa: SIM105
            self._inotify.watch(file_name(self._prefix, "idx"), IN_MODIFY | IN_MOVE_SELF | IN_DELETE_SELF)
        except FileNotFoundError:
            pass

    def _first(self, files: Mapping[int, object], tail: int | None) -> int:
        """The oldest file that is needed: with a tail, the newest that together have enough lines."""
        oldest = max(files)
        if tail is not None and oldest:
            lines = 0
            for number in sorted(files):
                lines += _newlines(file_name(self._prefix, "log", number))
                if lines > tail:
                    return number
        return oldest


def _read(pair: Pair, kind: int, time: float, offset: int, length: int) -> Iterator[tuple[str, float, bytes]]:
    stream, end = "stderr" if kind == STDERR else "stdout", offset + length
    while offset < end and (data := pair.read(offset, min(end - offset, _PIECE_BYTES))):
        yield stream, time, data
        offset += len(data)


def _settled(prefix: str) -> dict[int, tuple[Identity, Identity | None]]:
    """`files_of` when no rotation is under way. After many tries as it is: one was cut off by a kill."""
    files = files_of(prefix)
    for _ in range(_TRIES):
        before, files = files, files_of(prefix)
        if files == before and all(index is not None for _, index in files.values()) and (0 in files or not files):
            break
    return files


def _newlines(path: str) -> int:
    """How many are in the file; none when it was renamed meanwhile."""
    lines = 0
    try:
        fd = open_log(path)
    except FileNotFoundError:
        return 0
    with open(fd, "rb", buffering=0) as file:
        while chunk := file.read(1 << 20):
            lines += chunk.count(b"\n")
    return lines


def follow(
    path_prefix: str, *, tail: int | None = None, since: float | None = None, stop_fd: int | None = None
) -> Iterator[LogEntry]:
    """The lines of a log, and those to come, also over rotations. Ends when the log is removed or `stop_fd` becomes
    readable, then with what has no newline. Raises HostError."""
    import select

    from orchestrator.kernel.inotify import Inotify

    with Inotify() as inotify:
        follower = Follower(path_prefix, tail=tail, since=since, inotify=inotify)
        poll = select.poll()
        poll.register(inotify.fileno(), select.POLLIN)
        if stop_fd is not None:
            poll.register(stop_fd, select.POLLIN)
        stopped = False
        try:
            while True:
                yield from entries_of(follower.read())
                if stopped or follower.gone:
                    yield from entries_of(follower.finish())
                    return
                # One more look after the word to stop: what was written before it must be told.
                stopped = any(fd == stop_fd for fd, _ in poll.poll())
                inotify.clear()
        finally:
            follower.close()
