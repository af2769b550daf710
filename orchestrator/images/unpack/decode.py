"""A compressed stream as the stream that was compressed, with its digest.

Three threads, so that two processors are busy (Python gives its lock back in zlib, in hashlib and in system calls): one
reads and unpacks, one computes the digest, and the caller's uses the data. They are joined by channels that hold a few
chunks. Whoever ends first, by an error or because it has enough, closes the channels, at which the others end too; the
caller waits for them.
"""

from __future__ import annotations

import bz2
import contextlib
import hashlib
import io
import lzma
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Protocol

from orchestrator.errors import HostError, OperationError
from orchestrator.images.unpack.channel import Channel, Closed
from orchestrator.images.unpack.limits import DEFAULT, Limits
from orchestrator.images.unpack.reading import over
from orchestrator.images.unpack.tarformat import BLOCK, bad, is_header

CHUNK = 1 << 18
"""Small enough for a processor's cache, in which it is hashed and used."""
_READ = 1 << 18
_CHUNKS_AHEAD = 16
_RATIO_FROM_BYTES = 128 << 20
_OVERHEAD_BYTES = 4096
"""What an entry may take of the stream beside its data, on average."""
_WINDOW_LOG = 27
"""Of zstd: 128 MiB, what ``zstd -d`` accepts."""
_XZ_MEMORY_BYTES = 128 << 20
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_XZ_MAGIC = b"\xfd7zXZ\0"


