"""The netlink thread's own objects, and the jobs that need several of them. Everything here runs on that thread."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing

from orchestrator.network import attach, conntrack
from orchestrator.network.attach import Plug
from orchestrator.network.bridge import HostLinks
from orchestrator.network.conntrack import Conntrack
from orchestrator.network.firewall import Bridge, Firewall, Translation
from orchestrator.network.thread import NetlinkThread
from orchestrator.network.veths import VethOwner
from orchestrator.network.watch import listen
from orchestrator.values import frozen


@frozen
class Withdrawal:
    """What is undone when a container goes. `veths`: names of the host's ends. `children`: those of interfaces in the
    namespace `netns_fd` that have none."""

    veths: tuple[str, ...]
    translations: tuple[Translation, ...]
    netns_fd: int = -1
    children: tuple[str, ...] = ()


class Wiring:
    """`changes` is the exception: the event loop reads the notifications of nf_tables from it."""

    def __init__(self, thread: NetlinkThread, table: str) -> None:
        self._thread = thread
        with ExitStack() as opened:
            self.links = opened.enter_context(closing(HostLinks()))
            self.firewall = opened.enter_context(closing(Firewall(table)))
            self.conntrack = opened.enter_context(closing(Conntrack()))
            self.changes = opened.enter_context(listen())
            self._opened = opened.pop_all()

    def close(self) -> None:
        self._opened.close()

    def connect(self, netns_fd: int, pairs: Sequence[Plug], translations: Sequence[Translation]) -> tuple[str, ...]:
        """Connect a namespace and publish its ports, both or neither; returns the names of the host's ends. Raises OSError
        or HostError."""
        names = attach.connect(self._thread, self.links, netns_fd, pairs)
        try:
            self.firewall.add(translations)
        except BaseException:
            self.links.delete(names)
            attach.unplug(self._thread, netns_fd, [each.endpoint.interface for each in pairs if each.endpoint.outer])
            raise
        # What clients sent before there was a mapping is tracked as going to the host itself, and would go on going there.
        for family in {t.family for t in translations}:
            udp = {t.host_port for t in translations if (t.protocol, t.family) == ("udp", family)}
            self.conntrack.forget_udp(family, udp)
        return names

    def disconnect(self, withdrawals: Sequence[Withdrawal]) -> None:
        """Undo `connect` for several containers; what is gone already does not matter. Tries all, then raises."""
        translations = [t for withdrawal in withdrawals for t in withdrawal.translations]
        try:
            self.firewall.discard(translations)
            addresses = {(t.family, t.address) for t in translations}
            self.conntrack.forget(conntrack.answered_by(family, ip) for family, ip in addresses)
        finally:
            self.links.delete([veth for withdrawal in withdrawals for veth in withdrawal.veths])
            for withdrawal in withdrawals:
                if withdrawal.children:
                    attach.unplug(self._thread, withdrawal.netns_fd, withdrawal.children)

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
