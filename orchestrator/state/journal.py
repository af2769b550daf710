"""The event log of a project: ``events.jsonl``, one event a line, so that `why` and `events` outlive a supervisor.

At 4 MiB the file becomes ``events.jsonl.1`` and a new one begins; readers see both. Losing its tail in a power cut is
acceptable, so nothing is synced.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterator

from orchestrator.contracts.events import Event
from orchestrator.contracts.site import Site
from orchestrator.model.codec import from_json, to_json

_MAX_BYTES = 4 << 20


class EventLog:
    """Appends and reads events. Appending never raises: a full disk must not stop the supervision of containers."""

    def __init__(self, site: Site) -> None:
        self._path = os.path.join(site.data_dir, "events.jsonl")
        self._fd: int | None = None
        self._size = 0

    def append(self, event: Event) -> None:
        data = json.dumps(to_json(event)).encode() + b"\n"
        try:
            if self._fd is None or self._size > _MAX_BYTES:
                self._open()
            assert self._fd is not None
            self._size += os.write(self._fd, data)
        except OSError:
            self.close()

    def read(self) -> Iterator[Event]:
        """All events still kept, oldest first; lines that do not parse are passed over."""
        for path in (f"{self._path}.1", self._path):
            try:
                with open(path, "rb") as file:
                    for line in file:
                        try:
                            yield from_json(Event, json.loads(line))
                        except ValueError:
                            continue
            except FileNotFoundError:
                continue

    def tail(self, service: str, count: int) -> tuple[Event, ...]:
        """The last `count` events about `service`."""
        return tuple(deque((event for event in self.read() if event.service == service), maxlen=count))

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self) -> None:
        if self._fd is not None:
            self.close()
            os.replace(self._path, f"{self._path}.1")
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._size = os.fstat(self._fd).st_size
