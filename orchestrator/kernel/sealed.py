"""A stored value as one line of JSON that tells whether it is still what was written.

    {"check":"5d41402a","version":2,...}

`check` is the CRC-32 (zlib) of the line as it would be without it. Version 1 wrote plain JSON; those lines are taken as
they are. Inside JSON text a quote is escaped, so ``{"check":"`` begins a value and can be nothing else: values whose
line break was damaged are found all the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any
from zlib import crc32

VERSION = 2
"""Of all stored values: the newest one that the `upgrades` of their owners lead to."""

_MARK = b'{"check":"'
_HEAD = len(_MARK) + len('01234567",')

Data = dict[str, Any]

_encode = json.JSONEncoder(separators=(",", ":")).encode


def seal(value: Mapping[str, Any]) -> bytes:
    """The line, with its line break. `value` is JSON-ready and not empty."""
    text = _encode(value).encode()
    return b'{"check":"%08x",%b\n' % (crc32(text), text[1:])


def unseal(raw: bytes) -> Iterator[Data | None]:
    """All values in `raw`, in order; None for each that is damaged."""
    for line in raw.split(b"\n"):
        before, *marked = line.split(_MARK)
        if before.strip():
            value = _object(before)
            yield value if value is not None and value.get("version", 1) == 1 else None
        for piece in marked:
            yield _checked(_MARK + piece)


def unseal_file(path: str) -> Data | None:
    """The first intact value of a file that holds one; None if there is none. Raises OSError."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        return next((value for value in unseal(file.read()) if value is not None), None)


def version_of(value: Data) -> int:
    """The version that wrote `value`; those before 2 may not say so. Raises ValueError for what is no version."""
    version = value.get("version", 1)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ValueError(f"{version!r} is not a version")
    return version


def _checked(line: bytes) -> Data | None:
    line = line[: line.rfind(b"}") + 1]
    text = b"{" + line[_HEAD:]
    try:
        return _object(text) if int(line[len(_MARK) : len(_MARK) + 8], 16) == crc32(text) else None
    except ValueError:
        return None


def _object(text: bytes) -> Data | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
