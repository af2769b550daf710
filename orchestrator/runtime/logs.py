"""Reading containers' logs, without the supervisor and without trio: the command line does this itself.

The bytes are in ``PREFIX.log``, who wrote which when in ``PREFIX.idx``; rotated pairs are ``PREFIX.log.1`` and so on, the
highest number being the oldest (docs/monitor-protocol.md, "Files"). The index follows the bytes: what it covers is there.
A line may begin in one file and end in the next; lines of the two streams may be interleaved in pieces.

What is read comes as blocks: as many whole lines as were written at once, so that nobody has to look at each line who only
passes it on.
"""

from __future__ import annotations

import os
from _struct import Struct  # The modules around this and deque take longer to import than `logs` to read a log.
from itertools import chain

from orchestrator.values import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterable, Iterator, Mapping

    from orchestrator.kernel.inotify import Inotify
else:
    from _collections import deque

_RECORD = Struct("<QIIQ")
_STREAMS = {0: "stdout", 1: "stdout", 2: "stderr"}
"""0: it is not known which, because the monitor was killed between the bytes and their index record."""
_RECORDS_AT_ONCE = 4096
_WINDOW_BYTES = 1 << 16
_PIECE_BYTES = 1 << 20
if TYPE_CHECKING:
    _Identity = tuple[int, int]
    Block = tuple[float, str, bytes]
