"""Networks, how a service is on them, and published ports."""

from __future__ import annotations

from orchestrator.model.names import NetworkName
from orchestrator.values import frozen


@frozen
class Subnet:
    """A range that the stack chooses: ``10.1.2.0/24``. `gateway` None: its first address."""

    subnet: str
    gateway: str | None = None


@frozen
class Network:
    """A bridge network of the project. `full_name` is ``PROJECT_KEY`` unless the stack names it.

    `subnets` is empty when the pool chooses.
    """

    key: NetworkName
    full_name: str
    internal: bool = False
    subnets: tuple[Subnet, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()


@frozen
class Attachment:
    """How one service is on one network. The service's own name is always an alias, and is not repeated here."""

    network: NetworkName
    aliases: tuple[str, ...] = ()
    ipv4_address: str | None = None


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
