"""JSON by the interpreter's C parts alone.

The `json` package compiles regular expressions when it is imported, which costs a command more than all its JSON. What is
written here and read is the same; where an interpreter lacks these parts (they are private to CPython), `json` is used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_SPACE = " \t\n\r"


class _Settings:
    """What ``_json.make_scanner`` wants to know (json.JSONDecoder's attributes)."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    memo: dict[str, str] = {}

    @staticmethod
    def parse_constant(name: str) -> float:
        return {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}[name]


def _scanner() -> Callable[[str, int], tuple[Any, int]] | None:
    try:
        return __import__("_json").make_scanner(_Settings)  # type: ignore[no-any-return]
    except (ImportError, AttributeError, TypeError):
        return None


def _encoder() -> Callable[[object, int], Any] | None:
    try:
        private = __import__("_json")
        return private.make_encoder(  # type: ignore[no-any-return]
            None, _refuse, private.encode_basestring_ascii, None, ": ", ", ", False, False, True
        )
    except (ImportError, AttributeError, TypeError):
        return None


def _refuse(value: object) -> None:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


_scan = _scanner()
_encode = _encoder()
if _scan is None or _encode is None:
    import json  # noqa: F401 - now: later the monitor could not find it any more


def loads(data: str | bytes | bytearray) -> Any:
    """The value of a JSON text (bytes: UTF-8). Raises ValueError."""
    text = data if isinstance(data, str) else data.decode("utf-8", "surrogatepass")
    if _scan is not None:
        trimmed = text.strip(_SPACE)
        try:
            value, end = _scan(trimmed, 0)
            if end == len(trimmed):
                return value
        except (StopIteration, SystemError):
            pass  # The C code has no words for what is wrong; json has.
    try:
        import json
    except ImportError:  # The monitor has left the file system that it would be found in.
        raise ValueError("it is not JSON") from None
    return json.loads(text)


def dumps(value: object) -> str:
    """`value` as JSON on one line, in ASCII, as json.dumps writes it. Raises TypeError for what has no JSON form."""
    if _encode is None:
        import json

        return json.dumps(value)
    made = _encode(value, 0)
    return made if isinstance(made, str) else "".join(made)
