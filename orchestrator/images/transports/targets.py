"""Where images are written to: a tar file or a directory, made beside its place and renamed when it is whole."""

from __future__ import annotations

import os
import stat
import tarfile
from contextlib import suppress
from types import TracebackType
from typing import BinaryIO

from orchestrator.errors import InputError
from orchestrator.images.store.places import refused
from orchestrator.images.transports.sources import Check
from orchestrator.kernel.atomic import replace_file
from orchestrator.kernel.trees import remove_tree

_CHUNK = 1 << 20


class Target:
    """A context manager: what was written counts after it was left without an error, and nothing of it after one."""

    def __init__(self, path: str, check: Check | None) -> None:
        self.path = os.path.abspath(path)
        folder, name = os.path.split(self.path)
        self.beside = os.path.join(folder, f".{name[:200]}.partial-{os.urandom(4).hex()}")
        self.check = check

    def __enter__(self) -> Target:
        with refused(f"write {self.path}"):
            self.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if exc is None:
                with refused(f"write {self.path}"):
                    self.finish()
        finally:
            self.drop()

    def begin(self) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        raise NotImplementedError

    def drop(self) -> None:
        """Remove what is not finished."""
        raise NotImplementedError

    def existing(self, path: str) -> bytes | None:
        """A small file of what is being extended; None if there is none."""
        raise NotImplementedError

    def add(self, path: str, data: bytes) -> None:
        raise NotImplementedError

    def copy(self, path: str, source: str) -> None:
        """A file of the store's."""
        raise NotImplementedError


class Tar(Target):
    """A new tar file; a regular one that is there is replaced, also behind a symbolic link. A pipe or a device is never
    replaced but written to, and so is `out`, which stays open."""

    def __init__(self, path: str, check: Check | None, out: BinaryIO | None = None) -> None:
        self._replaces = out is None and not _is_stream(path)
        super().__init__(os.path.realpath(path) if self._replaces else path, check)
        self._out = out

    def begin(self) -> None:
        self._directories: set[str] = set()
        if self._out is not None:
            self._file = self._out
        else:
            self._file = open(self.beside if self._replaces else self.path, "wb")  # noqa: SIM115

    def finish(self) -> None:
        self._file.write(bytes(2 * tarfile.BLOCKSIZE))
        self._file.flush()
        if self._replaces:
            os.fsync(self._file.fileno())
            os.rename(self.beside, self.path)

    def drop(self) -> None:
        if self._out is None:
            with suppress(OSError):
                self._file.close()
        if self._replaces:
            with suppress(FileNotFoundError):
                os.unlink(self.beside)

    def existing(self, path: str) -> bytes | None:
        return None

    def add(self, path: str, data: bytes) -> None:
        with refused(f"write {self.path}"):
            self._header(path, len(data))
            self._file.write(data + bytes(-len(data) % tarfile.BLOCKSIZE))

    def copy(self, path: str, source: str) -> None:
        with refused(f"write {self.path}"), open(source, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            self._header(path, size)
            _copy(file, self._file, self.check)
            self._file.write(bytes(-size % tarfile.BLOCKSIZE))

    def _header(self, path: str, size: int) -> None:
        above = ""
        for part in path.split("/")[:-1]:
            above = f"{above}{part}/"
            if above not in self._directories:
                self._directories.add(above)
                self._write(above, tarfile.DIRTYPE, 0o755, 0)
        self._write(path, tarfile.REGTYPE, 0o644, size)

    def _write(self, path: str, kind: bytes, mode: int, size: int) -> None:
        header = tarfile.TarInfo(path)
        header.type, header.mode, header.size = kind, mode, size
        self._file.write(header.tobuf(tarfile.GNU_FORMAT))


class Folder(Target):
    """A directory. One that is there must be empty, or (if it may be `extended`) have the file `last`: then each file is
    added whole, `last` after all others, since what it names is what counts."""

    def __init__(self, path: str, last: str, check: Check | None, *, extended: bool) -> None:
        super().__init__(path, check)
        self._last = last
        self._ending: bytes | None = None
        self._extended = extended

    def begin(self) -> None:
        if os.path.lexists(self.path) and not os.path.isdir(self.path):
            raise InputError(f"{self.path} is not a directory")
        self._there = os.path.isdir(self.path) and bool(os.listdir(self.path))
        if self._there and not (self._extended and os.path.isfile(os.path.join(self.path, self._last))):
            raise InputError(f"{self.path} is not empty", hint="name a directory that does not exist yet")
        self._root = self.path if self._there else self.beside
        if not self._there:
            os.mkdir(self._root, 0o755)

    def finish(self) -> None:
        assert self._ending is not None, "a folder has a last file"
        self._place(self._last, self._ending)
        if not self._there:
            os.rename(self.beside, self.path)

    def drop(self) -> None:
        remove_tree(self.beside)

    def existing(self, path: str) -> bytes | None:
        with refused(f"read {self.path}"), suppress(FileNotFoundError), open(os.path.join(self._root, path), "rb") as file:
            return file.read()
        return None

    def add(self, path: str, data: bytes) -> None:
        if path == self._last:
            self._ending = data
            return
        with refused(f"write {self.path}"):
            self._place(path, data)

    def copy(self, path: str, source: str) -> None:
        target = os.path.join(self._root, path)
        with refused(f"write {self.path}"), open(source, "rb", buffering=0) as file:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            partial = os.path.join(os.path.dirname(target), f".partial-{os.urandom(4).hex()}")
            try:
                with open(partial, "xb", buffering=0) as copy:
                    _copy(file, copy, self.check)
                os.rename(partial, target)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(partial)

    def _place(self, path: str, data: bytes) -> None:
        target = os.path.join(self._root, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        replace_file(target, data, durable=False, mode=0o644)


def _is_stream(path: str) -> bool:
    """Whether what is at `path` takes data as it comes. Raises InputError for a directory."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise InputError(f"{path} is a directory", hint="name a file, or write oci:DIR")
    return not stat.S_ISREG(mode)


def _copy(source: BinaryIO | object, target: BinaryIO | object, check: Check | None) -> None:
    while data := source.read(_CHUNK):  # type: ignore[union-attr]
        if check is not None:
            check()
        view = memoryview(data)
        while view:
            view = view[target.write(view) :]  # type: ignore[union-attr]
