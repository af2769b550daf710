"""What ``image:`` names: ``host``, ``rootfs:DIR``, and one day a registry's reference."""

from __future__ import annotations

from orchestrator.errors import InputError
from orchestrator.values import frozen


@frozen
class HostReference:
    """The machine's own system, allow-listed."""


@frozen
class RootfsReference:
    """A directory that holds a root file system, as written: absolute, or relative to the project."""

    directory: str


Reference = HostReference | RootfsReference


def parse_reference(text: str) -> Reference:
    """Raises InputError for a reference that is malformed or of a kind that is not supported yet."""
    if text == "host":
        return HostReference()
    scheme, colon, rest = text.partition(":")
    if colon and scheme == "rootfs":
        if not rest or "\0" in rest:
            raise InputError('image "rootfs:" names no directory', hint="write image: rootfs:DIR")
        return RootfsReference(rest)
    if not text:
        raise InputError("the image has no name", hint="use `image: host` or `image: rootfs:DIR`")
    raise InputError(
        f'image "{text}" needs a registry, which is not supported yet',
        hint="use `image: host` (this machine's own programs) or `image: rootfs:DIR` (an unpacked root file system)",
    )
