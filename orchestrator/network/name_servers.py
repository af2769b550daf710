"""Where the name servers of a project's networks listen: in a network namespace that no process lives in.

    container ~ psvKKKKKKCCCCCC [ bridge ] psvKKKKKKNNNNNN ~ psbKKKKKKKKNNNN [ names namespace ] 10.x.y.254, port 53

A server at an address of the host's would be behind the host's *input* rules, which other software makes and which often
drop; the host is not reached at all from a macvlan network; and of several projects on one network only one could have
that address. In here there is one interface for each network of the project, with an address of its own in it, and packets
between it and a container are switched, not routed. Nothing is routed in here either: there is no default route, forwarding
is off, and each server's sockets hear only what came by the interface of their network.

The namespace lasts while something holds it: our descriptor, the one in the store, and the sockets. Of a project that was
killed with its monitor nothing is left, and the kernel takes the interfaces away.

Networks that an older pystack made, and tiny ones, have no address for it: there the server is at the gateway's address, in
the host's namespace.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from orchestrator.contracts.network import Address, Endpoint
from orchestrator.contracts.site import Site
from orchestrator.kernel.rtnetlink import Link
from orchestrator.model.names import NetworkName, bridge_name
from orchestrator.model.network import Network
from orchestrator.model.subnets import AddressRange
from orchestrator.network import attach
from orchestrator.network.addressing import mac_for
from orchestrator.network.attach import Plug
from orchestrator.network.bridge import write_sysctl
from orchestrator.network.fdstore import FdStore, fetch_sockets
from orchestrator.network.resolver import DNS_PORT, HOST_PORTS, open_sockets, usable
from orchestrator.network.thread import NetlinkThread
from orchestrator.network.veths import NAME_SERVER, VethOwner
from orchestrator.network.wiring import Wiring

Sockets = tuple[socket.socket, socket.socket]
"""UDP and TCP."""

_STORED = "names"
_IPV4 = "/proc/sys/net/ipv4"
_SETTINGS = (
    # A new namespace has the host's settings for IPv4, and of IPv6 the kernel's own: no forwarding.
    (f"{_IPV4}/ip_forward", "0"),
    (f"{_IPV4}/conf/all/rp_filter", "1"),
    # Of two networks, neither is told by the other's interface that an address is here.
    (f"{_IPV4}/conf/all/arp_ignore", "1"),
    (f"{_IPV4}/conf/all/arp_announce", "2"),
    (f"{_IPV4}/conf/all/accept_redirects", "0"),
)


class NameServers:
    """The sockets of all name servers of a project, and the namespace that they are in, once there is one to be made."""

    def __init__(self, site: Site, store: FdStore, thread: NetlinkThread, wiring: Wiring) -> None:
        self._site = site
        self._store = store
        self._thread = thread
        self._wiring = wiring
        self._namespace = -1

    def close(self) -> None:
        """Our hold on the namespace; what the store keeps, waits for the next supervisor."""
        if self._namespace >= 0:
            os.close(self._namespace)
            self._namespace = -1

    async def open(self, network: Network, link: Link, subnet: AddressRange, address: str, mark: str = "") -> Sockets:
        """Those of `network`, from the store or new ones, which are in the store then. `link`: its bridge, or its parent.
        `subnet`: its first range. `address`: the server's own in it; "": it is at the gateway's. `mark`: see `VethPair`.
        Raises OSError, HostError."""
        key = network.key
        kept = await fetch_sockets(self._store, _key(key))
        try:
            if address:
                pair = self._plug(network, link, Address(address, subnet.network.prefixlen, ""), mark)
                sockets = await self._thread.run(self._open_inside, await self._opened(), pair, kept)
            else:
                gateway = str(subnet.gateway)
                sockets = usable(kept, gateway) or open_sockets(gateway, HOST_PORTS)
        except BaseException:
            _close(kept)
            raise
        if sockets[0] not in kept:
            try:
                await self._store.keep(_key(key), [sock.fileno() for sock in sockets])
            except BaseException:
                _close(sockets)
                raise
        return sockets

    def _plug(self, network: Network, link: Link, address: Address, mark: str) -> Plug:
        """Inside, the interface has the bridge's name, or the one that a bridge would have. Its port is one that isolated
        ones reach."""
        name = link.name if network.driver == "bridge" else bridge_name(self._site.key, network.key)
        endpoint = Endpoint(network.key, (address,), mac_for(address.ip), name)
        return attach.plug(network, link, VethOwner(self._site.key, NAME_SERVER, network.key), endpoint, mark=mark)

    async def _opened(self) -> int:
        """The namespace: ours, that of the supervisor before, or a new one."""
        if not await self._find():
            self._namespace = await self._thread.run(self._make)
            try:
                await self._store.keep(_STORED, [self._namespace])
            except BaseException:
                self.close()
                raise
        return self._namespace

    async def _find(self) -> bool:
        if self._namespace < 0 and (kept := await self._store.fetch(_STORED)):
            self._namespace, *others = kept
            for fd in others:
                os.close(fd)
        return self._namespace >= 0

    def _make(self) -> int:
        namespace = self._thread.new_namespace()
        try:
            with self._thread.inside(namespace):
                for path, value in _SETTINGS:
                    write_sysctl(path, value)
        except BaseException:
            os.close(namespace)
            raise
        return namespace

    def _open_inside(self, namespace: int, pair: Plug, kept: Sequence[socket.socket]) -> Sockets:
        attach.connect(self._thread, self._wiring.links, namespace, [pair])
        address, interface = pair.endpoint.addresses[0].ip, pair.endpoint.interface
        with self._thread.inside(namespace):
            index = socket.if_nametoindex(interface)
            return usable(kept, address, index) or open_sockets(address, (DNS_PORT,), index)

    async def forget(self, network: NetworkName, bridged: bool = True) -> None:
        """The server of `network` is closed for good. If it is `bridged`, its interface goes with the bridge's ports."""
        await self._store.drop(_key(network))
        if not bridged and await self._find():
            await self._thread.run(attach.unplug, self._thread, self._namespace, [bridge_name(self._site.key, network)])

    async def remove(self) -> None:
        """No network has a server any more: the namespace goes."""
        self.close()
        await self._store.drop(_STORED)


def _key(network: NetworkName) -> str:
    return f"dns/{network}"


def _close(sockets: Sequence[socket.socket]) -> None:
    for sock in sockets:
        sock.close()
