"""Descriptors (image-spec, descriptor.md): what one document says of another, and reading it without trust."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.errors import OperationError
from orchestrator.images.spec import media_types
from orchestrator.images.spec.digest import Digest, digest
from orchestrator.images.spec.platform import Platform, normal_platform
from orchestrator.values import field, frozen

MOST_SIZE = 2**63 - 1
MOST_TEXT = 256
"""Characters of a media type or a part of a platform."""
_TYPE_NAMES = {str: "text", int: "a whole number", list: "a list", dict: "an object", bool: "true or false"}


@frozen
class Descriptor:
    """`size` in bytes, of the content as it is stored (compressed). `urls`: where else it could be had; never asked."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    urls: tuple[str, ...] = ()

    @property
    def foreign(self) -> bool:
        """A layer that may not be pushed elsewhere (Windows' base layers are such)."""
        return self.media_type in media_types.FOREIGN_LAYERS


class Fields:
    """An object of a stranger's JSON: each `get` checks the type. `what` names it in errors. null is absent, as Docker
    writes it."""

    def __init__(self, found: object, what: str) -> None:
        self.what = what
        if not isinstance(found, dict):
            raise OperationError(f"{what} is not an object")
        self._found: dict[str, Any] = found

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        """What `key` has, of type `kind`; `default` where there is nothing. Raises OperationError for another type."""
        value = self._found.get(key)
        if value is None:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise OperationError(f"{key} of {self.what} is not {_TYPE_NAMES[kind]}")
        return value

    def text(self, key: str) -> str:
        return self.get(key, str, "")  # type: ignore[no-any-return]

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts."""
        found = self.get(key, list, [])
        if not all(isinstance(item, str) for item in found):
            raise OperationError(f"{key} of {self.what} holds something that is not text")
        return tuple(found)

    def pairs(self, key: str) -> dict[str, str]:
        """An object of texts; null stands for "" (Docker writes it)."""
        found = self.get(key, dict, {})
        if not all(item is None or isinstance(item, str) for item in found.values()):
            raise OperationError(f"{key} of {self.what} holds something that is not text")
        return {name: item or "" for name, item in found.items()}

    def natural(self, key: str, default: int = 0) -> int:
        """A whole number that is not negative."""
        value = self.get(key, int, default)
        if not 0 <= value <= MOST_SIZE:
            raise OperationError(f"{key} of {self.what} is {value if abs(value) < 2**64 else 'a number'} out of its range")
        return value  # type: ignore[no-any-return]


def read_descriptor(found: object, what: str) -> Descriptor:
    """Raises OperationError for what is missing or malformed."""
    fields = Fields(found, what)
    media_type = fields.text("mediaType")
    if not is_media_type(media_type):
        raise OperationError(f'{what} has "{media_type[:MOST_TEXT]}" for a media type')
    try:
        name = digest(fields.text("digest"))
    except ValueError as exc:
        raise OperationError(f"{what}: {exc}") from exc
    if fields.get("size", int) is None:
        raise OperationError(f"{what} says no size")
    platform = fields.get("platform", dict)
    return Descriptor(
        media_type,
        name,
        fields.natural("size"),
        read_platform(platform, what) if platform is not None else None,
        fields.pairs("annotations"),
        fields.texts("urls"),
    )


def read_platform(found: object, what: str) -> Platform:
    """The platform that an entry of an index, or a configuration, has; Docker's ``os.version`` too."""
    fields = Fields(found, f"the platform of {what}")
    parts = [fields.text(key) for key in ("os", "architecture", "variant", "os.version")]
    for part in parts:
        if len(part) > MOST_TEXT or not part.isprintable():
            raise OperationError(f"the platform of {what} is malformed: {part[:MOST_TEXT]!r}")
    return normal_platform(*parts)


def is_media_type(text: str) -> bool:
    """``TYPE/SUBTYPE`` in the characters of RFC 6838, section 4.2."""
    kind, slash, rest = text.partition("/")
    return bool(kind and slash and rest) and len(text) <= MOST_TEXT and _TYPE.issuperset(kind) and _TYPE.issuperset(rest)


_TYPE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$&-^_.+")


def written(descriptor: Descriptor) -> dict[str, Any]:
    """For a manifest or an index."""
    out: dict[str, Any] = {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size}
    if descriptor.platform is not None:
        out["platform"] = written_platform(descriptor.platform)
    if descriptor.annotations:
        out["annotations"] = dict(descriptor.annotations)
    if descriptor.urls:
        out["urls"] = list(descriptor.urls)
    return out


def written_platform(platform: Platform) -> dict[str, str]:
    """The keys that an index entry and a configuration share."""
    names = {
        "os": platform.os,
        "architecture": platform.architecture,
        "variant": platform.variant,
        "os.version": platform.os_version,
    }
    return {key: value for key, value in names.items() if value}