"""`_Identity`: device and inode. `Block`: when the first byte of its first line was read (seconds since the epoch), the
stream, and whole lines with their newlines; or one without: the program ended, or the line is too long."""
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

    def feed(self, stream: str, time: float, data: bytes) -> Iterator[Block]:
        cut = data.rfind(b"\n") + 1
        if cut:
            first = 0
            if stream in self._begun:
                began, before, _ = self._begun.pop(stream)
                first = data.find(b"\n") + 1
                yield began, stream, b"".join([*before, data[:first]])
            if first < cut:
                yield time, stream, data[first:cut]
            data = data[cut:]
        if data:
            began, before, length = self._begun.pop(stream, (time, [], 0))
            before.append(data)
            if length + len(data) >= _LONGEST_LINE:
                yield began, stream, b"".join(before)
            else:
                self._begun[stream] = began, before, length + len(data)

    def finish(self) -> Iterator[Block]:
        """What has no newline."""
        begun, self._begun = self._begun, {}
        for stream, (time, pieces, _) in sorted(begun.items(), key=lambda item: item[1][0]):
            yield time, stream, b"".join(pieces)


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
        self._window, self._window_at = b"", 0

    def find_index(self, prefix: str) -> bool:
        """Open the index of a log that had none yet, if it is there now: the two are not made at once. Whether it did."""
        try:
            index = os.open(f"{prefix}.idx", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        if _identity_of(f"{prefix}.log") == self.identity:
            self.index = index
            return True
        os.close(index)  # Of the next log: this one was rotated away meanwhile.
        return False

    def new(self, timed: bool) -> Iterator[tuple[str, float, bytes]]:
        """Pieces that were added since the last call: stream, time, bytes. Not `timed`: what one stream wrote in a row is
        one piece, with the time of its beginning."""
        while self.index >= 0:
            data = os.pread(self.index, _RECORD.size * _RECORDS_AT_ONCE, self._records * _RECORD.size)
            usable = len(data) - len(data) % _RECORD.size
            if not usable:
                return
            start, end, of, began = self._covered, self._covered, -1, 0.0
            for offset, length, stream, nanoseconds in _RECORD.iter_unpack(data[:usable]):
                self._records += 1
                if offset == end and stream == of and not timed and end - start < _PIECE_BYTES:
                    end += length
                    continue
                yield from self._piece(start, end - start, of, began)
                began = nanoseconds / 1e9
                if offset > end:
                    # The index's disk was full for a while.
                    yield from self._piece(end, offset - end, 0, began)
                start, end, of = max(offset, self._covered), max(offset + length, self._covered), stream
            yield from self._piece(start, end - start, of, began)

    def skip(self) -> None:
        """As if all that the index covers had been read."""
        self._records = os.fstat(self.index).st_size // _RECORD.size if self.index >= 0 else 0
        if self._records:
            offset, length, _, _ = _RECORD.unpack(os.pread(self.index, _RECORD.size, (self._records - 1) * _RECORD.size))
            self._covered = offset + length

    def rest(self) -> Iterator[tuple[str, float, bytes]]:
        """What the index of a finished file does not cover, with the file's time."""
        found = os.fstat(self.log)
        if found.st_size > self._covered:
            yield from self._piece(self._covered, found.st_size - self._covered, 0, found.st_mtime)

    def _piece(self, offset: int, length: int, stream: int, time: float) -> Iterator[tuple[str, float, bytes]]:
        end = offset + length
        while offset < end:
            data = self._read(offset, min(end - offset, _PIECE_BYTES))
            if not data:
                break
            yield _STREAMS.get(stream, "stdout"), time, data
            offset += len(data)
        self._covered = end

    def _read(self, offset: int, count: int) -> bytes:
        """From what was read ahead, if it is there: most pieces are a line."""
        if count >= _WINDOW_BYTES:
            return os.pread(self.log, count, offset)
        at = offset - self._window_at
        if at < 0 or at + count > len(self._window):
            self._window, self._window_at, at = os.pread(self.log, _WINDOW_BYTES, offset), offset, 0
        return self._window[at : at + count]

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


def read_blocks(
    path_prefix: str, tail: int | None = None, since: float | None = None, *, timed: bool = True
) -> Iterator[Block]:
    """All of a log, oldest first. `tail`: only so many last lines; `since`: only those not older (epoch seconds). Not
    `timed`: nobody asks for the times, which are then those of whole passages. A log that does not exist has no lines.
    Raises OSError."""
    follower = Follower(path_prefix, tail=tail, since=since, timed=timed)
    try:
        if tail is None:
            yield from follower.read()
            yield from follower.finish()
        else:
            # A last line without its newline is one of the last lines.
            yield from _last(chain(follower.read(), follower.finish()), tail)
    finally:
        follower.close()


def read_entries(path_prefix: str, tail: int | None = None, since: float | None = None) -> Iterator[LogEntry]:
    """As `read_blocks`, line by line."""
    return entries_of(read_blocks(path_prefix, tail, since))


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
    return data.count(b"\n") + (not data.endswith(b"\n"))


def _last(blocks: Iterable[Block], count: int) -> Iterator[Block]:
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


class Follower:
    """Reads a log to its present end, and again when there is more. `inotify`: becomes readable when there is; several
    followers may share one. Without it, this is a plain reader. `timed`: as for `read_blocks`."""

    def __init__(
        self,
        path_prefix: str,
        *,
        tail: int | None = None,
        since: float | None = None,
        inotify: Inotify | None = None,
        timed: bool = True,
    ) -> None:
        self._prefix = path_prefix
        self._tail = tail
        self._since = since
        self._timed = timed or since is not None
        self._inotify = inotify
        self._lines = _Lines()
        self._pair: _Pair | None = None
        self._finished: _Identity | None = None
        if inotify is not None:
            from orchestrator.kernel.constants import IN_CREATE, IN_MOVED_TO

            try:  # noqa: SIM105
                inotify.watch(os.path.dirname(path_prefix) or ".", IN_CREATE | IN_MOVED_TO)
            except FileNotFoundError:
                pass  # There is no folder for logs where nothing of the project was ever begun.

    def read(self) -> Iterator[Block]:
        """The lines that were completed since the last call. `tail` applies to the first call."""
        tail, self._tail = self._tail, None
        blocks = self._blocks(tail)
        return blocks if tail is None else _last(blocks, tail)

    def skip(self) -> None:
        """Pass over what is there already. Before the first `read` or `pieces`."""
        try:
            self._pair = _Pair(self._prefix, 0)
        except FileNotFoundError:
            return
        if self._inotify is not None:
            self._watch_index(self._inotify)
        self._pair.skip()

    def finish(self) -> Iterator[Block]:
        """What is left without a newline, when nothing more will come."""
        return (block for block in self._lines.finish() if self._wanted(block))

    @property
    def gone(self) -> bool:
        """Whether the log was removed (its container was)."""
        return self._pair is not None and not _files(self._prefix)

    def close(self) -> None:
        if self._pair is not None:
            self._pair.close()
            self._pair = None

    def _wanted(self, block: Block) -> bool:
        return self._since is None or block[0] >= self._since

    def _blocks(self, tail: int | None) -> Iterator[Block]:
        for stream, time, data in self.pieces(tail):
            for block in self._lines.feed(stream, time, data):
                if self._wanted(block):
                    yield block

    def pieces(self, tail: int | None = None) -> Iterator[tuple[str, float, bytes]]:
        """What was written since the last call, as it came: stream, time, bytes. Instead of `read`, not beside it:
        `since` is not looked at."""
        if self._pair is None and not self._open_after(self._finished, tail):
            return
        while self._pair is not None:
            # First whether it was rotated away, then its end: in this order nothing can be written in between.
            rotated = _identity_of(f"{self._prefix}.log") not in (self._pair.identity, None)
            if self._pair.index < 0 and not rotated and self._pair.find_index(self._prefix) and self._inotify is not None:
                self._watch_index(self._inotify)
            yield from self._pair.new(self._timed)
            if not rotated:
                return
            yield from self._pair.rest()
            self._finished = self._pair.identity
            self._pair.close()
            self._pair = None
            if not self._open_after(self._finished):
                return

    def _open_after(self, finished: _Identity | None, tail: int | None = None) -> bool:
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
            number = max(newer) if finished is not None else self._first(newer, tail)
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

    def _first(self, files: Mapping[int, object], tail: int | None) -> int:
        """The oldest file that is needed: with a tail, the newest that together have enough lines."""
        if tail is not None:
            lines = 0
            for number in sorted(files):
                lines += _newlines(_path(self._prefix, number))
                if lines > tail:
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
                yield from entries_of(follower.read())
                if stopped or follower.gone:
                    yield from entries_of(follower.finish())
                    return
                # One more look after the word to stop: what was written before it must be told.
                stopped = any(fd == stop_fd for fd, _ in poll.poll())
                inotify.clear()
        finally:
            follower.close()
