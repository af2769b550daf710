"""JSON of a stranger: at most so long and so deep, no key twice, nothing that is not JSON, and made as canonical bytes.

A key that is there twice means one thing to one reader and another to the next, and what was checked must be what is used:
refused. The same for a key that differs from one of ours by its case alone (Go's reader takes it for ours).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, NoReturn

from orchestrator.errors import InputError, OperationError

MOST_BYTES = 4 << 20
"""Of a manifest, an index or a configuration; registries refuse longer ones too."""
MOST_DEPTH = 32


def read_object(raw: bytes, what: str, keys: Collection[str]) -> dict[str, Any]:
    """The object that `raw` is; `what` names it in errors, `keys` are those that are read of it. Raises OperationError."""
    if len(raw) > MOST_BYTES:
        raise OperationError(f"the {what} is longer than {MOST_BYTES >> 20} MiB")
    try:
        found = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_number)
    except (ValueError, RecursionError) as exc:
        reason = "it is nested too deeply" if isinstance(exc, RecursionError) else str(exc)
        raise OperationError(f"the {what} is not valid JSON: {reason}") from exc
    if not isinstance(found, dict):
        raise OperationError(f"the {what} is not a JSON object")
    _check_depth(found, what)
    if b"\\u" in raw:
        _check_text(found, what)
    known = {key.lower(): key for key in keys}
    for key in found:
        if known.get(key.lower(), key) != key:
            raise OperationError(f'the {what} has a key "{key}", which some read as "{known[key.lower()]}"')
    return found


def canonical(value: Mapping[str, Any]) -> bytes:
    """Sorted keys, no blanks, UTF-8: the same value gives the same bytes. Raises InputError for text that is no Unicode."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError as exc:
        raise InputError(f"{exc.object[exc.start - 8 if exc.start > 8 else 0 : exc.end]!r} is not UTF-8") from exc


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f'the key "{twice[:80]}" is there twice')
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number")


def _check_depth(found: dict[str, Any], what: str) -> None:
    level: list[Any] = [found]
    for _ in range(MOST_DEPTH):
        level = [
            item
            for holder in level
            for item in (holder.values() if isinstance(holder, dict) else holder)
            if isinstance(item, dict | list)
        ]
        if not level:
            return
    raise OperationError(f"the {what} is nested more than {MOST_DEPTH} deep")


def _check_text(found: dict[str, Any], what: str) -> None:
    """Half a surrogate pair can be written as an escape, and cannot be written anywhere else."""
    try:
        json.dumps(found, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as exc:
        raise OperationError(f"the {what} holds text that is not Unicode (a single surrogate)") from exc
