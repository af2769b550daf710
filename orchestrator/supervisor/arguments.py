"""Typed access to a request's arguments: they are checked once, here, where they enter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from orchestrator.errors import InputError
from orchestrator.model.names import ServiceName

T = TypeVar("T")


def typed(args: Mapping[str, Any], name: str, kind: type[T], default: T) -> T:
    """`args[name]`, or `default` when it is absent or null. Raises InputError when it is of another type."""
    value = args.get(name)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise InputError(f"argument {name!r} is a {type(value).__name__}, not a {kind.__name__}")
    return value


def seconds(args: Mapping[str, Any], name: str) -> float | None:
    """A number of seconds, or None."""
    value = args.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise InputError(f"argument {name!r} is {value!r}, not a number of seconds")
    return float(value)


def strings(args: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = args.get(name) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InputError(f"argument {name!r} is not a list of strings")
    return tuple(value)


def services(args: Mapping[str, Any]) -> tuple[ServiceName, ...]:
    return tuple(ServiceName(name) for name in strings(args, "services"))


def string_map(args: Mapping[str, Any], name: str) -> dict[str, str]:
    value = args.get(name) or {}
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise InputError(f"argument {name!r} is not an object of strings")
    return value
