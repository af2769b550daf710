"""``driver_opts`` of a network, as Docker's drivers have them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address

from orchestrator.values import frozen, replace

_BRIDGE = "com.docker.network.bridge."
BRIDGE_NAME = f"{_BRIDGE}name"
_DRIVER = "com.docker.network.driver."
_LEAST_MTU, _LEAST_MTU_IPV6, _MOST_MTU = 68, 1280, 65535


class BadOption(ValueError):
    """`key`: which one."""

    def __init__(self, key: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.key = key
        self.hint = hint


@frozen
class NetworkOptions:
    """`mtu` 0: the kernel's. `bridge`: the interface's name; "": one that derives. `icc`: whether its containers reach each
    other. `binding`: where ports are published that name no address; "": everywhere. `masquerade`, `masquerade6`: whether
    what leaves looks as if it came from the host, else others need a route here. `prefix`: of the interfaces' names in
    containers. `parent`: the host's interface whose network it is, of a driver that makes none. `mode`, `flag`: how such a
    driver lets its containers meet."""

    mtu: int = 0
    bridge: str = ""
    icc: bool = True
    binding: str = ""
    masquerade: bool = True
    masquerade6: bool = True
    prefix: str = "eth"
    parent: str = ""
    mode: str = ""
    flag: str = ""

    @property
    def is_private(self) -> bool:
        """Nothing else on the same interface is reached, or can be there."""
        return self.mode in ("private", "passthru") or self.flag == "private"


def interface_name(text: str) -> str:
    """Raises ValueError."""
    if not re.fullmatch(r"[A-Za-z0-9_.@=+-]{1,15}", text) or text in (".", "..", "lo", "all", "default"):
        raise ValueError(f'"{text}" is not a name for an interface (at most 15 letters, digits, - _ and .)')
    return text


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0", "t", "f"):
        raise ValueError(f'"{text}" is not true or false')
    return text.lower() in ("true", "1", "t")


def _mtu(text: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", text) or (text != "0" and not _LEAST_MTU <= int(text) <= _MOST_MTU):
        raise ValueError(f'"{text}" is not an MTU: {_LEAST_MTU} to {_MOST_MTU} bytes')
    return int(text)


def _ipv4(text: str) -> str:
    try:
        address = IPv4Address(text)
    except ValueError:
        raise ValueError(f'"{text}" is not an IPv4 address') from None
    return "" if address.is_unspecified else str(address)


def _is_nat(text: str) -> bool:
    if text not in ("nat", "routed"):
        raise ValueError(f'"{text}" is not supported: nat or routed')
    return text == "nat"


def _prefix(text: str) -> str:
    if len(text) > 12:
        raise ValueError(f'"{text}" is too long: at most 12 letters, so that a number fits behind it')
    return interface_name(text)


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f'"{text}" is not one of {", ".join(words)}')
        return text

    return read


_MTU = (f"{_DRIVER}mtu", ("mtu", _mtu))
_PREFIX = ("com.docker.network.container_iface_prefix", ("prefix", _prefix))
_PARENT = ("parent", ("parent", interface_name))
_READERS: dict[str, dict[str, tuple[str, Callable[[str], object]]]] = {
    "bridge": {
        **dict([_MTU, _PREFIX]),
        BRIDGE_NAME: ("bridge", interface_name),
        f"{_BRIDGE}enable_icc": ("icc", _flag),
        f"{_BRIDGE}enable_ip_masquerade": ("masquerade", _flag),
        f"{_BRIDGE}gateway_mode_ipv4": ("masquerade", _is_nat),
        f"{_BRIDGE}gateway_mode_ipv6": ("masquerade6", _is_nat),
        f"{_BRIDGE}host_binding_ipv4": ("binding", _ipv4),
    },
    "macvlan": {
        **dict([_PARENT, _MTU, _PREFIX]),
        "macvlan_mode": ("mode", _one_of("bridge", "private", "vepa", "passthru")),
    },
    "ipvlan": {
        **dict([_PARENT, _MTU, _PREFIX]),
        "ipvlan_mode": ("mode", _one_of("l2", "l3", "l3s")),
        "ipvlan_flag": ("flag", _one_of("bridge", "private", "vepa")),
    },
}
DRIVERS = tuple(_READERS)


def parse_options(driver: str, options: Iterable[tuple[str, str]], ipv6: bool = False) -> NetworkOptions:
    """Raises BadOption."""
    readers = _READERS[driver]
    found = NetworkOptions()
    for key, text in options:
        if key not in readers:
            raise BadOption(key, f'there is no option "{key}" here', f"options of {driver}: {', '.join(readers)}")
        name, read = readers[key]
        try:
            value = read(text)
        except ValueError as exc:
            raise BadOption(key, str(exc)) from None
        if name == "masquerade" and key.endswith("enable_ip_masquerade") and not value:
            found = replace(found, masquerade6=False)
        if name == "masquerade" and not found.masquerade:
            value = False
        found = replace(found, **{name: value})
    if _PARENT[0] in readers and not found.parent:
        raise BadOption("parent", f"a network of driver {driver} needs the host's interface that it is on", "parent: eth0")
    if ipv6 and 0 < found.mtu < _LEAST_MTU_IPV6:
        raise BadOption(f"{_DRIVER}mtu", f"IPv6 needs an MTU of at least {_LEAST_MTU_IPV6}, and it is {found.mtu}")
    return found
