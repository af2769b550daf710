"""The netlink thread's own objects, and the jobs that need several of them. Everything here runs on that thread."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack, closing

from orchestrator.contracts.network import Endpoint
from orchestrator.kernel import rtnetlink as rt
from orchestrator.kernel.netlink import NETLINK_ROUTE, NetlinkSocket
from orchestrator.network import attach, conntrack
from orchestrator.network.attach import Plug, Standing, VethPair, pairs_of
from orchestrator.network.bridge import HostLinks
from orchestrator.network.conntrack import Conntrack
from orchestrator.network.firewall import Bridge, Firewall, Translation
from orchestrator.network.guard import Port
from orchestrator.network.losses import LossTables
from orchestrator.network.queues import Tree, lay
from orchestrator.network.thread import NetlinkThread
from orchestrator.network.veths import VethOwner
from orchestrator.network.watch import Tables, listen
from orchestrator.values import frozen


@frozen
class Withdrawal:
    """What is undone on the host when a container goes. `veths`: names of the host's ends."""

    veths: tuple[str, ...]
    translations: tuple[Translation, ...]


@frozen
class Interface:
    """A container's: `name` in its namespace, `veth` on the host. `number`: one that is made anew has another."""

    netns_fd: int
    name: str
    veth: str
    number: int


