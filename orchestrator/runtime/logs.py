"""Reading containers' logs, without the supervisor and without trio: the command line does this itself.

The bytes are in ``PREFIX.log``, who wrote which when in ``PREFIX.idx``; rotated pairs are ``PREFIX.log.1`` and so on, the
highest number being the oldest (docs/monitor-protocol.md, "Files"). The index follows the bytes: what it covers is there.
A line may begin in one file and end in the next; lines of the two streams may be interleaved in pieces.
"""

from __future__ import annotations

import os
from _struct import Struct  # The modules around this and deque take longer to import than `logs` to read a log.
from itertools import chain

from orchestrator.values import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterator, Mapping

    from orchestrator.kernel.inotify import Inotify
else:
    from _collections import deque

_RECORD = Struct("<QIIQ")
_STREAMS = {0: "stdout", 1: "stdout", 2: "stderr"}
"""0: it is not known which, because the monitor was killed between the bytes and their index record."""
_RECORDS_AT_ONCE = 4096
if TYPE_CHECKING:
    _Identity = tuple[int, int]
"""Device and inode."""
_TRIES = 100
"""How often files that are being renamed are looked at again; a rotation is a few system calls."""
_LONGEST_LINE = 1 << 20
"""A line that is longer is given in pieces: no output may fill the reader's memory."""


@frozen
class LogEntry:
    """One line. `time`: seconds since the epoch at which its first byte was read. `line`: without the newline; `ended`
    False: there was none (yet): the program ended or the line is too long."""

    time: float
    stream: str
    line: bytes
    ended: bool = True


class _Lines:
    """Puts the pieces of each stream together to lines."""

    def __init__(self) -> None:
        self._begun: dict[str, tuple[float, list[bytes], int]] = {}

    def feed(self, stream: str, time: float, data: bytes) -> Iterator[LogEntry]:
        *whole, rest = data.split(b"\n")
        for piece in whole:
            began, before, _ = self._begun.pop(stream, (time, [], 0))
            yield LogEntry(began, stream, b"".join([*before, piece]) if before else piece)
        if rest:
            began, before, length = self._begun.pop(stream, (time, [], 0))
            before.append(rest)
            if length + len(rest) >= _LONGEST_LINE:
                yield LogEntry(began, stream, b"".join(before), ended=False)
            else:
                self._begun[stream] = began, before, length + len(rest)

    def finish(self) -> Iterator[LogEntry]:
        """What has no newline."""
        begun, self._begun = self._begun, {}
        for stream, (time, pieces, _) in sorted(begun.items(), key=lambda item: item[1][0]):
            yield LogEntry(time, stream, b"".join(pieces), ended=False)


class _Pair:
    """One log file and its index, open, and how far they have been read."""

    def __init__(self, prefix: str, number: int) -> None:
        suffix = f".{number}" if number else ""
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        self.log = os.open(f"{prefix}.log{suffix}", flags)
        self.index = -1
        try:  # noqa: SIM105
            self.index = os.open(f"{prefix}.idx{suffix}", flags)
        except FileNotFoundError:
            pass
        self.identity = _identity(os.fstat(self.log))
        self._records = 0
        self._covered = 0

    def new(self) -> Iterator[tuple[str, float, bytes]]:
        """Pieces that were added since the last call: stream, time, bytes."""
        while self.index >= 0:
            data = os.pread(self.index, _RECORD.size * _RECORDS_AT_ONCE, self._records * _RECORD.size)
            usable = len(data) - len(data) % _RECORD.size
            if not usable:
                return
            for offset, length, stream, nanoseconds in _RECORD.iter_unpack(data[:usable]):
                self._records += 1
                time = nanoseconds / 1e9
                if offset > self._covered:
                    # The index's disk was full for a while.
                    yield from self._piece(self._covered, offset - self._covered, 0, time)
                if offset + length > self._covered:
                    start = max(offset, self._covered)
                    yield from self._piece(start, offset + length - start, stream, time)

    def rest(self) -> Iterator[tuple[str, float, bytes]]:
        """What the index of a finished file does not cover, with the file's time."""
        found = os.fstat(self.log)
        if found.st_size > self._covered:
            yield from self._piece(self._covered, found.st_size - self._covered, 0, found.st_mtime)

    def _piece(self, offset: int, length: int, stream: int, time: float) -> Iterator[tuple[str, float, bytes]]:
        end = offset + length
        while offset < end:
            data = os.pread(self.log, min(end - offset, 1 << 20), offset)
            if not data:
                break
            yield _STREAMS.get(stream, "stdout"), time, data
            offset += len(data)
        self._covered = end

    def close(self) -> None:
        for fd in (self.log, self.index):
            if fd >= 0:
                os.close(fd)
        self.log = self.index = -1


def _identity(found: os.stat_result) -> _Identity:
    return found.st_dev, found.st_ino


