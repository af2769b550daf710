"""The event log of a project: ``events.jsonl``, one event a line, so that `why` and `events` outlive a supervisor.

    {"version": 2, "kind": "container.started", "text": ..., "at": ..., "service": ..., "container": ..., "detail": {...}}

At 4 MiB the file becomes ``events.jsonl.1`` and a new one begins; readers see both. Losing its tail in a power cut is
acceptable, so nothing is synced.

Both files together hold some 45,000 events, which take two seconds to parse. Readers go from the end backwards, stop when
they have enough, and parse only lines in which the bytes of what is asked for stand. They hold no lock and open files of
their own, so they may run in a worker thread while the supervisor appends.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, suppress

from orchestrator.contracts.events import Event, EventKind
from orchestrator.contracts.site import Site
from orchestrator.errors import HostError, access_hint
from orchestrator.kernel.plain import open_plain
from orchestrator.kernel.sealed import VERSION, version_of
from orchestrator.model.codec import from_json, to_json
from orchestrator.state.backwards import lines_backwards
from orchestrator.state.directory import EVENTS, EVENTS_BEFORE
from orchestrator.state.versions import upgraded
from orchestrator.values import frozen

_MAX_BYTES = 4 << 20
CLOCK_SLACK_S = 60.0
"""How far the wall clock may have been set back between two events without `since` missing any."""
_OPERATION = b'"operation.'
_AT = b'"at": '
"""Within text its quotes are escaped, so that the first one in a line is the event's own."""


def text_of(event: Event) -> bytes:
    """A JSON object, as the log and the control protocol have it: made once for both."""
    return json.dumps(to_json(event)).encode()


class EventLog:
    """Appends and reads events. Appending never raises: a full disk must not stop the supervision of containers. Reading
    passes over lines that do not parse and raises HostError when the disk refuses."""

    def __init__(self, site: Site) -> None:
        self._path = os.path.join(site.data_dir, EVENTS)
        self._before = os.path.join(site.data_dir, EVENTS_BEFORE)
        self._fd: int | None = None
        self._size = 0

    def append(self, event: Event, text: bytes | None = None) -> None:
        """`text`: its `text_of`, where that has been made."""
        data = b'{"version": %d, %s\n' % (VERSION, (text or text_of(event))[1:])
        try:
            if self._fd is None or self._size > _MAX_BYTES:
                self._open()
            assert self._fd is not None
            self._size += os.write(self._fd, data)
        except OSError:
            self.close()

    def tail(self, count: int, *, services: Collection[str] = (), containers: Collection[str] = ()) -> tuple[Event, ...]:
        """The last `count` events about any of these, oldest first."""
        wanted = [json.dumps(name).encode() for name in {*services, *containers}]
        found: list[Event] = []
        with ExitStack() as stack:
            for file in self._files(stack):
                for _, line in lines_backwards(file.fd, file.end):
                    if len(found) == count:
                        return tuple(reversed(found))
                    if not any(name in line for name in wanted) or (event := _parse(line)) is None:
                        continue
                    if event.service in services or event.container in containers:
                        found.append(event)
        return tuple(reversed(found))

    def since(self, at: float) -> Iterator[Event]:
        """The events from `at` on (epoch seconds), oldest first: those that were there at the first step. Each is parsed
        when it is asked for."""
        with ExitStack() as stack:
            parts: list[tuple[_Open, int]] = []
            for file in self._files(stack):
                first, found = _first_since(file, at)
                parts.insert(0, (file, first))
                if found:
                    break
            for file, first in parts:
                for line in _lines(file, first):
                    if (event := _parse(line)) is not None and event.at >= at:
                        yield event

    def last_operation(self, wanted: Callable[[Event], bool]) -> tuple[Event, ...]:
        """The events from the start of the last operation on that `wanted` takes, oldest first; none when there is no such
        operation. One that was under way when that began is in it from its own start on."""
        lines: list[bytes] = []
        open_ones, found = 0, False
        with ExitStack() as stack:
            for file in self._files(stack):
                for _, line in lines_backwards(file.fd, file.end):
                    lines.append(line)
                    if _OPERATION not in line or (event := _parse(line)) is None:
                        continue
                    if event.kind is EventKind.OPERATION_FINISHED:
                        open_ones += 1
                    elif event.kind is EventKind.OPERATION_STARTED:
                        # One that a supervisor's death has ended never says that it has.
                        open_ones = max(0, open_ones - 1)
                        found = found or wanted(event)
                        if found and not open_ones:
                            return tuple(event for line in reversed(lines) if (event := _parse(line)) is not None)
        return tuple(event for line in reversed(lines) if (event := _parse(line)) is not None) if found else ()

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self) -> None:
        if self._fd is not None:
            self.close()
            os.replace(self._path, self._before)
        self._fd = open_plain(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        self._size = os.fstat(self._fd).st_size
        if self._size and os.pread(self._fd, 1, self._size - 1) != b"\n":
            self._size += os.write(self._fd, b"\n")  # A power cut tore the last line.

    def _files(self, stack: ExitStack) -> list[_Open]:
        """The newer file, then the older one, open until `stack` ends. Opened in this order: if the newer one is moved in
        between, it is met again and known by its inode; in the other order it would be missed."""
        files: list[_Open] = []
        seen = None
        for path in (self._path, self._before):
            try:
                fd = open_plain(path, os.O_RDONLY)
            except FileNotFoundError:
                continue
            except OSError as exc:
                raise HostError(f"cannot read {path}: {exc.strerror}", hint=access_hint(exc)) from exc
            stack.callback(os.close, fd)
            info = os.fstat(fd)
            if seen is None or not os.path.samestat(seen, info):
                files.append(_Open(fd, info.st_size))
            seen = info
        return files


@frozen
class _Open:
    """A file of the log; what is appended after `end` is not looked at."""

    fd: int
    end: int


def _first_since(file: _Open, at: float) -> tuple[int, bool]:
    """Where the first line is that may be from `at` on, and whether there are older ones before it: two of them, since the
    time of one may be damaged."""
    first, older = file.end, 0
    for offset, line in lines_backwards(file.fd, file.end):
        if (stamp := _stamp(line)) is None:
            continue
        older = older + 1 if stamp < at - CLOCK_SLACK_S else 0
        if older == 2:
            return first, True
        if older == 0:
            first = offset
    return (first if older else 0), False


def _lines(file: _Open, start: int) -> Iterator[bytes]:
    with os.fdopen(os.dup(file.fd), "rb") as reader:
        reader.seek(start)
        while start < file.end and (line := reader.readline()):
            start += len(line)
            yield line


def _stamp(line: bytes) -> float | None:
    """The event's time without parsing the line; None for a damaged line."""
    start = line.find(_AT)
    if start >= 0:
        with suppress(ValueError):
            return float(line[start + len(_AT) : line.find(b",", start)])
    return None


def _parse(line: bytes) -> Event | None:
    try:
        data = json.loads(line)
        version = version_of(data)
        return from_json(Event, upgraded("event", data, version)) if version <= VERSION else None
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError):
        return None