class Wiring:
    """`changes` is the exception: the event loop reads the notifications of nf_tables from it. `shared`: the tables of
    shared networks that the project is on, by the network's name."""

    def __init__(self, thread: NetlinkThread, table: str, chaos: str) -> None:
        self._thread = thread
        with ExitStack() as opened:
            self.links = opened.enter_context(closing(HostLinks()))
            self.firewall = opened.enter_context(closing(Firewall(table)))
            self.losses = opened.enter_context(closing(LossTables(chaos)))
            self.conntrack = opened.enter_context(closing(Conntrack()))
            self.changes = opened.enter_context(listen())
            self._opened = opened.pop_all()
        self.shared: dict[str, Firewall] = {}
        self.on_connected: Callable[[int], None] = lambda netns_fd: None
        """Called with each namespace that has been connected."""

    def close(self) -> None:
        for firewall in self.shared.values():
            firewall.close()
        self._opened.close()

    @property
    def tables(self) -> list[Tables]:
        """All that are put back when somebody deletes them."""
        return [self.firewall, self.losses, *self.shared.values()]

    def connect(self, netns_fd: int, plugs: Sequence[Plug], translations: Sequence[Translation]) -> tuple[str, ...]:
        """Connect a namespace and publish its ports, both or neither; returns the names of the host's ends. Raises OSError
        or HostError."""
        admitted: list[str] = []

        def admit(names: tuple[str, ...]) -> None:
            self.firewall.add(translations, _ports(names, plugs))
            admitted.extend(names)

        try:
            names = attach.connect(self._thread, self.links, netns_fd, plugs, admit)
        except BaseException:
            if admitted:
                self.links.delete(admitted)
                self.firewall.discard(translations)
                self.firewall.forget_ports(admitted)
                self.unplug(netns_fd, interfaces_of_children(each.endpoint for each in plugs))
            raise
        # What clients sent before there was a mapping is tracked as going to the host itself, and would go on going there.
        for family in {t.family for t in translations}:
            udp = {t.host_port for t in translations if (t.protocol, t.family) == ("udp", family)}
            self.conntrack.forget_udp(family, udp)
        self.on_connected(netns_fd)
        return names

    def standing(self, netns_fd: int, plugs: Sequence[Plug]) -> Standing:
        """What of `plugs` is as it should be. Raises OSError."""
        return attach.standing(self._thread, self.links, netns_fd, plugs)

    def unplug(self, netns_fd: int, interfaces: Sequence[str]) -> None:
        """Take away interfaces of the namespace that have no end on the host. Raises OSError."""
        attach.unplug(self._thread, netns_fd, interfaces)

    def rewire(
        self, netns_fd: int, plugs: Sequence[Plug], leaving: Iterable[VethOwner], children: Sequence[str]
    ) -> tuple[str, ...]:
        """Bring a connected namespace to `plugs`, after taking away whatever `leaving` have and the `children`, by their
        names inside; returns the names of the host's ends. Raises OSError or HostError; what is missing then can be made
        by another call."""
        gone = self.veths_of(leaving)
        self.links.delete(gone)
        self.unplug(netns_fd, children)

        def admit(names: tuple[str, ...]) -> None:
            self.firewall.add((), _ports(names, plugs))

        names = attach.connect(self._thread, self.links, netns_fd, plugs, admit)
        self.firewall.forget_ports({*gone} - {*names})
        for name, pair in zip(names, pairs_of(plugs), strict=True):
            self.links.set_port(name, pair.hairpin, pair.isolated)
        return names

    def publish(self, translations: Sequence[Translation], stale: Iterable[Translation], own: Collection[str]) -> None:
        """Publish `translations` in place of `stale`, for a container that goes on with the addresses `own`."""
        before, now = set(stale), set(translations)
        self.firewall.add(translations)
        self.firewall.discard(before - now)
        gone = {(t.family, t.address) for t in before if t.address not in own}
        self.conntrack.forget(conntrack.answered_by(family, ip) for family, ip in sorted(gone))
        for family in sorted({t.family for t in before ^ now}):
            udp = {t.host_port for t in before ^ now if (t.protocol, t.family) == ("udp", family)}
            self.conntrack.forget_udp(family, udp)

    def disconnect(self, withdrawals: Sequence[Withdrawal]) -> None:
        """Undo `connect` for several containers; what is gone already does not matter. Tries all, then raises."""
        translations = [t for withdrawal in withdrawals for t in withdrawal.translations]
        try:
            self.firewall.discard(translations)
            addresses = {(t.family, t.address) for t in translations}
            self.conntrack.forget(conntrack.answered_by(family, ip) for family, ip in addresses)
        finally:
            veths = [veth for withdrawal in withdrawals for veth in withdrawal.veths]
            self.links.delete(veths)
            # After the link: others may run in that namespace, and would not be guarded for a moment.
            self.firewall.forget_ports(veths)

    def slow(self, interface: Interface, sent: Tree | None, received: Tree | None) -> None:
        """Make the queues at both ends of a container's interface; None: as they are. Raises HostError, OSError."""
        if sent is not None:
            with self._thread.inside(interface.netns_fd):
                inside = NetlinkSocket(NETLINK_ROUTE)
            with inside:
                self._lay(inside, interface.name, sent)
        if received is not None:
            with NetlinkSocket(NETLINK_ROUTE) as here:
                self._lay(here, interface.veth, received)

    @staticmethod
    def _lay(sock: NetlinkSocket, name: str, tree: Tree) -> None:
        for body in sock.ask(rt.get_link(name)):  # It is gone when the container has just ended.
            lay(sock, rt.parse_link(body).index, name, tree)

    def veths_of(self, owners: Iterable[VethOwner]) -> tuple[str, ...]:
        """The host's ends that these have, as the kernel knows them."""
        present = {link.name: link for link in self.links.all()}
        return tuple(
            name for owner in owners for name in owner.names() if name in present and owner.owns(present[name])
        )

    def published_to(self, addresses: Iterable[str]) -> tuple[Translation, ...]:
        """What the maps say leads to these addresses."""
        wanted = set(addresses)
        return tuple(sorted(t for t in self._published() if t.address in wanted))

    def published_to_none_of(self, addresses: set[str]) -> tuple[Translation, ...]:
        """What leads to containers at other addresses than these."""
        return tuple(sorted(t for t in self._published() if t.address not in addresses and not t.is_own))

    def _published(self) -> Iterable[Translation]:
        if not self.firewall.made:
            self.firewall.find()
        return self.firewall.elements

    def set_bridges(self, bridges: Iterable[Bridge]) -> None:
        """Replace the rules; the first time, learn what a killed supervisor had published."""
        if not self.firewall.made:
            self.firewall.find()
            self.firewall.set_bridges(bridges)
            self.firewall.forget_ports(self.firewall.guard.ports - {link.name for link in self.links.all()})
        else:
            self.firewall.set_bridges(bridges)


def interfaces_of_children(endpoints: Iterable[Endpoint]) -> tuple[str, ...]:
    """By their names in the container's namespace."""
    return tuple(endpoint.interface for endpoint in endpoints if endpoint.outer)


def _ports(names: Sequence[str], plugs: Sequence[Plug]) -> dict[str, Port | None]:
    return {name: _port(name, pair) for name, pair in zip(names, pairs_of(plugs), strict=True)}


def _port(name: str, pair: VethPair) -> Port | None:
    end = pair.endpoint
    return Port(name, end.mac, tuple(address.ip for address in end.addresses)) if pair.guarded else None