def _identity_of(path: str) -> _Identity | None:
    try:
        return _identity(os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return None


def _path(prefix: str, number: int) -> str:
    return f"{prefix}.log.{number}" if number else f"{prefix}.log"


def _files(prefix: str) -> dict[int, tuple[_Identity, _Identity | None]]:
    """Number -> log and index, of all logs of `prefix`. In the middle of a rotation one number is missing."""
    found: dict[int, tuple[_Identity, _Identity | None]] = {}
    number = missing = 0
    while missing < 3:
        log = _identity_of(_path(prefix, number))
        if log is None:
            missing += 1
        else:
            missing = 0
            found[number] = log, _identity_of(f"{prefix}.idx.{number}" if number else f"{prefix}.idx")
        number += 1
    return found


def _settled(prefix: str) -> dict[int, tuple[_Identity, _Identity | None]]:
    """`_files` when no rotation is under way. After many tries as it is: one was cut off by a kill."""
    files = _files(prefix)
    for _ in range(_TRIES):
        before, files = files, _files(prefix)
        if files == before and all(index is not None for _, index in files.values()) and (0 in files or not files):
            break
    return files


def read_entries(path_prefix: str, tail: int | None = None, since: float | None = None) -> Iterator[LogEntry]:
    """All lines of a log, oldest first. `tail`: only so many last ones; `since`: only those not older (epoch seconds).
    A log that does not exist has no lines. Raises OSError."""
    follower = Follower(path_prefix, tail=tail, since=since)
    try:
        if tail is None:
            yield from follower.read()
            yield from follower.finish()
        else:
            # A last line without its newline is one of the last lines.
            yield from deque(chain(follower.read(), follower.finish()), maxlen=tail)
    finally:
        follower.close()


class Follower:
    """Reads a log to its present end, and again when there is more. `inotify`: becomes readable when there is; several
    followers may share one. Without it, this is a plain reader."""

    def __init__(
        self, path_prefix: str, *, tail: int | None = None, since: float | None = None, inotify: Inotify | None = None
    ) -> None:
        self._prefix = path_prefix
        self._tail = tail
        self._since = since
        self._inotify = inotify
        self._lines = _Lines()
        self._pair: _Pair | None = None
        self._finished: _Identity | None = None
        if inotify is not None:
            from orchestrator.kernel.constants import IN_CREATE, IN_MOVED_TO

            inotify.watch(os.path.dirname(path_prefix) or ".", IN_CREATE | IN_MOVED_TO)

    def read(self) -> Iterator[LogEntry]:
        """The lines that were completed since the last call. `tail` applies to the first call."""
        entries = self._entries()
        if self._tail is None:
            yield from entries
            return
        last = deque(entries, maxlen=self._tail)
        self._tail = None
        yield from last

    def finish(self) -> Iterator[LogEntry]:
        """What is left without a newline, when nothing more will come."""
        for entry in self._lines.finish():
            if self._wanted(entry):
                yield entry

    @property
    def gone(self) -> bool:
        """Whether the log was removed (its container was)."""
        return self._pair is not None and not _files(self._prefix)

    def close(self) -> None:
        if self._pair is not None:
            self._pair.close()
            self._pair = None

    def _wanted(self, entry: LogEntry) -> bool:
        return self._since is None or entry.time >= self._since

    def _entries(self) -> Iterator[LogEntry]:
        for stream, time, data in self.pieces():
            for entry in self._lines.feed(stream, time, data):
                if self._wanted(entry):
                    yield entry

    def pieces(self) -> Iterator[tuple[str, float, bytes]]:
        """What was written since the last call, as it came: stream, time, bytes. Instead of `read`, not beside it:
        `tail` and `since` are not looked at."""
        if self._pair is None and not self._open_after(self._finished):
            return
        while self._pair is not None:
            # First whether it was rotated away, then its end: in this order nothing can be written in between.
            rotated = _identity_of(f"{self._prefix}.log") not in (self._pair.identity, None)
            yield from self._pair.new()
            if not rotated:
                return
            yield from self._pair.rest()
            self._finished = self._pair.identity
            self._pair.close()
            self._pair = None
            if not self._open_after(self._finished):
                return

    def _open_after(self, finished: _Identity | None) -> bool:
        """Open the file that follows `finished`, or the first that is needed; False if there is none. The files may be
        renamed while we look: what was opened counts only if nothing has moved in between."""
        for _ in range(_TRIES):
            files = _settled(self._prefix)
            newer = files
            if finished is not None:
                at = next((number for number, (log, _) in files.items() if log == finished), None)
                # If it was deleted meanwhile, so were those between it and the oldest.
                newer = {number: pair for number, pair in files.items() if at is None or number < at}
            if not newer:
                return False
            number = max(newer) if finished is not None else self._first(newer)
            try:
                pair = _Pair(self._prefix, number)
            except FileNotFoundError:
                continue
            if self._inotify is not None and number == 0:
                self._watch_index(self._inotify)
            if _files(self._prefix) == files:
                self._pair = pair
                return True
            pair.close()
        return False

    def _watch_index(self, inotify: Inotify) -> None:
        from orchestrator.kernel.constants import IN_DELETE_SELF, IN_MODIFY, IN_MOVE_SELF

        try:  # noqa: SIM105
            inotify.watch(f"{self._prefix}.idx", IN_MODIFY | IN_MOVE_SELF | IN_DELETE_SELF)
        except FileNotFoundError:
            pass

    def _first(self, files: Mapping[int, object]) -> int:
        """The oldest file that is needed: with a tail, the newest that together have enough lines."""
        if self._tail is not None:
            lines = 0
            for number in sorted(files):
                lines += _newlines(_path(self._prefix, number))
                if lines > self._tail:
                    return number
        return max(files)


def _newlines(path: str) -> int:
    """How many are in the file; none when it was renamed meanwhile."""
    lines = 0
    try:
        with open(path, "rb") as file:
            while chunk := file.read(1 << 20):
                lines += chunk.count(b"\n")
    except FileNotFoundError:
        pass
    return lines


def follow(
    path_prefix: str, *, tail: int | None = None, since: float | None = None, stop_fd: int | None = None
) -> Iterator[LogEntry]:
    """The lines of a log, and those to come, also over rotations. Ends when the log is removed or `stop_fd` becomes
    readable, then with what has no newline. Raises OSError."""
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
                yield from follower.read()
                if stopped or follower.gone:
                    yield from follower.finish()
                    return
                # One more look after the word to stop: what was written before it must be told.
                stopped = any(fd == stop_fd for fd, _ in poll.poll())
                inotify.clear()
        finally:
            follower.close()
