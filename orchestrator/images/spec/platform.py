"""Platforms (image-spec, image-index.md, "platform"): ``linux/arm/v7``; their names, and which ones run on which.

The order of `runs` is containerd's: the platform itself, then lower variants, then the 32-bit one of the same processor.
"""

from __future__ import annotations

import os

from orchestrator.errors import InputError
from orchestrator.values import frozen

_ARCHITECTURES = {
    "x86_64": "amd64", "x86-64": "amd64", "i386": "386", "i486": "386", "i586": "386", "i686": "386",
    "aarch64": "arm64", "armhf": "arm", "armel": "arm", "loongarch64": "loong64",
}  # fmt: skip
"""Other names of what Go, and so the specification, calls the architectures."""
_VARIANTS = {"armhf": "v7", "armel": "v6"}
_DEFAULTS = {"arm": "v7", "arm64": "v8", "amd64": "v1"}
"""The variant of a platform that names none."""
_KNOWN_OS = frozenset({"linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "solaris", "illumos", "aix"})
_KNOWN_ARCHITECTURES = frozenset(
    {"386", "amd64", "arm", "arm64", "loong64", "mips64", "mips64le", "ppc64", "ppc64le", "riscv64", "s390x", "wasm"}
)
_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_.-")
_HINT = "write OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/amd64 or linux/arm/v7"


@frozen
class Platform:
    """As Go names them; `variant` is "" where the processor has none, and for the usual one (amd64 v1, arm64 v8)."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @property
    def unknown(self) -> bool:
        """What stands beside an image in an index and is none: an attestation (``unknown/unknown``)."""
        return self.os == "unknown" or self.architecture == "unknown"


def normal_platform(os_name: str, architecture: str, variant: str = "", os_version: str = "") -> Platform:
    """The platform by the names that the specification has: ``x86_64`` is amd64, ``arm64/v8`` is arm64, arm is arm/v7."""
    os_name, architecture, variant = os_name.lower(), architecture.lower(), variant.lower()
    os_name = "darwin" if os_name == "macos" else os_name
    variant = variant or _VARIANTS.get(architecture, "")
    architecture = _ARCHITECTURES.get(architecture, architecture)
    if variant.isdecimal():
        variant = f"v{variant}"
    if architecture == "arm":
        variant = variant or _DEFAULTS["arm"]
    elif variant == _DEFAULTS.get(architecture):
        variant = ""
    return Platform(os_name, architecture, variant, os_version)


def parse_platform(text: str) -> Platform:
    """``linux/arm/v7``; of ``linux`` or ``arm64`` alone the rest is this machine's. Raises InputError."""
    parts = text.lower().split("/")
    if len(text) > 64 or not 1 <= len(parts) <= 3 or not all(part and _CHARACTERS.issuperset(part) for part in parts):
        raise InputError(f'"{text[:80]}" is not a platform', hint=_HINT)
    if len(parts) > 1:
        os_name, architecture, *variant = parts
        return normal_platform(os_name, architecture, *variant)
    host = host_platform()
    if parts[0] in _KNOWN_OS or parts[0] == "macos":
        return normal_platform(parts[0], host.architecture, host.variant)
    if parts[0] in _KNOWN_ARCHITECTURES or parts[0] in _ARCHITECTURES:
        return normal_platform(host.os, parts[0])
    raise InputError(f'"{text[:80]}" is neither an operating system nor an architecture', hint=_HINT)


def host_platform() -> Platform:
    """This machine's (uname(2)); of amd64 the baseline, as Docker has it."""
    machine = os.uname().machine.lower()
    if machine.startswith("armv") and machine[4:5].isdigit():
        return normal_platform("linux", "arm", f"v{machine[4]}")
    return normal_platform("linux", machine)


def runs(wanted: Platform) -> tuple[Platform, ...]:
    """What can be run where `wanted` is asked for, best first."""
    found = [_platform(wanted, wanted.architecture, number) for number in _down(wanted)]
    if wanted.architecture == "arm64":
        found += [Platform(wanted.os, "arm", f"v{number}") for number in range(8, 4, -1)]
    elif wanted.architecture == "amd64":
        found.append(Platform(wanted.os, "386"))
    return tuple(found)


def _down(wanted: Platform) -> list[str]:
    """The variants from that of `wanted` on down, best first; its own alone where nothing is known of others."""
    own = wanted.variant or _DEFAULTS.get(wanted.architecture, "")
    major, dot, minor = own.removeprefix("v").partition(".")
    lowest = {"amd64": 1, "arm": 5, "arm64": 8}.get(wanted.architecture)
    if lowest is None or not major.isdecimal() or not own.startswith("v") or (dot and not minor.isdecimal()):
        return [own]
    # v9.2 of arm64 runs v9.1, v9 and, of v8, everything that was made before it: v8.N are steps of the same kind.
    highest_minor = {int(major): int(minor or 0)}
    return [
        f"v{number}.{step}" if step else f"v{number}"
        for number in range(min(int(major), 16), lowest - 1, -1)
        for step in range(min(highest_minor.get(number, 9 if wanted.architecture == "arm64" else 0), 16), -1, -1)
    ]


def _platform(wanted: Platform, architecture: str, variant: str) -> Platform:
    return normal_platform(wanted.os, architecture, variant)
