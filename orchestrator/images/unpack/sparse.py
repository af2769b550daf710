"""Maps of sparse files, as GNU tar wrote them in four ways (GNU tar manual, "Storing Sparse Files"). Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from orchestrator.images.unpack.entries import shown
from orchestrator.images.unpack.tarformat import BLOCK, bad, number

Map = tuple[tuple[int, int], ...]
MOST_PIECES = 1 << 18
_MOST_DIGITS = 20


def checked(pieces: Iterable[tuple[int, int]], size: int, data_bytes: int, path: bytes) -> Map:
    """The map, if its pieces are in order, do not overlap, lie within the file's `size` and are `data_bytes` together."""
    end, total, kept = 0, 0, []
    for offset, length in pieces:
        if offset < end or length < 0 or offset + length > size:
            raise bad(f"the map of the sparse file {shown(path)} is wrong: {length} bytes at {offset} of {size}")
        end, total = offset + length, total + length
        if length:
            kept.append((offset, length))
    if total != data_bytes:
        raise bad(f"the map of the sparse file {shown(path)} is wrong: it has {total} bytes, and the archive {data_bytes}")
    return tuple(kept) or ((size, 0),)


def old_gnu(block: bytes, more: Callable[[], bytes], path: bytes) -> tuple[list[tuple[int, int]], int]:
    """The old format: a map in the header `block` and in blocks after it, which `more` gives. The map and the size."""
    pieces, ended = _slots(block[386:482], path)
    size = number(block[483:495], "the size", path)
    extended = block[482]
    while extended:
        block = more()
        found, over = _slots(block[:504], path)
        if ended and found:
            raise bad(f"the map of the sparse file {shown(path)} goes on behind its end")
        ended = ended or over
        pieces += found
        _check_count(len(pieces), path)
        extended = block[504]
    return pieces, size


def _slots(raw: bytes, path: bytes) -> tuple[list[tuple[int, int]], bool]:
    """(what is in the 24-byte slots, whether one was empty: the end)."""
    pieces: list[tuple[int, int]] = []
    for at in range(0, len(raw), 24):
        if not raw[at]:
            return pieces, True
        offset, length = raw[at : at + 12], raw[at + 12 : at + 24]
        pieces.append((number(offset, "an offset", path), number(length, "a length", path)))
    return pieces, False


def from_records(records: Sequence[tuple[bytes, bytes]], path: bytes) -> list[tuple[int, int]] | None:
    """Formats 0.0 (records one by one, in order) and 0.1 (one record with commas). None if it is neither."""
    numbers: list[int] | None = None
    for key, value in records:
        if key == b"GNU.sparse.map":
            numbers = [decimal(word, "the map", path) for word in value.split(b",")] if value else []
        elif key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            numbers = numbers or []
            if (len(numbers) % 2 == 0) != (key == b"GNU.sparse.offset"):
                raise bad(f"the map of the sparse file {shown(path)} has an offset without a length")
            numbers.append(decimal(value, "the map", path))
    if numbers is None:
        return None
    if len(numbers) % 2:
        raise bad(f"the map of the sparse file {shown(path)} has an offset without a length")
    _check_count(len(numbers) // 2, path)
    return list(zip(numbers[::2], numbers[1::2]))


def from_data(more: Callable[[], bytes], path: bytes) -> tuple[list[tuple[int, int]], int]:
    """Format 1.0: decimal lines at the beginning of the data, filled up to whole blocks. The map, and its own bytes."""
    text, used = b"", 0

    def line() -> int:
        nonlocal text, used
        while b"\n" not in text:
            if len(text) > _MOST_DIGITS:
                raise bad(f"the map of the sparse file {shown(path)} has no numbers")
            text += more()
            used += BLOCK
        word, text = text.split(b"\n", 1)
        return decimal(word, "the map", path)

    count = line()
    _check_count(count, path)
    return [(line(), line()) for _ in range(count)], used


def decimal(raw: bytes, what: str, path: bytes) -> int:
    if len(raw) > _MOST_DIGITS or not raw.isdigit():
        raise bad(f"{what} of {shown(path)} is no number: {raw[: 2 * _MOST_DIGITS]!r}")
    return int(raw)


def _check_count(count: int, path: bytes) -> None:
    if count > MOST_PIECES:
        what = f"the sparse file {shown(path)} has {count} pieces, and {MOST_PIECES} are allowed"
        raise bad(what, hint="write it without holes")
