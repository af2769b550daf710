"""Compressed streams: all kinds, whole and damaged; and that no thread outlives its caller."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, cast

import pytest

from orchestrator.errors import HostError, OperationError
from orchestrator.images.unpack.compression import Compression, compress
from orchestrator.images.unpack.decode import decoded
from orchestrator.images.unpack.limits import DEFAULT, Limits
from tests.archives import END, file

TAR = b"".join(file(b"f%d" % number, os.urandom(3000)) for number in range(400)) + END
"""More than the chunks that are worked in."""
DIFF_ID = "sha256:" + hashlib.sha256(TAR).hexdigest()
LITTLE = file(b"a", os.urandom(3000)) + END


def zstd(data: bytes) -> bytes:
    out = io.BytesIO()
    compress(io.BytesIO(data), out, Compression.ZSTD)
    return out.getvalue()


def skippable(data: bytes) -> bytes:
    return b"\x53\x2a\x4d\x18" + len(data).to_bytes(4, "little") + data


KINDS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes, "gzip": gzip.compress, "zstd": zstd, "xz": lzma.compress, "bzip2": bz2.compress,
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before  # One of trio's, from another test, may have ended meanwhile.


def unpack(blob: bytes, limits: Limits = DEFAULT) -> tuple[bytes, str]:
    with decoded(io.BytesIO(blob), limits) as stream:
        data = b"".join(iter(lambda: stream.read(100_000), b""))
        return data, stream.drain()


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_compressed_comes_out_with_its_digest(kind: str) -> None:
    assert unpack(KINDS[kind](TAR)) == (TAR, DIFF_ID)


@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz", "bzip2"])
def test_several_members_and_trailing_rubbish(kind: str) -> None:
    pack = KINDS[kind]
    for rubbish in (b"", b"rubbish", bytes(5000), os.urandom(100_000).replace(b"\x1f", b"")):
        blob = pack(LITTLE[:512]) + pack(b"") + pack(LITTLE[512:]) + rubbish
        assert unpack(blob)[0] == LITTLE, rubbish[:8]


def test_skippable_frames_of_zstd_are_skipped() -> None:
    assert unpack(skippable(b"x" * 70_000) + zstd(TAR) + skippable(b"")) == (TAR, DIFF_ID)


@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz", "bzip2"])
def test_a_stream_that_is_cut_or_changed_is_refused(kind: str) -> None:
    blob = KINDS[kind](TAR)
    for cut in (20, len(blob) // 2, len(blob) - 1):
        with pytest.raises(OperationError, match=f"the {kind} data is damaged"):
            unpack(blob[:cut])
    changed = bytearray(blob)
    changed[len(blob) // 2] ^= 0xFF
    with pytest.raises(OperationError, match=f"the {kind} data is damaged"):
        unpack(bytes(changed))


def test_a_wrong_crc_is_seen() -> None:
    blob = bytearray(gzip.compress(TAR))
    blob[-8] ^= 1
    with pytest.raises(OperationError, match="the gzip data is damaged"):
        unpack(bytes(blob))


def test_the_name_of_a_first_file_is_no_magic() -> None:
    for name in (b"BZh91AY", b"\x1f\x8b\x08", b"\xfd7zXZ"):
        tar = file(name, b"x") + END
        assert unpack(tar)[0] == tar


def test_nothing_is_an_empty_archive() -> None:
    assert unpack(b"") == (b"", "sha256:" + hashlib.sha256(b"").hexdigest())


def test_the_digest_is_of_everything_also_of_what_nobody_read() -> None:
    with decoded(io.BytesIO(gzip.compress(TAR))) as stream:
        assert stream.read(512) == TAR[:512]
        assert stream.drain() == DIFF_ID


def test_compressed_bytes_are_counted() -> None:
    for pack in KINDS.values():
        counts: list[int] = []
        blob = pack(LITTLE) + (b"rubbish" if pack is not bytes else b"")
        with decoded(io.BytesIO(blob), on_bytes=counts.append) as stream:
            stream.drain()
        assert sum(counts) == len(blob)


def test_what_the_callback_raises_ends_all() -> None:
    class Cancelled(Exception):
        pass

    def cancel(_count: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled), decoded(io.BytesIO(gzip.compress(TAR)), on_bytes=cancel) as stream:
        stream.drain()


def test_a_caller_that_has_enough_leaves() -> None:
    with decoded(io.BytesIO(gzip.compress(TAR * 4))) as stream:
        assert stream.read(10)


def test_a_file_that_cannot_be_read_is_the_machine_s_fault() -> None:
    class Broken(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(HostError, match="Input/output error"), decoded(cast(BinaryIO, Broken())) as stream:
        stream.drain()


def test_limits_name_themselves() -> None:
    with pytest.raises(OperationError, match="the limit bytes is 1000") as caught:
        unpack(gzip.compress(bytes(4 << 20)), Limits(bytes=1000, entries=1))
    assert caught.value.hint


@pytest.mark.parametrize("kind", list(Compression))
@pytest.mark.parametrize("level", [None, 1])
def test_compressing_is_the_same_each_time(kind: Compression, level: Any) -> None:
    results = []
    for _ in range(2):
        out = io.BytesIO()
        digest, size = compress(io.BytesIO(TAR), out, kind, level)
        assert (digest, size) == ("sha256:" + hashlib.sha256(out.getvalue()).hexdigest(), len(out.getvalue()))
        assert unpack(out.getvalue()) == (TAR, DIFF_ID)
        results.append(digest)
    assert results[0] == results[1]
    if kind is Compression.GZIP:
        assert gzip.decompress(out.getvalue()) == TAR
