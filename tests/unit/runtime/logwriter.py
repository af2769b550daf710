"""The monitor's `Log`, fed by pipes, for tests of what it writes and of who reads it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from orchestrator.runtime.monitor.logfile import Log


class Writer:
    """`losses`: what it told of what it could not write."""

    def __init__(self, directory: Path, max_bytes: int = 0, max_files: int = 3, **policy: Any) -> None:
        self.directory = os.open(directory, os.O_RDONLY)
        self.null = os.open("/dev/null", os.O_WRONLY)
        self.policy = {"max_bytes": max_bytes, "max_files": max_files, **policy}
        self.losses: list[tuple[int, int]] = []
        self.log = self._new()

    def _new(self, *, goes_on: bool = False) -> Log:
        def lost(problem: int, count: int) -> None:
            self.losses.append((problem, count))

        return Log(self.directory, "box", self.policy, self.null, goes_on=goes_on, on_loss=lost)

    def write(self, data: bytes, stream: int = 1) -> None:
        for start in range(0, len(data), 60_000):
            reader, writer = os.pipe()
            os.write(writer, data[start : start + 60_000])
            os.close(writer)
            while self.log.pull(reader, stream):
                pass
            os.close(reader)

    def reopen(self) -> None:
        """The monitor was killed, and another one goes on with the same run."""
        self.log.close()
        self.log = self._new(goes_on=True)

    def next_run(self) -> None:
        self.log.end()
        self.log = self._new()

    def close(self) -> None:
        self.log.close()
        os.close(self.directory)
        os.close(self.null)
