"""A .deb: its two archives, unpacked by dpkg-deb(1) in a process of its own."""

from __future__ import annotations

import io
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

_AHEAD = 4
_PIPE_BYTES = 1 << 20
_MOST_CONTROL_BYTES = 16 << 20


class Package:
    """A .deb's tree as a tar stream: `with` gives the stream, and ends with the error that dpkg-deb met."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._process = subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", path],
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


def opened(archives: Sequence[str]) -> Iterator[tuple[str, Package]]:
    """Each archive with its tar stream, in order; some are decompressed ahead, each in a process of its own. All are ended
    when the caller stops."""
    ahead: deque[tuple[str, Package]] = deque()
    rest = iter(archives)
    try:
        while True:
            while len(ahead) < _AHEAD and (path := next(rest, None)) is not None:
                ahead.append((path, Package(path)))
            if not ahead:
                return
            yield ahead.popleft()
    finally:
        for _, package in ahead:
            package.end()


def read_control(path: str) -> Control:
    done = subprocess.run(["dpkg-deb", "--ctrl-tarfile", path], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    files = {}
    if done.returncode == 0:
        for entry, data in read_entries(io.BytesIO(done.stdout), Limits(bytes=_MOST_CONTROL_BYTES, entries=1000)):
            if entry.kind is Kind.FILE:
                files[os.path.basename(os.fsdecode(entry.path))] = data.read(entry.data_bytes)
    try:
        return parse_control(files)
    except ValueError as exc:
        raise OperationError(f"the package {path} is damaged: {exc}", hint="delete it; it is fetched again") from exc
