"""A container's log on disk: bytes moved pipe -> file by splice(2), and beside them an index of who wrote which when.

The bytes are written before their index record. When we are killed in between, the next one to open the log adds a record
of kind 0 ("unknown") for what the index does not cover: no byte is ever lost or out of order.

Rotation waits for nobody, and takes nothing from anybody: a file that is in excess stays while a reader needs it or one
before it (docs/monitor-protocol.md, "Logs"), as long as all that is held so is no more than `held_bytes`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import time

from orchestrator.kernel import rangelocks
from orchestrator.kernel.suppress import suppress
from orchestrator.runtime.monitor import logformat as form
from orchestrator.runtime.monitor.logindex import Index

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself would cost the monitor a megabyte
    from collections.abc import Callable
    from typing import Any

HELD_BYTES = 1 << 30
_CHUNK = 1 << 16
_PIPE_BUF = 4096
"""pipe(7): what a program writes at once, a line mostly, stays in one file, which is larger by this much at most."""
_FIONREAD = 0x541B
"""ioctl_tty(2): how many bytes are in a pipe or a terminal."""
_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""They pass: what is to be written stays where it is until then."""
_MOST_HELD = 64
"""Files in excess that are held; more would make each rotation slow. Instead each becomes larger."""
_YOUNG_S = 60.0
"""Who follows all containers takes up a new one within this time."""
_CHECK_NS = 100_000_000
"""Whether somebody has deleted the file is asked so often."""
_GAP = 3
"""Numbers that may be missing between two files: a rotation was cut off."""
_TELL_EVERY_S = 10.0
"""What was lost is told so often, however fast it is lost."""


