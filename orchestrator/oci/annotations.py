"""Annotations whose text is a JSON object. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from orchestrator.errors import InputError


def object_in(config: Mapping[str, Any], name: str, what: str) -> dict[str, str]:
    """What the annotation `name` says; {} where it is not there. `what` its values are, in words. Raises InputError for
    one that is not an object of strings."""
    text = (config.get("annotations") or {}).get(name) or "{}"
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise InputError(f"{text!r} is not an object of {what}", place=f"annotations.{name}")
    return found
