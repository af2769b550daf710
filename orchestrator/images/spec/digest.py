"""Digests (image-spec, descriptor.md, "Digests"): what content is called by. One that was checked is safe in a path."""

from __future__ import annotations

from typing import NewType

Digest = NewType("Digest", str)
"""``sha256:`` and 64, or ``sha512:`` and 128 lower-case hexadecimal digits."""

_HEX_DIGITS = {"sha256": 64, "sha512": 128}
_HEX = frozenset("0123456789abcdef")
SHORT_DIGITS = 12


def digest(text: str) -> Digest:
    """`text`, checked. Raises ValueError."""
    algorithm, _, rest = text.partition(":")
    if len(rest) != _HEX_DIGITS.get(algorithm) or not _HEX.issuperset(rest):
        rule = "sha256: and 64, or sha512: and 128 lower-case hexadecimal digits"
        raise ValueError(f'"{text[:160]}" is not a digest ({rule})')
    return Digest(text)


def digest_of(data: bytes) -> Digest:
    """The SHA-256 of `data`."""
    import hashlib

    return Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")


def short(of: Digest) -> str:
    """For people: the first twelve of its hexadecimal digits."""
    return of.partition(":")[2][:SHORT_DIGITS]
