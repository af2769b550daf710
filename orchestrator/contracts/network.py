"""Networks as the scheduler sees them: addresses reserved, network namespaces attached, ports published, names answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from orchestrator.model.names import ContainerId, NetworkName, ServiceName
from orchestrator.model.network import Attachment, Network, PortMapping
from orchestrator.values import frozen


@frozen
class Endpoint:
    """A container's place on one network: IPv4 address, prefix length, the bridge's address (default route and DNS).

    `interface` is the name inside the container (``eth0``). `names` are all names DNS answers for it: the service's,
    the container's and the aliases. `internal`: no route to the outside, so no default route by it.
    """

    network: NetworkName
    address: str
    prefix: int
    gateway: str
    mac: str
    interface: str
    names: tuple[str, ...] = ()
    internal: bool = False


@frozen
class Published:
    """One published port as it really is: `host_port` is the port that was taken. `host_ip` ``0.0.0.0``: all."""

    host_ip: str
    host_port: int
    target: int
    protocol: str = "tcp"


class Networking(Protocol):
    """All networks of one project."""

    async def ensure(self, networks: Sequence[Network]) -> None:
        """Make each network that does not exist: subnet, bridge, nft table, DNS server. Idempotent; adopts what a killed
        supervisor left. Raises HostError (no permission, no nf_tables), OperationError (subnet taken, pool exhausted)."""
        ...

    def reserve(
        self, container: ContainerId, service: ServiceName, attachments: Sequence[Attachment]
    ) -> tuple[Endpoint, ...]:
        """Addresses for `container`, decided at once and without I/O. The same container gets the same addresses again
        until ``release``. Raises OperationError when a wanted address is taken or outside the subnet."""
        ...

    def restore(self, container: ContainerId, endpoints: Sequence[Endpoint]) -> None:
        """Reserve exactly what a record from before says (adoption)."""
        ...

    async def attach(
        self, container: ContainerId, netns_fd: int, endpoints: Sequence[Endpoint], ports: Sequence[PortMapping]
    ) -> tuple[Published, ...]:
        """Wire the network namespace (lo, eth0.., routes), publish `ports`, answer its names. Idempotent for a namespace
        that is wired already (adoption): then only ports and names are (re-)established.
        Raises OperationError naming ``PortMapping.place`` when a host port is in use; nothing is left behind then."""
        ...

    async def detach(self, container: ContainerId) -> None:
        """Undo `attach`: names, ports, veth. The addresses stay reserved. Never raises for what is gone already."""
        ...

    def release(self, container: ContainerId) -> None:
        """Give the addresses back (the container is removed)."""
        ...

    async def remove(self, networks: Sequence[NetworkName]) -> None:
        """Remove these networks (bridge, DNS); with the last one also the project's nft table. Never raises for what is
        gone already; raises OperationError when containers are still attached."""
        ...
