"""Messages of others that are kept for a while, in memory that stays whole.

The interpreter has pools of its own for objects of up to 512 bytes, each for one size, and asks malloc(3) for larger ones.
Where a container decides how long messages are and for how long they are kept, malloc's memory becomes one of holes between
them, of which none fits the next: 2 to 4 MB within minutes, while what was in use stayed the same. So whatever waits or
is remembered is cut into pieces that fit into pools, and joined when it is used.
"""

from __future__ import annotations

PIECE_BYTES = 448
"""An object of bytes is 33 larger than what is in it. Nearly all questions, and most answers, are one piece."""

Pieces = tuple[bytes, ...]


def cut(data: bytes | memoryview) -> Pieces:
    """At least one."""
    if len(data) <= PIECE_BYTES:
        return (bytes(data),)
    return tuple(bytes(data[at : at + PIECE_BYTES]) for at in range(0, len(data), PIECE_BYTES))


def joined(pieces: Pieces) -> bytes:
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def extended(pieces: Pieces, data: bytes) -> Pieces:
    """What is in `pieces`, and then `data`: however small the parts are that something comes in, it is cut as if it had
    come at once."""
    return (*pieces[:-1], *cut(pieces[-1] + data)) if pieces else cut(data)
