"""Devices of the host that a service is given (compose-spec, "devices", "device_cgroup_rules", "gpus")."""

from __future__ import annotations

import re
from collections.abc import Mapping

from orchestrator.values import field, frozen

ALL_OF_THEM = -1
ANY = -1
"""A major or minor number: each of them."""

_CDI_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]*(?:/[A-Za-z0-9._-]+)=[A-Za-z0-9][A-Za-z0-9._:-]*")
_RULE = re.compile(r"([abc])[ \t]+([0-9]{1,10}|\*):([0-9]{1,10}|\*)[ \t]+([rwm]{1,3})")


@frozen
class DeviceGrant:
    """`source`: a device of the host, a folder of some, or the name of a CDI device; `target`: its path in the container.
    `access`: of ``r``, ``w`` and ``m``(knod). `place`: compose path for errors."""

    source: str
    target: str
    access: str = "rwm"
    place: str = ""

    @property
    def is_cdi(self) -> bool:
        return is_cdi_name(self.source)


@frozen
class DeviceRule:
    """`kind`: ``a`` for both, ``b`` or ``c``. `major`, `minor`: ANY for each."""

    kind: str
    major: int
    minor: int
    access: str


@frozen
class DeviceRequest:
    """Devices by what they can do. `count`: so many, or ALL_OF_THEM; not where there are `ids`. `place`: compose path."""

    capabilities: tuple[str, ...] = ()
    driver: str = ""
    count: int = ALL_OF_THEM
    ids: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    place: str = ""


@frozen
class Devices:
    grants: tuple[DeviceGrant, ...] = ()
    rules: tuple[DeviceRule, ...] = ()
    requests: tuple[DeviceRequest, ...] = ()


@frozen
class DeviceNode:
    """A device as it is in the container: `kind` ``b`` or ``c``, `mode` its permission bits, `uid` and `gid` the
    container's. `access`: what the container may do with it."""

    path: str
    kind: str
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0
    access: str = "rwm"


def is_cdi_name(text: str) -> bool:
    """``vendor.com/class=name`` (Container Device Interface, "Device naming")."""
    return _CDI_NAME.fullmatch(text) is not None


def parse_rule(text: str) -> DeviceRule:
    """``c 89:* rmw``, as the kernel's devices.allow has it. Raises ValueError."""
    found = _RULE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f'"{text}" is not a device rule (write TYPE MAJOR:MINOR ACCESS: c 89:* rwm)')
    kind, major, minor, access = found.groups()
    return DeviceRule(kind, _number(major), _number(minor), clean_access(access))


def _number(text: str) -> int:
    if text == "*":
        return ANY
    if int(text) >= 1 << 32:
        raise ValueError(f"{text} is not the number of a device")
    return int(text)


def clean_access(text: str) -> str:
    """``r``, ``w`` and ``m``, each at most once, in that order. Raises ValueError."""
    if not text or set(text) - set("rwm") or len(set(text)) < len(text):
        raise ValueError(f'"{text}" is not what one may do with a device (of r, w and m: rwm)')
    return "".join(letter for letter in "rwm" if letter in text)
