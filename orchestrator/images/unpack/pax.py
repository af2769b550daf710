"""Extended headers (pax(1) of POSIX, "pax Extended Header"; libarchive's and star's records). Pure: bytes to values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import unquote_to_bytes

from orchestrator.images.unpack.sparse import decimal
from orchestrator.images.unpack.tarformat import bad

Records = Sequence[tuple[bytes, bytes]]
SCHILY = b"SCHILY.xattr."
_LIBARCHIVE = b"LIBARCHIVE.xattr."
_MOST_LENGTH_DIGITS = 9
MOST_NS = (2**63 // 10**9 - 1) * 10**9
"""Nanoseconds since 1970 in 64 bits: until 2262. What lies beyond is moved there."""


def parse_records(data: bytes) -> Records:
    """``LENGTH KEY=VALUE\\n`` again and again, in order. Raises OperationError."""
    records, at = [], 0
    while at < len(data):
        blank = data.find(b" ", at, at + _MOST_LENGTH_DIGITS + 1)
        digits = data[at:blank] if blank >= 0 else b""
        if not digits or digits.strip(b"0123456789"):
            raise bad(f"an extended header has no length at byte {at}")
        end = at + int(digits)
        record = data[blank + 1 : end - 1]
        key, equals, value = record.partition(b"=")
        if end > len(data) or end <= blank + 1 or data[end - 1 : end] != b"\n" or not equals or not key:
            raise bad(f"an extended header has a wrong record at byte {at}")
        if b"\0" in key:
            raise bad(f"an extended header has a key with a NUL at byte {at}")
        records.append((key, value))
        at = end
    return records


def merged(above: Mapping[bytes, bytes], records: Records) -> dict[bytes, bytes]:
    """`above` (of a global header) with `records` over it: the last one counts, one without a value takes away."""
    result = dict(above)
    for key, value in records:
        if value or key.startswith((SCHILY, _LIBARCHIVE)):  # An extended attribute may be empty.
            result[key] = value
        else:
            result.pop(key, None)
    return result


def xattrs(records: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """By name; star's way of writing them (the value as it is) goes before libarchive's (percent signs and base64)."""
    found: dict[bytes, bytes] = {}
    for key, value in records.items():
        if key.startswith(SCHILY):
            found[key[len(SCHILY) :]] = value
        elif key.startswith(_LIBARCHIVE):
            found.setdefault(unquote_to_bytes(key[len(_LIBARCHIVE) :]), _base64(value))
    return found


def _base64(value: bytes) -> bytes:
    import binascii

    try:
        return binascii.a2b_base64(value + b"=" * (-len(value) % 4))
    except binascii.Error as exc:
        raise bad(f"an extended attribute is no base64: {value[:40]!r}") from exc


def time_ns(raw: bytes, path: bytes) -> int:
    """``-12.5``: decimal seconds with any number of digits."""
    sign, digits = (-1, raw[1:]) if raw.startswith(b"-") else (1, raw)
    whole, _, fraction = digits.partition(b".")
    ns = decimal((fraction + b"000000000")[:9], "the mtime", path)
    return bounded_ns(sign * (decimal(whole or b"0", "the mtime", path) * 10**9 + ns))


def bounded_ns(time: int) -> int:
    return max(-MOST_NS, min(MOST_NS, time))
