"""The files of a log as a reader finds them: pairs of a log and its index, which the writer renames and deletes meanwhile.

Whatever an index says is checked against its log: a damaged one costs times and the names of streams, and never a byte.
"""

from __future__ import annotations

import os
from errno import EEXIST

from orchestrator.errors import HostError
from orchestrator.kernel import rangelocks
from orchestrator.runtime.monitor.logformat import (
    EVERYTHING,
    LOST,
    MARKS,
    RECORD,
    STDERR,
    STDOUT,
    UNKNOWN,
    head_of,
    open_own,
    place_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Identity = tuple[int, int]
    """Device and inode."""
    Span = tuple[int, float, int, int]
    """Kind (`logformat`), time in seconds since the epoch (of LOST: the bytes), offset and length."""

_RECORDS_AT_ONCE = 16384
_WINDOW_BYTES = 1 << 16
_CHUNK = 1 << 20
_STEP = 64
"""Records."""
_MARGIN = 3
"""Numbers that may be missing between two files: a rotation is under way, or was cut off."""


class Leases:
    """What is still to be read is not to be deleted by the writer (docs/monitor-protocol.md, "Logs"). `directory`: of the
    logs. Without it, and where there are no locks, nothing is held: what is lost then is told."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._fd = -1
        self._held: dict[str, int] = {}

    def hold(self, container: str, serial: int = 0) -> None:
        """The file `serial` and those after it; 0: all. What was held of `container` before is not any more."""
        place, before = place_of(container, serial), self._held.get(container)
        if place != before and self._hold(place):
            self._held[container] = place
            if before is not None:
                rangelocks.release(self._fd, before)

    def hold_new(self) -> None:
        """All of the containers that are still to be made, for their first minute."""
        self._hold(EVERYTHING)

    def release(self, container: str) -> None:
        place = self._held.pop(container, None)
        if place is not None:
            rangelocks.release(self._fd, place)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _hold(self, place: int) -> bool:
        try:
            if self._fd < 0:
                self._fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            rangelocks.hold(self._fd, place)
        except OSError:
            return False
        return True


class Pair:
    """One log file and its index, open, and how far they have been read. `serial`, `before`: as `logformat.head_of` has
    them. Raises FileNotFoundError, HostError."""

    def __init__(self, prefix: str, number: int) -> None:
        self._path = file_name(prefix, "log", number)
        self.log = open_log(self._path)
        self.index = -1
        self.serial = 0
        self.before: int | None = None
        self._records = 0
        self._window, self._window_at = b"", 0
        self.covered = 0
        self.identity = identity(os.fstat(self.log))
        try:
            self._take_index(open_log(file_name(prefix, "idx", number)))
        except FileNotFoundError:
            pass
        except HostError:
            self.close()
            raise

    def _take_index(self, index: int) -> None:
        self.index = index
        self.serial, self.before = head_of(index)

    def find_index(self, prefix: str) -> bool:
        """Open the index of a log that had none yet, if it is there now: the two are not made at once. Whether it did."""
        try:
            index = open_log(file_name(prefix, "idx"))
        except FileNotFoundError:
            return False
        if identity_of(file_name(prefix, "log")) == self.identity:
            self._take_index(index)
            return True
        os.close(index)  # Of the next log: this one was rotated away meanwhile.
        return False

    def skip(self, lines: int | None, since: float | None) -> None:
        """Begin near the end, if more than `lines` lines come after that or what is before it is older than `since`; a good
        way before that, because of lines that have begun earlier."""
        at, end, found, step = os.fstat(self.index).st_size // RECORD.size if self.index >= 0 else 0, self.size, 0, _STEP
        enough = False
        while at > 0:
            at = max(0, at - step)
            data = os.pread(self.index, RECORD.size, at * RECORD.size)
            offset, _, kind, value = RECORD.unpack(data)
            if offset > end:
                return  # Damaged.
            if enough:
                self._records, self.covered = at, offset
                return
            if lines is not None:
                found += self._newlines(offset, end)
                enough = found > lines
            if since is not None and kind < MARKS and value / 1e9 < since:
                enough = True
            end, step = offset, _STEP if enough else min(2 * step, _RECORDS_AT_ONCE)

    def skip_all(self) -> None:
        """As if all that the index covers had been read."""
        self._records = os.fstat(self.index).st_size // RECORD.size if self.index >= 0 else 0
        if self._records:
            offset, length, _, _ = RECORD.unpack(os.pread(self.index, RECORD.size, (self._records - 1) * RECORD.size))
            self.covered = min(offset + length, self.size)

    def _newlines(self, offset: int, end: int) -> int:
        count = 0
        while offset < end and (data := os.pread(self.log, min(end - offset, _CHUNK), offset)):
            count += data.count(b"\n")
            offset += len(data)
        return count

    @property
    def size(self) -> int:
        return os.fstat(self.log).st_size

    def spans(self, timed: bool) -> Iterator[Span]:
        """What was added since the last call. Not `timed`: what one stream wrote in a row is one span, with the time of its
        beginning."""
        while self.index >= 0:
            data = os.pread(self.index, RECORD.size * _RECORDS_AT_ONCE, self._records * RECORD.size)
            count = len(data) // RECORD.size
            if not count:
                return
            self._records += count
            data = data[: count * RECORD.size]
            size = self.size  # After the index: what that covers is there.
            if timed:
                yield from self._each(data, size)
            else:
                yield from self._joined(data, size)

    def _joined(self, data: bytes, size: int) -> Iterator[Span]:
        kinds = data[12 :: RECORD.size]  # Their low bytes.
        numbers, words = memoryview(data).cast("Q"), memoryview(data).cast("I")
        start, count = 0, len(kinds)
        while start < count:
            kind = kinds[start : start + 1]
            stop = count - len(kinds[start:].lstrip(kind))
            offset, end = numbers[3 * start], numbers[3 * stop - 3] + words[6 * stop - 4]
            if STDOUT <= kind[0] <= STDERR and offset == self.covered < end <= size:
                # Whatever is in between: it is all of one stream.
                self.covered = end
                yield kind[0], numbers[3 * start + 2] / 1e9, offset, end - offset
            else:
                yield from self._each(data[start * RECORD.size : stop * RECORD.size], size)
            start = stop

    def _each(self, data: bytes, size: int) -> Iterator[Span]:
        for offset, length, kind, value in RECORD.iter_unpack(data):
            end = offset + length
            if end > size or (end <= self.covered and length) or (kind >= MARKS and length):
                continue  # Damaged, or somebody has cut the log.
            if offset > self.covered:
                # The index's disk was full for a while.
                yield UNKNOWN, value / 1e9 if kind < MARKS else 0.0, self.covered, offset - self.covered
                self.covered = offset
            if kind >= MARKS:
                yield kind, float(value) if kind == LOST else value / 1e9, offset, 0
            elif length:
                start, self.covered = self.covered, end
                yield kind if kind in (STDOUT, STDERR) else UNKNOWN, value / 1e9, start, end - start

    def rest(self) -> Iterator[Span]:
        """What the index of a finished file does not cover, with the file's time."""
        found = os.fstat(self.log)
        if found.st_size > self.covered:
            start, self.covered = self.covered, found.st_size
            yield UNKNOWN, found.st_mtime, start, found.st_size - start

    def read(self, offset: int, count: int) -> bytes:
        """From what was read ahead, if it is there: most pieces are a line. Less than `count` when somebody cuts the log.
        Raises HostError."""
        if count >= _WINDOW_BYTES:
            return self._read(count, offset)
        at = offset - self._window_at
        if at < 0 or at + count > len(self._window):
            self._window, self._window_at, at = self._read(_WINDOW_BYTES, offset), offset, 0
        return self._window[at : at + count]

    def _read(self, count: int, offset: int) -> bytes:
        try:
            return os.pread(self.log, count, offset)
        except OSError as exc:
            raise HostError(f"cannot read the log {self._path}: {exc.strerror}") from exc

    def close(self) -> None:
        for fd in (self.log, self.index):
            if fd >= 0:
                os.close(fd)
        self.log = self.index = -1


def open_log(path: str) -> int:
    """Raises FileNotFoundError, and HostError for what cannot be read or is no file of ours."""
    try:
        return open_own(path, os.O_RDONLY)
    except FileNotFoundError:
        raise
    except OSError as exc:
        hint = "move it away" if exc.errno == EEXIST else None
        raise HostError(f"cannot read the log {path}: {exc.strerror}", hint=hint) from exc


def file_name(prefix: str, kind: str, number: int = 0) -> str:
    return f"{prefix}.{kind}.{number}" if number else f"{prefix}.{kind}"


def identity(found: os.stat_result) -> Identity:
    return found.st_dev, found.st_ino


def identity_of(path: str) -> Identity | None:
    try:
        return identity(os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return None


def files_of(prefix: str) -> dict[int, tuple[Identity, Identity | None]]:
    """Number -> log and index, of all logs of `prefix`. In the middle of a rotation one number is missing."""
    found: dict[int, tuple[Identity, Identity | None]] = {}
    number = missing = 0
    while missing < _MARGIN:
        log = identity_of(file_name(prefix, "log", number))
        if log is None:
            missing += 1
        else:
            missing = 0
            found[number] = log, identity_of(file_name(prefix, "idx", number))
        number += 1
    return found


def serial_of(prefix: str, number: int) -> int:
    """0 when it cannot be told."""
    try:
        index = open_own(file_name(prefix, "idx", number), os.O_RDONLY)
    except OSError:
        return 0
    try:
        return head_of(index)[0]
    finally:
        os.close(index)
