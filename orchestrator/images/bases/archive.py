"""A .deb: its two archives, unpacked by dpkg-deb(1) in a process of its own."""

from __future__ import annotations

import os
import subprocess
from collections import deque
from collections.abc import Iterator, Sequence
from typing import BinaryIO, cast

from orchestrator.errors import OperationError
from orchestrator.images.bases.dpkg import Control, parse_control
from orchestrator.images.unpack.entries import Kind
from orchestrator.images.unpack.limits import Limits
from orchestrator.images.unpack.reading import read_entries
from orchestrator.values import entity

_AHEAD = 4
_PIPE_BYTES = 1 << 20
_MOST_CONTROL_BYTES = 16 << 20


class Stream:
    """One of a .deb's archives as a tar stream: `with` gives the stream, and ends with the error that dpkg-deb met. Its
    process runs ahead as far as the pipe holds."""

    def __init__(self, path: str, part: str = "--fsys-tarfile") -> None:
        self._path = path
        self._process = subprocess.Popen(
            ["dpkg-deb", part, path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pipesize=_PIPE_BYTES,
        )

    def __enter__(self) -> BinaryIO:
        assert self._process.stdout is not None
        return cast(BinaryIO, self._process.stdout)

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self.end()
            return
        assert self._process.stdout is not None
        while self._process.stdout.read(_PIPE_BYTES):
            pass  # what pads the archive
        self._process.stdout.close()
        if self._process.wait() != 0:
            raise OperationError(f"the package {self._path} is damaged", hint="delete it; it is fetched again")

    def end(self) -> None:
        self._process.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process.wait()


@entity
class Package:
    """A .deb whose two archives are being read."""

    path: str
    control: Stream
    tree: Stream

    def read_control(self) -> Control:
        """Raises OperationError."""
        files = {}
        with self.control as stream:
            for entry, data in read_entries(stream, Limits(bytes=_MOST_CONTROL_BYTES, entries=1000)):
                if entry.kind is Kind.FILE:
                    files[os.path.basename(os.fsdecode(entry.path))] = data.read(entry.data_bytes)
        try:
            return parse_control(files)
        except ValueError as exc:
            hint = "delete it; it is fetched again"
            raise OperationError(f"the package {self.path} is damaged: {exc}", hint=hint) from exc

    def end(self) -> None:
        self.control.end()
        self.tree.end()


def opened(archives: Sequence[str]) -> Iterator[Package]:
    """Each of them, in order; some are decompressed ahead. All processes have ended when the caller is done or stops."""
    ahead: deque[Package] = deque()
    rest = iter(archives)
    current: Package | None = None
    try:
        while True:
            while len(ahead) < _AHEAD and (path := next(rest, None)) is not None:
                ahead.append(Package(path, Stream(path, "--ctrl-tarfile"), Stream(path)))
            if not ahead:
                return
            current = ahead.popleft()
            yield current
    finally:
        for package in (*ahead, *([current] if current is not None else [])):
            package.end()
