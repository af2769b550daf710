"""Frozen values to JSON and back: what is written to disk and sent over the control socket.

``to_json(value)`` gives dicts, lists, strings, numbers, booleans and None; ``from_json(cls, data)`` gives the value
back, driven by the class's own annotations. Unknown keys are ignored and missing ones take the field's default, so that
state written by another version can be read; a wrong type raises ValueError with the path of the culprit. A value that
is already one of its class stays: many share it.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from typing import Any, TypeVar

from orchestrator.values import MISSING, fields, is_value

T = TypeVar("T")


def to_json(value: object) -> Any:
    """`value` as JSON-ready data; fields of values that equal their default are left out."""
    kind = type(value)
    if (encode := _encoders.get(kind)) is None:
        encode = _encoders[kind] = _encoder(kind)
    return encode(value)


_encoders: dict[type, Callable[[Any], Any]] = {}


def _encoder(kind: type) -> Callable[[Any], Any]:
    """How values of `kind` are written; once per type, since events and records pass here by the thousand."""
    if issubclass(kind, Enum):
        return _enum_value
    if kind is type(None) or issubclass(kind, str | int | float | bool):
        return _as_it_is
    if issubclass(kind, bytes):
        return lambda value: value.decode("latin-1")
    if is_value(kind):
        return _value_encoder(kind)
    if issubclass(kind, Mapping):
        return lambda value: {str(k.value if isinstance(k, Enum) else k): to_json(v) for k, v in value.items()}
    if issubclass(kind, list | tuple):
        return lambda value: [to_json(item) for item in value]
    if issubclass(kind, set | frozenset):
        return lambda value: [to_json(item) for item in sorted(value)]
    raise AssertionError(f"no JSON form for {kind.__name__}")


def _value_encoder(kind: type) -> Callable[[Any], Any]:
    members = [(field.name, field.default) for field in fields(kind)]

    def encode(value: Any) -> dict[str, Any]:
        out = {}
        for name, default in members:
            item = getattr(value, name)
            # Identity first: it is what most fields have, and comparing values is slow.
            if item is default or (default is not MISSING and item == default):
                continue
            out[name] = to_json(item)
        return out

    return encode


def _enum_value(value: Enum) -> Any:
    return value.value


def _as_it_is(value: Any) -> Any:
    return value


def from_json(cls: type[T], data: object, path: str = "$") -> T:
    """The value of type `cls` that `data` describes. Raises ValueError naming the path of what does not fit."""
    return typing.cast(T, _decode(cls, data, path))


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _decode(kind: Any, data: Any, path: str) -> Any:
    if hasattr(kind, "__supertype__"):
        return _decode(kind.__supertype__, data, path)
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _decode_union(typing.get_args(kind), data, path)
    if kind is Any or kind is object:
        return data
    if kind is None or kind is type(None):
        if data is not None:
            raise ValueError(f"{path}: expected null")
        return None
    if origin is frozenset:
        return frozenset(_decode_tuple((*typing.get_args(kind), ...), data, path))
    if origin is tuple:
        return _decode_tuple(typing.get_args(kind), data, path)
    if origin is not None and issubclass(origin, Mapping):
        key, item = typing.get_args(kind)
        if not isinstance(data, dict):
            raise ValueError(f"{path}: expected an object")
        return {_decode(key, k, path): _decode(item, v, f"{path}.{k}") for k, v in data.items()}
    if is_value(kind):
        return _decode_value(kind, data, path)
    if isinstance(kind, type) and issubclass(kind, Enum):
        try:
            return kind(data)
        except ValueError:
            raise ValueError(f"{path}: {data!r} is not a {kind.__name__}") from None
    return _decode_scalar(kind, data, path)


def _decode_union(options: tuple[Any, ...], data: Any, path: str) -> Any:
    if data is None and type(None) in options:
        return None
    error: ValueError | None = None
    for option in options:
        if option is type(None):
            continue
        try:
            return _decode(option, data, path)
        except ValueError as exc:
            error = exc
    raise error or ValueError(f"{path}: null is not allowed")


def _decode_tuple(args: tuple[Any, ...], data: Any, path: str) -> Any:
    if not isinstance(data, list | tuple):
        raise ValueError(f"{path}: expected a list")
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_decode(args[0], item, f"{path}[{n}]") for n, item in enumerate(data))
    if len(args) != len(data):
        raise ValueError(f"{path}: expected {len(args)} items")
    return tuple(_decode(arg, item, f"{path}[{n}]") for n, (arg, item) in enumerate(zip(args, data, strict=True)))


def _decode_value(kind: Any, data: Any, path: str) -> Any:
    if type(data) is kind:
        return data
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected an object")
    hints = _hints(kind)
    values = {}
    for field in fields(kind):
        if field.name in data:
            values[field.name] = _decode(hints[field.name], data[field.name], f"{path}.{field.name}")
        elif field.required:
            raise ValueError(f"{path}.{field.name} is missing")
    return kind(**values)


def _decode_scalar(kind: Any, data: Any, path: str) -> Any:
    if kind is bytes and isinstance(data, str):
        return data.encode("latin-1")
    if kind is float and isinstance(data, int | float) and not isinstance(data, bool):
        return float(data)
    if kind is bool and isinstance(data, bool):
        return data
    if kind is int and isinstance(data, int) and not isinstance(data, bool):
        return data
    if kind is str and isinstance(data, str):
        return data
    raise ValueError(f"{path}: expected {getattr(kind, '__name__', kind)}, not {type(data).__name__}")
