"""``blobs/`` and ``ingest/``: content by its digest. A blob is verified before it gets its name, and read-only after."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import BinaryIO

from orchestrator.errors import OperationError
from orchestrator.images.spec.digest import Digest, digest_of, short
from orchestrator.images.store.locks import STORE, Locks
from orchestrator.images.store.places import Places, refused
from orchestrator.images.store.workshop import Workshop

_CHUNK = 1 << 20


class Ingest:
    """What comes of one blob, while nobody else fetches the same (`Blobs.ingest`). Leaving it without `commit` keeps what
    came for the next one. `present`: there is nothing to do. `offset`: bytes that are there."""

    def __init__(
        self, places: Places, locks: Locks, of: Digest, size: int | None, on_wait: Callable[[], None] | None
    ) -> None:
        self.digest = of
        self.present = False
        self.offset = 0
        self._places = places
        self._locks = locks
        self._size = size
        self._path = places.ingest(of)
        self._lock = locks.hold(lock_of(of), on_wait=on_wait)
        self._hash = _hash_of(of)
        self._file: BinaryIO | None = None

    def __enter__(self) -> Ingest:
        self._lock.__enter__()
        try:
            self.present = os.path.isfile(self._places.blob(self.digest))
            if not self.present:
                with refused(f"write {self._path}"):
                    self._begin()
        except BaseException:
            self._close()
            self._lock.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self._close()
        self._lock.__exit__(None, None, None)

    def write(self, data: bytes) -> int:
        """Raises OperationError for more than the blob's size, HostError when the disk is full: what fitted is kept."""
        if self._size is not None and self.offset + len(data) > self._size:
            self._drop()
            raise OperationError(f"blob {short(self.digest)} is longer than the {self._size} bytes that were announced")
        with refused(f"write {self._path}"):
            view = memoryview(data)
            while view:
                done = self._open_file.write(view)
                self._hash.update(view[:done])
                self.offset += done
                view = view[done:]
        return len(data)

    def restart(self) -> None:
        """Begin anew: from a server without ranges everything comes again."""
        with refused(f"write {self._path}"):
            self._open_file.seek(0)
            self._open_file.truncate()
        self._hash = _hash_of(self.digest)
        self.offset = 0

    def commit(self) -> str:
        """The blob's path. Raises OperationError if what came is not what the digest says: it is thrown away."""
        path = self._places.blob(self.digest)
        if self.present:
            return path
        if self._size is not None and self.offset != self._size:
            raise OperationError(f"of blob {short(self.digest)} came {self.offset} bytes of {self._size}")
        algorithm = self.digest.partition(":")[0]
        if (found := f"{algorithm}:{self._hash.hexdigest()}") != self.digest:
            self._drop()
            raise OperationError(f"blob {self.digest} is something else: what came has the digest {found}")
        with refused(f"write {path}"):
            settle(self._places, self._locks, self._open_file.fileno(), self._path, path)
        self.present = True
        return path

    @property
    def _open_file(self) -> BinaryIO:
        assert self._file is not None, "an Ingest is written to while it is entered, unless it is present"
        return self._file

    def _begin(self) -> None:
        """Open what is there, and bring the hash to where it ends."""
        self._places.ensure("ingest")
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = open(os.open(self._path, flags, 0o600), "r+b", buffering=0)  # noqa: SIM115
        while data := self._file.read(_CHUNK):
            self._hash.update(data)
            self.offset += len(data)
        if self._size is not None and self.offset > self._size:
            self.restart()

    def _drop(self) -> None:
        with refused(f"delete {self._path}"):
            os.unlink(self._path)
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            if self.offset == 0 and not self.present:
                with refused(f"delete {self._path}"), suppress(FileNotFoundError):
                    os.unlink(self._path)