class Decompressor(Protocol):
    """One member of a stream, as `bz2.BZ2Decompressor` does it."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Gzip:
    """`zlib`'s object (or isal's, which is faster) with the interface of the others. Checks the CRC."""

    def __init__(self) -> None:
        try:
            from isal import isal_zlib
        except ImportError:
            self._object: Any = zlib.decompressobj(wbits=31)
        else:
            self._object = isal_zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return bool(self._object.eof)

    @property
    def needs_input(self) -> bool:
        return not self._object.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return bytes(self._object.unused_data)

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        tail = self._object.unconsumed_tail
        return bytes(self._object.decompress(tail + data if tail else data, max_length))


def _zstd() -> Decompressor:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        from backports import zstd
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG})  # type: ignore[no-any-return,unused-ignore]


def _xz() -> Decompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)


def _is_zstd(head: bytes) -> bool:
    skippable = head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5
    return head[:4] == _ZSTD_MAGIC or (len(head) >= 4 and skippable)


_FORMATS: tuple[tuple[str, Callable[[bytes], bool], Callable[[], Decompressor]], ...] = (
    ("gzip", lambda head: head[:2] == b"\x1f\x8b", _Gzip),
    ("zstd", _is_zstd, _zstd),
    ("xz", lambda head: head[:6] == _XZ_MAGIC, _xz),
    ("bzip2", lambda head: head[:3] == b"BZh", bz2.BZ2Decompressor),
)


def unpacked(blob: BinaryIO, limits: Limits) -> Iterator[tuple[bytes, int]]:
    """Chunks of what is in `blob`, each with the number of compressed bytes that were read for it. Raises as `decoded`."""
    head = _read(blob, BLOCK)
    total = used = 0
    most = limits.bytes + _OVERHEAD_BYTES * limits.entries + CHUNK
    for chunk, read in _chunks(head, blob):
        total, used = total + len(chunk), used + read
        if total > most:
            raise over(f"it unpacks to more than {total} bytes", "bytes", limits.bytes)
        if total > _RATIO_FROM_BYTES and total > used * limits.ratio:
            raise over(f"it unpacks to {total} bytes from {used}", "ratio", limits.ratio)
        yield chunk, read


def _chunks(head: bytes, blob: BinaryIO) -> Iterator[tuple[bytes, int]]:
    if not is_header(head):  # The name of a first file may look like anything.
        for name, known, make in _FORMATS:
            if known(head):
                yield from _members(name, known, make, head, blob)
                return
    while head:
        yield head, len(head)
        head = blob.read(CHUNK)


def _members(
    name: str, known: Callable[[bytes], bool], make: Callable[[], Decompressor], data: bytes, blob: BinaryIO
) -> Iterator[tuple[bytes, int]]:
    """Member after member; what follows the last one and is none, is ignored."""
    unpacker, read = make(), len(data)
    while True:
        try:
            chunk = unpacker.decompress(data, CHUNK)
        except Exception as exc:  # Each library has its own; all that they say here is that the data is wrong.
            raise _damaged(name, str(exc)) from exc
        if chunk or read:
            yield chunk, read
        data, read = b"", 0
        if unpacker.eof:
            data = unpacker.unused_data.lstrip(b"\0")
            while len(data) < len(_XZ_MAGIC) and (more := blob.read(_READ)):
                data, read = (data + more).lstrip(b"\0"), read + len(more)
            if not known(data):
                for more in iter(lambda: blob.read(_READ), b""):
                    read += len(more)
                yield b"", read
                return
            unpacker = make()
        elif unpacker.needs_input:
            data = blob.read(_READ)
            read = len(data)
            if not data:
                raise _damaged(name, "it ends in the middle")


def _damaged(name: str, reason: str) -> OperationError:
    return bad(f"the {name} data is damaged: {reason}")


def _read(blob: BinaryIO, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := blob.read(size - len(data))):
        data += more
    return data


class Decoded(io.RawIOBase):
    """The unpacked stream."""

    def __init__(self, chunks: Iterator[tuple[bytes, int]], on_bytes: Callable[[int], None] | None) -> None:
        self._chunks = chunks
        self._on_bytes = on_bytes
        self._data, self._hashed = Channel(_CHUNKS_AHEAD), Channel(_CHUNKS_AHEAD)
        self._chunk, self._at, self._ended = b"", 0, False
        self._hash = hashlib.sha256()
        self._threads = [
            threading.Thread(target=self._unpack, name="unpack", daemon=True),
            threading.Thread(target=self._digest, name="digest", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        """At most `size` bytes, often less; b"" at the end."""
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(CHUNK), b""))
        if self._at >= len(self._chunk) and not self._next():
            return b""
        chunk, at = self._chunk, self._at
        if at == 0 and size >= len(chunk):
            self._at = len(chunk)
            return chunk
        self._at = at + size
        return chunk[at : at + size]

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def drain(self) -> str:
        """Read and drop the rest; the digest of all the unpacked bytes (a diffID: ``sha256:HEX``)."""
        while self._next():
            pass
        self._threads[1].join()
        return f"sha256:{self._hash.hexdigest()}"

    def stop(self) -> None:
        """End both threads, and wait for that."""
        self._data.close()
        self._hashed.close()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _next(self) -> bool:
        """The next chunk that is not empty. False at the end."""
        while not self._ended:
            item = self._data.get()
            if item is None:
                self._ended = True
            elif isinstance(item, BaseException):
                raise item
            else:
                self._chunk, self._at = item[0], 0
                if item[1] and self._on_bytes is not None:
                    self._on_bytes(item[1])
                if self._chunk:
                    return True
        return False

    def _unpack(self) -> None:
        with contextlib.suppress(Closed):
            try:
                for chunk, used in self._chunks:
                    if chunk:
                        self._hashed.put(chunk)
                    self._data.put((chunk, used))
                self._hashed.put(None)
                self._data.put(None)
            except OSError as exc:
                self._data.put(HostError(f"the compressed layer cannot be read: {exc.strerror or exc}"))
            except Closed:
                raise
            except BaseException as exc:  # The caller's thread raises it.
                self._data.put(exc)

    def _digest(self) -> None:
        with contextlib.suppress(Closed):
            while (chunk := self._hashed.get()) is not None:
                self._hash.update(chunk)


@contextlib.contextmanager
def decoded(blob: BinaryIO, limits: Limits = DEFAULT, on_bytes: Callable[[int], None] | None = None) -> Iterator[Decoded]:
    """What is in `blob`: gzip, zstd, xz, bzip2, or itself; recognised by its first bytes.

    `on_bytes` is called, in the caller's thread, with the number of compressed bytes used since the last time; what it
    raises ends all. Raises OperationError for damaged data and for more than `limits`, HostError if `blob` cannot be read.
    """
    stream = Decoded(unpacked(blob, limits), on_bytes)
    try:
        stream.start()
        yield stream
    finally:
        stream.stop()