def _events(pipe: int) -> int:
    """What poll(2) says now; 0: nothing."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    return sum(events for _, events in poll.poll(0))


def _has_data(pipe: int) -> bool:
    return any(fcntl.ioctl(pipe, _FIONREAD, bytes(4)))


class Log:
    """What one run writes. `directory`: descriptor of the logs directory. `policy`: ``max_bytes`` (0: no rotation),
    ``max_files``, and perhaps ``held_bytes`` (0: any number) and ``kept`` (False: nothing is written). `null`: the null
    device. `goes_on`: the run was begun by another monitor. `on_loss` gets an errno and how many bytes were not written
    since the last word.

    The files are opened when there is something to write: making them is a good part of a start on some file systems."""

    def __init__(
        self,
        directory: int,
        container: str,
        policy: dict[str, Any],
        null: int,
        *,
        goes_on: bool = False,
        on_loss: Callable[[int, int], None] | None = None,
    ) -> None:
        self.directory, self.container, self.policy, self.null = directory, container, policy, null
        self.max_bytes: int = policy["max_bytes"]
        self.max_files: int = max(1, policy["max_files"])
        self.held_bytes: int = policy.get("held_bytes", HELD_BYTES)
        self.kept: bool = policy.get("kept", True)
        self.fd, self.size = -1, 0
        self.held = False
        """Some files in excess are held for readers: `trim` is to be called again."""
        self._index: Index | None = None
        self._begins = not goes_on
        self._highest = -1
        """Number of the oldest file; -1: not known yet."""
        self._limit = self.max_bytes
        self._next = 0, 0
        """Of a file that is made now: how many bytes came before it, and the serial of the one before."""
        self._born = 0.0
        self._unspliceable: set[int] = set()
        self._on_loss = on_loss
        self._lost_bytes = self._untold_bytes = 0
        """Since the last word about it in the index, and to `on_loss`."""
        self._problem, self._told_at = 0, 0.0
        self._now_ns = self._checked_ns = 0

    def pull(self, pipe: int, stream: int) -> bool | None:
        """Move what is in `pipe`: True if there was something, False at its end, None when it is empty for now. Raises
        OSError for a shortage of descriptors or memory: then nothing was taken."""
        try:
            if not self.kept:
                return self._take_away(pipe) > 0
            if self.fd < 0:
                events = _events(pipe)
                if not events & select.POLLIN:
                    return False if events else None
                self._open()
            if self._was_cut() or (self.max_bytes and self.size >= self._limit and _has_data(pipe)):
                self._rotate()
            most = min(_CHUNK, max(_PIPE_BUF, self._limit - self.size)) if self.max_bytes else _CHUNK
            if pipe in self._unspliceable:
                return self._copy(pipe, stream, most)
            moved = os.splice(pipe, self.fd, most, offset_dst=self.size, flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            return None
        except OSError as exc:
            return self._pull_in_trouble(pipe, stream, exc)
        self._wrote(moved, stream)
        return moved > 0

    def _pull_in_trouble(self, pipe: int, stream: int, exc: OSError) -> bool | None:
        """The disk is full or broken: the container must not stop for that. What it writes is counted and dropped."""
        problem = exc.errno or errno.EIO
        if problem == errno.EINVAL and self.fd >= 0 and pipe not in self._unspliceable:
            self._unspliceable.add(pipe)  # A terminal's master: splice(2) wants a pipe at one end.
            return self.pull(pipe, stream)
        if problem in _SHORTAGES:
            raise exc
        if problem == errno.ENOSPC and self.trim(all_held=True):
            return self.pull(pipe, stream)
        return self.discard(pipe, problem)

    def discard(self, pipe: int, problem: int) -> bool | None:
        """Drop what is in `pipe`, because of the errno `problem`; the result is as `pull`'s."""
        try:
            moved = self._take_away(pipe)
        except OSError:
            return None
        self._lose(moved, problem)
        return moved > 0

    def _take_away(self, pipe: int) -> int:
        if pipe in self._unspliceable:
            return len(_read(pipe))
        try:
            return os.splice(pipe, self.null, _CHUNK, flags=os.SPLICE_F_NONBLOCK)
        except OSError as exc:
            if exc.errno != errno.EINVAL:
                raise
            self._unspliceable.add(pipe)
            return len(_read(pipe))

    def _copy(self, source: int, stream: int, most: int) -> bool:
        """By reading and writing. What has been read and does not fit the disk is lost."""
        data = _read(source, most)
        written, problem = 0, 0
        try:
            while written < len(data):
                written += os.pwrite(self.fd, data[written:], self.size + written)
        except OSError as exc:
            problem = exc.errno or errno.EIO
        self._wrote(written, stream)
        if problem:
            self._lose(len(data) - written, problem)
        return bool(data)

    def _wrote(self, count: int, stream: int) -> None:
        index = self._index
        if not count or index is None:
            return
        if self._lost_bytes and index.add((self.size, 0, form.LOST, self._lost_bytes)):
            self._lost_bytes = 0
        if self._untold_bytes:
            self._tell()
        self._now_ns = now = time.time_ns()
        index.add((self.size, count, stream, now))
        self.size += count

    def _lose(self, count: int, problem: int) -> None:
        if count:
            self._lost_bytes += count
            self._untold_bytes += count
            self._problem = problem
            self._tell()

    def _tell(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if self._untold_bytes and self._on_loss is not None and (last or now - self._told_at >= _TELL_EVERY_S):
            self._on_loss(self._problem, self._untold_bytes)
            self._untold_bytes, self._told_at = 0, now

    def end(self) -> None:
        """The run has ended, and its pipes are empty."""
        if self._index is not None:
            if self._lost_bytes:
                self._index.add((self.size, 0, form.LOST, self._lost_bytes))
            self._index.add((self.size, 0, form.BREAK, time.time_ns()))
        self._tell(last=True)
        self.close()
        self.trim()

    def close(self) -> None:
        if self._index is not None:
            self._index.close()
            self._index = None
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    # The files.

    def _open(self) -> None:
        """The index first: a reader that finds the log finds it too."""
        try:
            self._index = index = Index(self.directory, self._name("idx"))
            self.fd = form.open_own(self._name("log"), os.O_CREAT | os.O_WRONLY, self.directory)
            self.size = os.fstat(self.fd).st_size
            if index.covered > self.size:
                self._part(index)
                return
            now = time.time_ns()
            if not index.size:
                before, serial = self._next
                self._born = self._born if before else time.monotonic()
                index.serial, index.before = form.serial_after(serial, now), before
                index.add((0, 0, form.SERIAL, index.serial), (0, 0, form.BEFORE, before))
            if index.covered < self.size:
                index.add((index.covered, self.size - index.covered, form.UNKNOWN, now))
            if self._begins and self.size + index.before:
                index.add((self.size, 0, form.BREAK, now))
            self._begins = False
            self.trim()
        except OSError:
            self.close()
            raise

    def _part(self, index: Index) -> None:
        """The index is of another file than the log: a rotation was killed between its last two renames, or somebody has
        cut the log, which is left alone then. Writing goes on in a new pair."""
        self._next = index.before + index.covered, index.serial
        self.close()
        if self._size_of("log", 1) >= 0 > self._size_of("idx", 1):
            self._rename("idx", 0)
        else:
            self._shift()
        self._open()

    def _name(self, kind: str, number: int = 0) -> str:
        return f"{self.container}.{kind}.{number}" if number else f"{self.container}.{kind}"

    def _was_cut(self) -> bool:
        """Somebody has truncated or deleted the file that we write to."""
        if os.lseek(self.fd, 0, os.SEEK_END) < self.size:  # Far cheaper than fstat.
            return True
        if self._now_ns - self._checked_ns < _CHECK_NS:
            return False
        self._checked_ns = self._now_ns
        return not os.fstat(self.fd).st_nlink

    def _rename(self, kind: str, number: int) -> None:
        with suppress(FileNotFoundError):
            names = self._name(kind, number), self._name(kind, number + 1)
            os.rename(*names, src_dir_fd=self.directory, dst_dir_fd=self.directory)

    def _shift(self) -> None:
        """All files get the next number. Raises OSError when something of somebody else's is in the way."""
        highest, self._highest = self._find_highest(), -1
        for number in range(highest, -1, -1):
            for kind in ("log", "idx"):
                self._rename(kind, number)

    def _rotate(self) -> None:
        assert self._index is not None
        self._next = self._index.before + self.size, self._index.serial
        self.close()
        with suppress(OSError):  # Then the file becomes larger, and the next rotation tries again.
            self._shift()
        self._open()
        each_held = (self.held_bytes or HELD_BYTES) // _MOST_HELD
        crowded = self._find_highest() >= self.max_files + _MOST_HELD
        self._limit = self.size + (max(self.max_bytes, each_held) if crowded else self.max_bytes)

    def _find_highest(self) -> int:
        if self._highest < 0:
            self._highest = number = 0
            while number < self._highest + _GAP:
                number += 1
                if any(self._size_of(kind, number) >= 0 for kind in ("log", "idx")):
                    self._highest = number
        return self._highest

    def _size_of(self, kind: str, number: int) -> int:
        """-1: there is none."""
        try:
            return os.stat(self._name(kind, number), dir_fd=self.directory, follow_symlinks=False).st_size
        except OSError:
            return -1

    def trim(self, *, all_held: bool = False) -> bool:
        """Delete the files in excess that nobody needs, oldest first; `all_held`: also those that somebody does. Whether
        any was."""
        self.held = False
        if not self.max_bytes:
            return False
        numbers = range(self._find_highest(), self.max_files - 1, -1)
        excess = sum(max(0, self._size_of("log", number)) for number in numbers)
        for number in numbers:
            too_much = all_held or 0 < self.held_bytes < excess
            if not too_much and self._is_needed(number):
                self.held = True
                break
            excess -= max(0, self._size_of("log", number))
            for kind in ("log", "idx"):
                with suppress(OSError):
                    os.unlink(self._name(kind, number), dir_fd=self.directory)
            self._highest = number - 1
        return bool(numbers) and self._highest < numbers[0]

    def _is_needed(self, number: int) -> bool:
        """Whether a reader has still to read this file, or one before it."""
        try:
            index = form.open_own(self._name("idx", number), os.O_RDONLY, self.directory)
        except OSError:
            serial = 0
        else:
            serial, _ = form.head_of(index)
            os.close(index)
        first = form.place_of(self.container)
        young = self._born and time.monotonic() - self._born < _YOUNG_S
        try:
            if rangelocks.is_held(self.directory, first, form.place_of(self.container, serial) - first + 1):
                return True
            return bool(young) and rangelocks.is_held(self.directory, form.EVERYTHING)
        except OSError:  # A file system that has no locks.
            return False


def _read(source: int, most: int = _CHUNK) -> bytes:
    """From a terminal's master. Its end is an error: nobody has the terminal open any more."""
    try:
        return os.read(source, most)
    except OSError as exc:
        if exc.errno == errno.EIO:
            return b""
        raise
