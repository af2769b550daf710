"""How a container is on its networks, from what the stack says and the addresses there are. Pure; the fake uses it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count

from orchestrator.contracts.network import Address, Endpoint
from orchestrator.errors import OperationError
from orchestrator.model.names import ContainerId, NetworkName, ServiceName
from orchestrator.model.network import Attachment, Network
from orchestrator.model.network_options import parse_options
from orchestrator.network.addressing import ADDRESS_KEYS, AddressBooks, family_of, mac_for


def take_endpoints(
    container: ContainerId,
    service: ServiceName,
    attachments: Iterable[Attachment],
    networks: Callable[[NetworkName], tuple[Network, AddressBooks]],
    service_name: bool = True,
    held: Iterable[Endpoint] = (),
) -> tuple[Endpoint, ...]:
    """Takes the addresses, all or none. The network with the highest priority is the first one. `held`: how the container
    is on its networks now; an interface of a network that it stays on keeps its name. Raises OperationError."""
    ordered = sorted(attachments, key=lambda item: -item.priority)
    taken: list[AddressBooks] = []
    endpoints: list[Endpoint] = []
    kept = {endpoint.network: endpoint.interface for endpoint in held}
    interfaces = _interfaces(ordered, {item.network: networks(item.network)[0] for item in ordered}, kept)
    try:
        for attachment, interface in zip(ordered, interfaces, strict=True):
            network, books = networks(attachment.network)
            known = container in books.containers
            addresses = _take(books, container, service, attachment)
            if not known:
                taken.append(books)
            names = (service, container, *attachment.aliases) if service_name else (container,)
            endpoints.append(
                Endpoint(
                    network=attachment.network,
                    addresses=addresses,
                    mac=attachment.mac_address or mac_for(addresses[0].ip),
                    interface=interface,
                    names=tuple(dict.fromkeys(names)),
                    internal=network.internal,
                    dns=attachment.dns,
                    links=attachment.links,
                    gw_priority=attachment.gw_priority,
                    resolver=books.resolver,
                    outer=network.driver != "bridge",
                )
            )
    except OperationError:
        for books in taken:
            books.give_back(container)
        raise
    return tuple(endpoints)


def _take(
    books: AddressBooks, container: ContainerId, service: ServiceName, attachment: Attachment
) -> tuple[Address, ...]:
    """Raises OperationError, with the place of the address that the stack writes where that is what is wrong."""
    try:
        return books.take(container, attachment)
    except OperationError as exc:
        if exc.place not in ADDRESS_KEYS.values():
            raise
        place = f"services.{service}.networks.{attachment.network}.{exc.place}"
        raise OperationError(exc.message, hint=exc.hint, exit_code=exc.exit_code, place=place) from None


def _interfaces(
    attachments: Sequence[Attachment], networks: Mapping[NetworkName, Network], kept: Mapping[NetworkName, str]
) -> list[str]:
    """What the stack names; what is `kept` from before; else ``eth0``, ``eth1``, ...: numbered by their order, in a
    container that is there already the next that is free."""
    taken = {item.interface for item in attachments if item.interface}
    unnamed = {item.network for item in attachments if not item.interface}
    staying = {network for network, name in kept.items() if network in unnamed and name not in taken}
    taken |= {kept[network] for network in staying}
    found: list[str] = []
    for number, item in enumerate(attachments):
        name = item.interface or (kept[item.network] if item.network in staying else "")
        if not name:
            network = networks[item.network]
            prefix = parse_options(network.driver, network.options).prefix if network.options else "eth"
            name = next(f"{prefix}{n}" for n in count(0 if kept else number) if f"{prefix}{n}" not in taken)
            taken.add(name)
        found.append(name)
    return found


def ways_out(endpoints: Sequence[Endpoint], family: int) -> tuple[Endpoint, Address] | None:
    """The network that has the default route of `family`, with the address on it: of those with a way out, the one with the
    highest `gw_priority`; of these one that this machine makes, the first."""
    for endpoint in sorted(endpoints, key=lambda item: (-item.gw_priority, item.outer)):
        for address in endpoint.addresses if not endpoint.internal else ():
            if address.gateway and family_of(address.ip) == family:
                return endpoint, address
    return None
