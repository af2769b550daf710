"""The index beside a log file: who wrote which bytes when, and marks (`logformat`). The writer's half."""

from __future__ import annotations

import os

from orchestrator.runtime.monitor.logformat import RECORD, head_of, open_own


class Index:
    """Opened, made if there is none. What a full disk has cut off at its end is written over by the next record, so that a
    record always begins at a multiple of its size. Raises OSError."""

    def __init__(self, directory: int, name: str) -> None:
        self.fd = open_own(name, os.O_CREAT | os.O_RDWR, directory)
        try:
            length = os.fstat(self.fd).st_size
            self.size = length - length % RECORD.size
            if self.size != length:
                os.ftruncate(self.fd, self.size)
            self.covered = 0
            """How much of the log its records cover."""
            if self.size:
                offset, covers, _, _ = RECORD.unpack(os.pread(self.fd, RECORD.size, self.size - RECORD.size))
                self.covered = offset + covers
            self.serial, before = head_of(self.fd)
            self.before = before or 0
        except OSError:
            self.close()
            raise

    def add(self, *records: tuple[int, int, int, int]) -> bool:
        """Whether they were written; False: the disk is full or broken. The next one to open the log makes good for it."""
        data = RECORD.pack(*records[0]) if len(records) == 1 else b"".join(RECORD.pack(*record) for record in records)
        try:
            written = os.pwrite(self.fd, data, self.size)
        except OSError:
            return False
        self.size += written - written % RECORD.size
        return written == len(data)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