class Spool:
    """A blob whose digest is known when it is there (`Blobs.spool`). Leaving it without `commit` leaves nothing."""

    def __init__(self, places: Places, locks: Locks, workshop: Workshop) -> None:
        self.size = 0
        self._places = places
        self._locks = locks
        self._workshop = workshop
        self._hash = hashlib.sha256()

    def __enter__(self) -> Spool:
        self._directory = self._workshop.make()
        self.path = os.path.join(self._directory, "blob")
        with refused(f"write {self.path}"):
            self._file = open(self.path, "xb", buffering=0)
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
        self._workshop.discard(self._directory)

    def write(self, data: bytes) -> int:
        with refused(f"write {self.path}"):
            view = memoryview(data)
            while view:
                done = self._file.write(view)
                self._hash.update(view[:done])
                view = view[done:]
        self.size += len(data)
        return len(data)

    @property
    def digest(self) -> Digest:
        """Of what was written until now."""
        return Digest(f"sha256:{self._hash.hexdigest()}")

    def commit(self) -> Digest:
        of = self.digest
        path = self._places.blob(of)
        with refused(f"write {path}"), self._locks.hold(lock_of(of)):
            if not os.path.isfile(path):
                settle(self._places, self._locks, self._file.fileno(), self.path, path)
        return of


class Blobs:
    def __init__(self, places: Places, locks: Locks, workshop: Workshop) -> None:
        self._places = places
        self._locks = locks
        self._workshop = workshop

    def path(self, of: Digest) -> str | None:
        path = self._places.blob(of)
        return path if os.path.isfile(path) else None

    def read(self, of: Digest, most_bytes: int) -> bytes:
        path = self._places.blob(of)
        with refused(f"read {path}"):
            try:
                with open(path, "rb") as file:
                    data = file.read(most_bytes + 1)
            except FileNotFoundError:
                raise OperationError(f"blob {of} is not there", hint="pull the image again") from None
        if len(data) > most_bytes:
            raise OperationError(f"blob {short(of)} has more than {most_bytes} bytes")
        check = _hash_of(of)
        check.update(data)
        if check.hexdigest() != of.partition(":")[2]:
            self.lose(of)
            raise OperationError(f"{path} is damaged and was removed", hint="pull the image again")
        return data

    def intact(self, of: Digest) -> bool:
        """Whether the blob on the disk still is what it was; one that is not is removed, which is told. Reads all of it."""
        check = _hash_of(of)
        with refused(f"read {self._places.blob(of)}"), open(self._places.blob(of), "rb") as file:
            while data := file.read(_CHUNK):
                check.update(data)
        if check.hexdigest() == of.partition(":")[2]:
            return True
        self.lose(of)
        return False

    def lose(self, of: Digest) -> None:
        """Take a damaged blob away, so that the next pull brings it again."""
        path = self._places.blob(of)
        with refused(f"remove {path}"):
            self._places.trash(path)
        self._places.tell(path, "is damaged", "it was removed: pull the image again")

    def ingest(self, of: Digest, size: int | None, on_wait: Callable[[], None] | None = None) -> Ingest:
        return Ingest(self._places, self._locks, of, size, on_wait)

    def spool(self) -> Spool:
        return Spool(self._places, self._locks, self._workshop)

    def add(self, data: bytes, of: Digest | None = None) -> Digest:
        """`of`: its digest, if it is to be another than SHA-256; checked."""
        of = of or digest_of(data)
        with self.ingest(of, len(data)) as ingest:
            if not ingest.present:
                if ingest.offset:
                    ingest.restart()
                ingest.write(data)
                ingest.commit()
        return of


def lock_of(of: Digest) -> str:
    """The name of a blob's lock."""
    return "blob-" + of.replace(":", "-")


def settle(places: Places, locks: Locks, fd: int, beside: str, path: str) -> None:
    """Give a whole file its name: on the disk first, read-only. Raises OSError."""
    os.fchmod(fd, 0o400)
    os.fsync(fd)
    algorithm = os.path.basename(os.path.dirname(path))
    with locks.hold(STORE, shared=True):
        places.ensure(f"blobs/{algorithm}")
        os.rename(beside, path)
    sync_directory(os.path.dirname(path))


def sync_directory(path: str) -> None:
    """The names in it are on the disk. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _hash_of(of: Digest) -> hashlib._Hash:
    return hashlib.new(of.partition(":")[0])
