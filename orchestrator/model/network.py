"""Networks, how a service is on them, and published ports."""

from __future__ import annotations

from orchestrator.model.names import NetworkName
from orchestrator.values import field, frozen


@frozen
class Subnet:
    """A range that the stack chooses: ``10.1.2.0/24``, ``fd00:1::/64``. `gateway` None: its first address. `ip_range`: the
    part of it that addresses are given out of. `reserved`: addresses that others have (``aux_addresses``), and what these
    are called, which makes no other range of it."""

    subnet: str
    gateway: str | None = None
    ip_range: str | None = None
    reserved: tuple[str, ...] = ()
    reserved_names: tuple[str, ...] = field(default=(), compare=False)


@frozen
class Network:
    """A network of the project. `full_name` is ``PROJECT_KEY`` unless the stack names it.

    `subnets` is empty when the pool chooses. `ipv4`, `ipv6`: which addresses there are on it. `options`:
    ``driver_opts`` of `driver`. `external`: shared with other projects, made by somebody else under `full_name`, and all
    else is as that one says.
    """

    key: NetworkName
    full_name: str
    internal: bool = False
    subnets: tuple[Subnet, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    ipv4: bool = True
    ipv6: bool = False
    driver: str = "bridge"
    options: tuple[tuple[str, str], ...] = ()
    external: bool = False


@frozen
class Link:
    """`alias`: a name that one service alone has for `target`: another service or, if it is `external`, a container."""

    alias: str
    target: str
    external: bool = False
    place: str = ""


@frozen
class Attachment:
    """How one service is on one network. The service's own name is always an alias, and is not repeated here.
    `mac_address`: as the kernel writes it. `dns`: who is asked for names that are not the stack's; () for the host's
    resolvers. `links`: names that it alone has, each with the name that is meant. `link_local`: further addresses, of
    either family. `interface`: its name in the container; "": ``ethN``. `priority`: the network with the highest is the
    first one. `gw_priority`: that with the highest has the default route."""

    network: NetworkName
    aliases: tuple[str, ...] = ()
    ipv4_address: str | None = None
    mac_address: str | None = None
    dns: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    ipv6_address: str | None = None
    link_local: tuple[str, ...] = ()
    interface: str = ""
    priority: int = 0
    gw_priority: int = 0


def parse_mac(text: str) -> str:
    """A MAC address of one station, as the kernel writes it. Raises ValueError."""
    parts = text.lower().replace("-", ":").split(":")
    try:
        octets = [int(part, 16) for part in parts if len(part) == 2]
    except ValueError:
        octets = []
    if len(octets) != len(parts) or len(octets) != 6:
        raise ValueError(f'"{text}" is not a MAC address (write 02:42:ac:11:00:02)')
    if octets[0] & 1 or not any(octets):
        raise ValueError(f'"{text}" is not the MAC address of one station (its first octet is even)')
    return ":".join(f"{octet:02x}" for octet in octets)


@frozen
class PortMapping:
    """``published`` is an inclusive range of host ports, of which one free port is taken; None: any free port.

    `host_ip` None: all addresses of the host. `protocol` is ``tcp`` or ``udp``. `place` is the compose path
    (``services.web.ports[0]``), so that "port in use" can point into the file.
    """

    target: int
    published: tuple[int, int] | None = None
    host_ip: str | None = None
    protocol: str = "tcp"
    place: str = ""
