"""Networks in memory, with the checks of a careful host: no address without a network, no port twice."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import trio

from orchestrator.contracts.network import Endpoint, Published
from orchestrator.errors import OperationError
from orchestrator.model.names import ContainerId, NetworkName, ServiceName
from orchestrator.model.network import Attachment, Network, PortMapping


class FakeNetworking:
    """`contracts.network.Networking`. `taken`: host ports that another program has."""

    def __init__(self, taken: Collection[int] = ()) -> None:
        self.taken = set(taken)
        self.networks: dict[NetworkName, Network] = {}
        self.reserved: dict[ContainerId, tuple[Endpoint, ...]] = {}
        self.attached: dict[ContainerId, tuple[Published, ...]] = {}
        self.detached: list[ContainerId] = []
        self.ensured: list[tuple[NetworkName, ...]] = []
        self._given = 1

    async def ensure(self, networks: Sequence[Network]) -> None:
        await trio.lowlevel.checkpoint()
        self.ensured.append(tuple(network.key for network in networks))
        self.networks.update({network.key: network for network in networks})

    def reserve(
        self, container: ContainerId, service: ServiceName, attachments: Sequence[Attachment]
    ) -> tuple[Endpoint, ...]:
        if (known := self.reserved.get(container)) is not None:
            return known
        endpoints = []
        for number, attachment in enumerate(attachments):
            assert attachment.network in self.networks, (
                f"{container} wants an address on {attachment.network}: no such network"
            )
            self._given += 1
            address = attachment.ipv4_address or f"10.0.{self._given // 250}.{self._given % 250 + 1}"
            names = (service, container, *attachment.aliases)
            endpoints.append(
                Endpoint(attachment.network, address, 16, "10.0.0.1", f"02:00:00:00:00:{number:02x}", f"eth{number}", names)
            )
        self.reserved[container] = tuple(endpoints)
        return self.reserved[container]

    def restore(self, container: ContainerId, endpoints: Sequence[Endpoint]) -> None:
        self.reserved[container] = tuple(endpoints)

    async def attach(
        self, container: ContainerId, netns_fd: int, endpoints: Sequence[Endpoint], ports: Sequence[PortMapping]
    ) -> tuple[Published, ...]:
        await trio.lowlevel.checkpoint()
        assert netns_fd >= 0
        assert self.reserved.get(container, ()) == tuple(endpoints), (
            f"{container} is attached with addresses that are not its own"
        )
        busy = self.taken | {
            item.host_port for other, published in self.attached.items() if other != container for item in published
        }
        published = []
        for port in ports:
            first, last = port.published or (32768, 60999)
            free = next((number for number in range(first, last + 1) if number not in busy), None)
            if free is None:
                raise OperationError(f"{port.place}: host port {first} is in use", hint="stop what listens there")
            busy.add(free)
            published.append(Published(port.host_ip or "0.0.0.0", free, port.target, port.protocol))
        self.attached[container] = tuple(published)
        return tuple(published)

    async def detach(self, container: ContainerId) -> None:
        await trio.lowlevel.checkpoint()
        if self.attached.pop(container, None) is not None:
            self.detached.append(container)

    def release(self, container: ContainerId) -> None:
        assert container not in self.attached, f"{container} gives back addresses it still uses"
        self.reserved.pop(container, None)

    async def remove(self, networks: Sequence[NetworkName]) -> None:
        await trio.lowlevel.checkpoint()
        for key in networks:
            users = [container for container, ends in self.reserved.items() if any(end.network == key for end in ends)]
            if users:
                raise OperationError(f"network {key} is still used by {', '.join(sorted(users))}")
            self.networks.pop(key, None)

    def reboot(self) -> None:
        self.networks.clear()
        self.reserved.clear()
        self.attached.clear()

    def forget(self) -> None:
        """The supervisor was killed: what it held in its memory is gone, what the kernel holds is not."""
        self.reserved.clear()
