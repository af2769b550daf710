"""Networks as the scheduler sees them: addresses reserved, network namespaces attached, ports published, names answered."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from orchestrator.model.names import ContainerId, NetworkName, ServiceName
from orchestrator.model.network import Attachment, Network, PortMapping
from orchestrator.model.service import Service
from orchestrator.values import frozen


@frozen
class Address:
    """One address of a container on one network, of either family. `prefix`: length in bits. `gateway`: the bridge's
    address in the same subnet, which is the default route of that family; "": none (a link-local address, a network
    without a gateway)."""

    ip: str
    prefix: int
    gateway: str

    @property
    def is_link_local(self) -> bool:
        """It is a further one (``link_local_ips``): no network has its range there."""
        return self.ip.startswith(("169.254.", "fe8", "fe9", "fea", "feb"))


@frozen
class Endpoint:
    """How a container is on one network. `addresses` has at least one; the first of each family is the one that names and
    published ports lead to.

    `interface` is the name inside the container (``eth0``). `names` are all names DNS answers for it: the container's own,
    and, unless it is a one-off, the service's and the aliases. `internal`: no route to the outside, so no default route by
    it. `gw_priority`: that with the highest has the default route. `dns`: whom our DNS asks for names that are not the
    stack's; () for the host's resolvers. `links`: names that it alone has, each with the name that is meant. `resolver`:
    address of the network's name server; "": the first gateway is it (records of an older pystack, tiny networks).
    `outer`: a network that this machine is on too and does not make (macvlan, ipvlan): its gateway is another machine, and
    nothing is published by it.
    """

    network: NetworkName
    addresses: tuple[Address, ...]
    mac: str
    interface: str
    names: tuple[str, ...] = ()
    internal: bool = False
    dns: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    gw_priority: int = 0
    resolver: str = ""
    outer: bool = False

    @property
    def name_server(self) -> str:
        """Who answers names on this network; "": nobody of ours."""
        return self.resolver or ("" if self.outer else self.addresses[0].gateway)


@frozen
class Published:
    """One published port as it really is: `host_port` is the port that was taken. `host_ip` ``0.0.0.0``: all."""

    host_ip: str
    host_port: int
    target: int
    protocol: str = "tcp"


@frozen
class Loss:
    """Packets are dropped, each with the probability `share`; 1.0: all."""

    share: float = 1.0


@frozen
class Delay:
    """Packets are held back, each for `delay_s` give or take `jitter_s`."""

    delay_s: float
    jitter_s: float = 0.0


@frozen
class Rate:
    """So many bits pass in a second; what is more waits."""

    bits_per_s: int


@frozen
class NoNames:
    """Questions for `name`, and for what ends in ``.NAME`` (in lower case; "": all), are not answered but with SERVFAIL;
    with `silent` not at all."""

    name: str = ""
    silent: bool = False


@frozen
class Impairment:
    """A fault on purpose. `effect`: on packets from `containers` to `peers` and, unless `one_way`, back; of NoNames on what
    the containers ask. `outside`: the peers are all that has no address on the project's networks, and the machine itself,
    but not its name server. Neither `peers` nor `outside`: whatever they send and receive, for Delay and Rate."""

    id: str
    effect: Loss | Delay | Rate | NoNames
    containers: tuple[ContainerId, ...]
    peers: tuple[ContainerId, ...] = ()
    outside: bool = False
    one_way: bool = False


class Networking(Protocol):
    """All networks of one project. `reserve`, `restore`, `reserve_written`, `set_ready` and `release` decide at once and
    without I/O, so that no task can come between a decision and what follows from it."""

    async def ensure(self, networks: Sequence[Network]) -> Sequence[str]:
        """Make each network that does not exist: subnets, bridge, nft tables, DNS server. Idempotent; adopts what a killed
        supervisor left. One that is external is found, and shared with the other projects that are on it; if nobody has
        made it, the error says so with its place. Returns warnings: what could be done in a way only that may surprise.
        Raises HostError (no permission, no nf_tables, no IPv6), OperationError (subnet taken, pool exhausted)."""
        ...

    def reserve_written(self, written: Mapping[NetworkName, Collection[str]]) -> None:
        """The addresses that the stack writes down, all of them (`written_addresses`), in place of what was said before:
        from now on only `reserve` with that very `ipv4_address` or `ipv6_address` gives one out, whatever the order that
        containers come in. To be called whenever the stack is read, before anything of it is reserved; the networks need
        not exist yet. It is a call of its own and not a part of `ensure`, because a stack may change while none of its
        networks does."""
        ...

    def reserve(
        self,
        container: ContainerId,
        service: ServiceName,
        attachments: Sequence[Attachment],
        service_name: bool = True,
    ) -> tuple[Endpoint, ...]:
        """Addresses and names for `container`. The same container gets the same addresses again until ``release``, and the
        same name of its interface on a network where it stays; addresses that it had until now are given to nobody before
        `attach` or `rewire` has taken it off them.
        `service_name` False (one-offs without ``--use-aliases``): it answers to its own name only, and neither to its
        service's nor to aliases. Raises OperationError when a wanted address is taken or outside the subnet."""
        ...

    def restore(self, container: ContainerId, endpoints: Sequence[Endpoint], published: Sequence[Published] = ()) -> None:
        """Reserve exactly what a record from before says (adoption). `published`: host ports of it in a range stay its own
        as long as others find another one."""
        ...

    async def attach(
        self,
        container: ContainerId,
        netns_fd: int,
        endpoints: Sequence[Endpoint],
        ports: Sequence[PortMapping],
        keep: Sequence[Published] = (),
        guarded: bool = True,
    ) -> tuple[Published, ...]:
        """Wire the network namespace (lo, eth0.., routes), publish `ports`, answer its names. Idempotent for a namespace
        that is wired already (adoption): then only ports and names are (re-)established.

        A port that leaves a choice (a range, or none named) falls on the one in `keep` if it is free, else on what the
        container had before, else on the next free one. Ready afterwards, unless it was attached already.
        `guarded`: what leaves the namespace by its endpoints must have their MAC and addresses, and be neither a router's
        nor a DHCP server's word; else it is dropped. Not recorded: the last call counts.
        Raises OperationError naming ``PortMapping.place`` when a host port is in use or a range is exhausted; nothing is
        left behind then."""
        ...

    async def rewire(
        self,
        container: ContainerId,
        netns_fd: int,
        endpoints: Sequence[Endpoint],
        ports: Sequence[PortMapping],
        keep: Sequence[Published] = (),
        guarded: bool = True,
    ) -> tuple[Published, ...]:
        """Bring a container from how it was attached to `endpoints`, as `reserve` gives them, and `ports`, while it runs.
        What is the same before and afterwards goes on without a lost packet: interfaces with the same addresses, MAC and
        name, ports, and connections by them. Nobody begins new connections by a port that is taken away; those that are
        open end by themselves. Idempotent, and as `attach` for a container that is not attached, but that this also finds
        what a supervisor that was killed in the middle has left.

        Raises as `attach`; all is then as it was before, but for what `reserve` has said, which `restore` takes back, or
        the error says that it could not be put back."""
        ...

    async def hand_over(
        self,
        predecessor: ContainerId,
        container: ContainerId,
        endpoints: Sequence[Endpoint],
        ports: Sequence[PortMapping],
        guarded: bool = True,
    ) -> tuple[Published, ...]:
        """Put `container`, which is attached without ports, in the place of `predecessor`, in one step for whoever asks or
        connects: it answers to the names of `endpoints`, which are those it is attached with and have got names, as
        `reserve` gives them, and `ports` lead to it. A host port that the predecessor has falls to it wherever the stack
        allows that, without a moment in which nobody has it. The predecessor answers to no name and has no port any more;
        connections that are open go on, to it; its ports are given up with `detach`.
        `predecessor` need not be attached. Raises as `attach`; all is then as it was before."""
        ...

    async def open_connections(self, container: ContainerId, netns_fd: int) -> int:
        """How many TCP connections there are from elsewhere to what listens in the container's network namespace."""
        ...

    def set_ready(self, container: ContainerId, ready: bool) -> None:
        """Whether `container` answers to the names that it shares with others (service, aliases). While none of the
        attached containers of a name is ready, all of them answer. Does nothing for a container that is not attached."""
        ...

    async def detach(self, container: ContainerId) -> None:
        """Undo `attach`: names, ports, veth. The addresses stay reserved. Never raises for what is gone already."""
        ...

    def release(self, container: ContainerId) -> None:
        """Give the addresses back (the container is removed)."""
        ...

    async def impair(self, impairments: Sequence[Impairment]) -> None:
        """From now on exactly these are in force, whatever was before, also by a supervisor that was killed. They are about
        the addresses that their containers have reserved at that moment, whether attached or not, and of one that is about
        to be rewired also about those of before. Of one that is not attached, Delay and Rate begin when it is. Addresses
        that are reserved or released later count with the next call. Raises HostError when the kernel cannot do one of
        them, and then those of before are in force."""
        ...

    async def observe(self) -> None:
        """Count from now on what containers of one network say to each other, until the last network is removed or a user
        ends that. What is counted already stays. Not to be called while `remove` is under way. Raises HostError."""
        ...

    async def remove(self, networks: Sequence[NetworkName]) -> None:
        """Remove these networks (bridge, DNS); with the last one also the project's nft table. Never raises for what is
        gone already; raises OperationError when containers are still attached."""
        ...


def written_addresses(services: Iterable[Service]) -> dict[NetworkName, frozenset[str]]:
    """The addresses that these services write down, by network: for `Networking.reserve_written`."""
    found: dict[NetworkName, set[str]] = {}
    for service in services:
        for attachment in service.networks.values():
            for address in (attachment.ipv4_address, attachment.ipv6_address):
                if address is not None:
                    found.setdefault(attachment.network, set()).add(address)
    return {network: frozenset(addresses) for network, addresses in found.items()}
