"""What a container with CAP_NET_RAW says of others is not heard: raw frames out of namespaces that the lab made.

Each forgery is sent twice: by a container that is not guarded, and then it is heard (so the frame is right), and by one
that is. What is not heard is known by what comes after it: a frame of the same container's own.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, ip_address
from pathlib import Path

import pytest
import trio
import trio.testing

from orchestrator.contracts.network import Address, Endpoint, Networking
from orchestrator.contracts.site import Site
from orchestrator.kernel.netlink import Request
from orchestrator.kernel.rtnetlink import mac_bytes
from orchestrator.model.names import ContainerId, NetworkName, ProjectKey, ServiceName, nft_table
from orchestrator.model.network import Attachment
from orchestrator.model.subnets import AddressRange
from orchestrator.network import attach
from orchestrator.network import nftables as nft
from orchestrator.network.adapter import open_networking
from orchestrator.network.attach import VethPair
from orchestrator.network.bridge import HostLinks
from orchestrator.network.firewall import Bridge, Firewall
from orchestrator.network.guard import Port, link_local
from orchestrator.network.leftovers import find_leftovers, remove_leftovers
from orchestrator.network.thread import open_thread
from orchestrator.network.veths import VethOwner
from tests.kernel.network_lab import DEADLINE_S, HOST, Box, Lab, ask, echo, lab, network, site, start, stop, tcp
from tests.leaks import nft_tables

pytestmark = pytest.mark.kernel

DEFAULT = NetworkName("default")
EVERYBODY = "ff:ff:ff:ff:ff:ff"
ALL_NODES, ALL_NODES_MAC = "ff02::1", "33:33:00:00:00:01"
ETH_P_ALL, PACKET_OUTGOING = 3, 4
ARP, IP4, IP6, VLAN, EXPERIMENTAL = 0x0806, 0x0800, 0x86DD, 0x8100, 0x88B5


# -- frames -----------------------------------------------------------------------------------------------------------


def ethernet(to: str, source: str, kind: int, payload: bytes) -> bytes:
    return mac_bytes(to) + mac_bytes(source) + struct.pack(">H", kind) + payload


def arp(operation: int, mac: str, ip: str, to_mac: str, to_ip: str) -> bytes:
    """RFC 826. `operation`: 1 asks, 2 answers."""
    ends = mac_bytes(mac) + socket.inet_aton(ip) + mac_bytes(to_mac) + socket.inet_aton(to_ip)
    return struct.pack(">HHBBH", 1, 0x0800, 6, 4, operation) + ends


def checksum(data: bytes) -> int:
    """RFC 1071."""
    data += b"\0" * (len(data) & 1)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def udp4(source: str, to: str, ports: tuple[int, int], payload: bytes) -> bytes:
    header = struct.pack(">BBHHHBBH", 0x45, 0, 28 + len(payload), 1, 0, 64, 17, 0)
    ends = socket.inet_aton(source) + socket.inet_aton(to)
    header = header[:10] + struct.pack(">H", checksum(header + ends)) + ends
    return header + struct.pack(">HHHH", *ports, 8 + len(payload), 0) + payload


def ip6(source: str, to: str, protocol: int, payload: bytes) -> bytes:
    ends = ip_address(source).packed + ip_address(to).packed
    return struct.pack(">IHBB", 6 << 28, len(payload), protocol, 255) + ends + payload


def udp6(source: str, to: str, ports: tuple[int, int], payload: bytes) -> bytes:
    return ip6(source, to, 17, struct.pack(">HHHH", *ports, 8 + len(payload), 0) + payload)


def icmp6(source: str, to: str, kind: int, body: bytes) -> bytes:
    message = struct.pack(">BBH", kind, 0, 0) + body
    pseudo = ip_address(source).packed + ip_address(to).packed + struct.pack(">II", len(message), 58)
    return ip6(source, to, 58, message[:2] + struct.pack(">H", checksum(pseudo + message)) + message[4:])


NEEDLE = b"forged by somebody"
NEEDLE_OPTION = b"\x0e\3" + NEEDLE.ljust(22, b"\0")
"""Of neighbour discovery (a nonce, RFC 3971): bridge netfilter cuts off what comes after a packet."""


def solicitation(source: str, to: str, target: str) -> bytes:
    return icmp6(source, to, 135, bytes(4) + ip_address(target).packed + NEEDLE_OPTION)


def advertisement(source: str, to: str, target: str, mac: str) -> bytes:
    """That overrides what is known."""
    body = struct.pack(">I", 0x60000000) + ip_address(target).packed + b"\2\1" + mac_bytes(mac)
    return icmp6(source, to, 136, body + NEEDLE_OPTION)


# -- the place --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """`victim` and `other` are who is lied to, and about; `loose` is not guarded, `guarded` is."""

    world: Lab
    networking: Networking
    site: Site
    victim: Box
    other: Box
    loose: Box
    guarded: Box

    def table(self) -> str:
        argv = ["nft", "list", "table", "bridge", nft_table(self.site.key)]
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


@asynccontextmanager
async def place() -> AsyncIterator[Place]:
    with trio.fail_after(DEADLINE_S), lab() as world, tempfile.TemporaryDirectory() as directory:
        where = site(Path(directory))
        async with open_networking(where) as networking:
            await networking.ensure([network(ipv6=True)])
            boxes = [await start(world, networking, name, guarded=name != "loose") for name in NAMES]
            yield Place(world, networking, where, *boxes)
            await stop(world, networking, *boxes)
            await networking.remove([DEFAULT])
        assert nft_tables() == []


NAMES = ("victim", "other", "loose", "guarded")


async def until(look: Callable[[], object]) -> None:
    """As `tests.machine.eventually`, while the adapter's tasks go on; the deadline is the place's."""
    while not look():
        await trio.testing.wait_all_tasks_blocked(0.005)


def mac(box: Box) -> str:
    return box.endpoints[0].mac


class Wire:
    """A packet socket on a container's interface."""

    def __init__(self, world: Lab, box: Box, interface: str = "eth0") -> None:
        with world.inside(box.fd):
            self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            self._sock.bind((interface, 0))
        world.sockets.append(self._sock)
        self._box = box
        self._number = 0

    def send(self, frame: bytes) -> None:
        self._sock.send(frame)

    def mark(self) -> bytes:
        """Send everybody a frame that nobody minds; its content."""
        self._number += 1
        content = b"%s says %d" % (self._box.name.encode(), self._number)
        self.send(ethernet(EVERYBODY, mac(self._box), EXPERIMENTAL, content))
        return content

    async def until(self, content: bytes) -> list[bytes]:
        """The frames that arrive, up to the one that contains `content`."""
        heard = trio.socket.from_stdlib_socket(self._sock.dup())
        found: list[bytes] = []
        with heard:
            while not found or content not in found[-1]:
                frame, source = await heard.recvfrom(2000)
                if source[2] != PACKET_OUTGOING:
                    found.append(frame)
        return found


Forgery = Callable[[Place, Box], bytes]

FORGERIES: dict[str, Forgery] = {
    "an ARP answer with another one's address": lambda p, me: ethernet(
        mac(p.victim), mac(me), ARP, arp(2, mac(me), p.other.address, mac(p.victim), p.victim.address) + NEEDLE
    ),
    "a gratuitous ARP with another one's address": lambda p, me: ethernet(
        EVERYBODY, mac(me), ARP, arp(1, mac(me), p.other.address, EVERYBODY, p.other.address) + NEEDLE
    ),
    "an ARP answer with the gateway's address": lambda p, me: ethernet(
        mac(p.victim), mac(me), ARP, arp(2, mac(me), me.gateway, mac(p.victim), p.victim.address) + NEEDLE
    ),
    "an ARP answer with another one's MAC": lambda p, me: ethernet(
        mac(p.victim), mac(me), ARP, arp(2, mac(p.other), me.address, mac(p.victim), p.victim.address) + NEEDLE
    ),
    "an ARP answer tagged as of no VLAN": lambda p, me: ethernet(
        mac(p.victim),
        mac(me),
        VLAN,
        struct.pack(">HH", 0, ARP) + arp(2, mac(me), p.other.address, mac(p.victim), p.victim.address) + NEEDLE,
    ),
    "an ARP answer tagged as of no service VLAN": lambda p, me: ethernet(
        mac(p.victim),
        mac(me),
        0x88A8,
        struct.pack(">HH", 0, ARP) + arp(2, mac(me), p.other.address, mac(p.victim), p.victim.address) + NEEDLE,
    ),
    "a frame with another one's MAC": lambda p, me: ethernet(mac(p.victim), mac(p.other), EXPERIMENTAL, NEEDLE),
    "an IPv4 packet with another one's address": lambda p, me: ethernet(
        mac(p.victim), mac(me), IP4, udp4(p.other.address, p.victim.address, (5, 5), NEEDLE)
    ),
    "an IPv4 packet that is routed for somebody outside": lambda p, me: ethernet(
        mac(p.victim), mac(me), IP4, udp4("203.0.113.9", p.victim.address, (5, 5), NEEDLE)
    ),
    "an IPv4 packet of its own address with another one's MAC": lambda p, me: ethernet(
        mac(p.victim), mac(p.other), IP4, udp4(me.address, p.victim.address, (5, 5), NEEDLE)
    ),
    "a DHCP server's answer": lambda p, me: ethernet(
        mac(p.victim), mac(me), IP4, udp4(me.address, p.victim.address, (67, 68), NEEDLE)
    ),
    "an IPv6 packet with another one's address": lambda p, me: ethernet(
        mac(p.victim), mac(me), IP6, udp6(p.other.address6, p.victim.address6, (5, 5), NEEDLE)
    ),
    "an IPv6 packet with another one's link-local address": lambda p, me: ethernet(
        mac(p.victim), mac(me), IP6, udp6(link_local(mac(p.other)), p.victim.address6, (5, 5), NEEDLE)
    ),
    "a DHCPv6 server's answer": lambda p, me: ethernet(
        mac(p.victim), mac(me), IP6, udp6(link_local(mac(me)), p.victim.address6, (547, 546), NEEDLE)
    ),
    "a neighbour advertisement of another one's address": lambda p, me: ethernet(
        mac(p.victim), mac(me), IP6, advertisement(me.address6, p.victim.address6, p.other.address6, mac(me))
    ),
    "a neighbour advertisement from another one's address": lambda p, me: ethernet(
        mac(p.victim), mac(me), IP6, advertisement(p.other.address6, p.victim.address6, me.address6, mac(me))
    ),
    "a question whether another one's address is free": lambda p, me: ethernet(
        ALL_NODES_MAC, mac(me), IP6, solicitation("::", ALL_NODES, p.other.address6)
    ),
    "a router advertisement": lambda p, me: ethernet(
        ALL_NODES_MAC, mac(me), IP6, icmp6(link_local(mac(me)), ALL_NODES, 134, bytes(12) + NEEDLE_OPTION)
    ),
    "a router advertisement behind an extension header": lambda p, me: ethernet(
        ALL_NODES_MAC,
        mac(me),
        IP6,
        ip6(link_local(mac(me)), ALL_NODES, 60, bytes([58, 0, 1, 4, 0, 0, 0, 0, 134]) + bytes(15) + NEEDLE_OPTION),
    ),
    "a redirect": lambda p, me: ethernet(
        mac(p.victim), mac(me), IP6, icmp6(link_local(mac(me)), p.victim.address6, 137, bytes(36) + NEEDLE_OPTION)
    ),
}

TRUTHS: dict[str, Forgery] = {
    "an ARP answer": lambda p, me: ethernet(
        mac(p.victim), mac(me), ARP, arp(2, mac(me), me.address, mac(p.victim), p.victim.address) + NEEDLE
    ),
    "an ARP probe": lambda p, me: ethernet(
        EVERYBODY, mac(me), ARP, arp(1, mac(me), "0.0.0.0", "00:00:00:00:00:00", me.address) + NEEDLE
    ),
    "a search for a DHCP server": lambda p, me: ethernet(
        EVERYBODY, mac(me), IP4, udp4("0.0.0.0", "255.255.255.255", (68, 67), NEEDLE)
    ),
    "a neighbour advertisement": lambda p, me: ethernet(
        mac(p.victim), mac(me), IP6, advertisement(me.address6, p.victim.address6, me.address6, mac(me))
    ),
    "a question whether its own address is free": lambda p, me: ethernet(
        ALL_NODES_MAC, mac(me), IP6, solicitation("::", ALL_NODES, me.address6)
    ),
    "a question from its link-local address": lambda p, me: ethernet(
        mac(p.victim), mac(me), IP6, solicitation(link_local(mac(me)), p.victim.address6, p.victim.address6)
    ),
    "a frame of a protocol that is not IP": lambda p, me: ethernet(mac(p.victim), mac(me), EXPERIMENTAL, NEEDLE),
}


@pytest.mark.parametrize("name", FORGERIES)
async def test_what_is_forged_does_not_arrive(name: str) -> None:
    async with place() as p:
        victim, loose, guarded = (Wire(p.world, box) for box in (p.victim, p.loose, p.guarded))
        loose.send(FORGERIES[name](p, p.loose))
        await victim.until(NEEDLE)
        guarded.send(FORGERIES[name](p, p.guarded))
        assert not any(NEEDLE in frame for frame in await victim.until(guarded.mark()))


@pytest.mark.parametrize("name", TRUTHS)
async def test_what_a_container_says_of_itself_arrives(name: str) -> None:
    async with place() as p:
        victim, guarded = Wire(p.world, p.victim), Wire(p.world, p.guarded)
        guarded.send(TRUTHS[name](p, p.guarded))
        await victim.until(NEEDLE)


def neighbour(p: Place, box: Box, address: str) -> str:
    """The MAC that `box` takes `address` to have."""
    with p.world.inside(box.fd):
        told = subprocess.run(["ip", "neigh", "show", address], capture_output=True, text=True, check=True).stdout.split()
    return told[told.index("lladdr") + 1] if "lladdr" in told else ""


@pytest.mark.parametrize(
    ("family", "lie"),
    [
        ("ipv4", "an ARP answer with another one's address"),
        ("ipv4", "a gratuitous ARP with another one's address"),
        ("ipv6", "a neighbour advertisement of another one's address"),
    ],
)
async def test_nobody_takes_a_guarded_container_for_another_one(family: str, lie: str) -> None:
    async with place() as p:
        other = p.other.address if family == "ipv4" else p.other.address6
        async with echo(await p.world.listen(p.other.fd, 80, "::")):
            await ask(p.world, p.victim.fd, other, 80)
        with p.world.inside(p.victim.fd):
            # So that an answer that comes soon after another one counts too.
            Path(f"/proc/sys/net/{family}/neigh/eth0/locktime").write_text("0")
        assert neighbour(p, p.victim, other) == mac(p.other)
        victim, loose, guarded = (Wire(p.world, box) for box in (p.victim, p.loose, p.guarded))
        guarded.send(FORGERIES[lie](p, p.guarded))
        await victim.until(guarded.mark())
        assert neighbour(p, p.victim, other) == mac(p.other)
        loose.send(FORGERIES[lie](p, p.loose))
        await until(lambda: neighbour(p, p.victim, other) == mac(p.loose))


@pytest.mark.parametrize("group", [0x00, 0x02, 0x03, 0x0E, 0x0F])
async def test_nobody_draws_anothers_frames_to_itself(group: int) -> None:
    """The bridge learns where a MAC is from frames to the groups of bridges too, and looks at most of them before the hook
    prerouting (br_handle_frame() in net/bridge/br_input.c)."""
    async with place() as p:
        victim, other, loose, guarded = (Wire(p.world, box) for box in (p.victim, p.other, p.loose, p.guarded))
        await victim.until(other.mark())
        to_group = f"01:80:c2:00:00:{group:02x}"
        lie = ethernet(to_group, mac(p.other), EXPERIMENTAL, NEEDLE)
        guarded.send(lie)
        await victim.until(guarded.mark())
        victim.send(ethernet(mac(p.other), mac(p.victim), EXPERIMENTAL, b"for the other one"))
        await other.until(b"for the other one")
        loose.send(lie)
        await victim.until(loose.mark())
        victim.send(ethernet(mac(p.other), mac(p.victim), EXPERIMENTAL, b"for the other one"))
        await loose.until(b"for the other one")


@pytest.mark.parametrize("group", [0x00, 0x02, 0x03, 0x0E, 0x0F])
async def test_the_host_hears_nothing_forged_by_the_groups_of_bridges(group: int) -> None:
    async with place() as p:
        to_group = f"01:80:c2:00:00:{group:02x}"
        loose, guarded = Wire(p.world, p.loose), Wire(p.world, p.guarded)
        with await p.world.udp(p.world.host, 9) as host:
            packet = udp4(p.other.address, HOST, (5, 9), NEEDLE)
            guarded.send(ethernet(to_group, mac(p.guarded), IP4, packet))
            own = udp4(p.guarded.address, p.other.gateway, (5, 9), b"true")
            guarded.send(ethernet(mac_of_gateway(p), mac(p.guarded), IP4, own))
            assert await host.recvfrom(100) == (b"true", (p.guarded.address, 5))
            loose.send(ethernet(to_group, mac(p.loose), IP4, packet))
            assert await host.recvfrom(100) == (NEEDLE, (p.other.address, 5))


def mac_of_gateway(p: Place) -> str:
    return next(link.mac for link in p.world.links(p.world.host).values() if link.kind == "bridge")


async def test_the_port_of_another_one_in_the_bridge_is_not_looked_at() -> None:
    """A port that pystack did not make: who puts it there answers for it."""
    async with place() as p:
        argv = ["ip", "link", "add", "psq0", "type", "veth", "peer", "name", "far"]
        subprocess.run(argv, check=True)
        bridge = next(link for link in p.world.links(p.world.host).values() if link.kind == "bridge")
        subprocess.run(["ip", "link", "set", "psq0", "master", bridge.name, "up"], check=True)
        subprocess.run(["ip", "link", "set", "far", "up"], check=True)
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as far:
            far.bind(("far", 0))
            victim = Wire(p.world, p.victim)
            frame = FORGERIES["an ARP answer with another one's address"](p, p.loose)
            await until(lambda: far.send(frame) and p.world.links(p.world.host)["psq0"].working)
            far.send(frame)
            await victim.until(NEEDLE)
        subprocess.run(["ip", "link", "del", "psq0"], check=True)


async def test_all_addresses_of_all_networks_of_a_container_are_its_own() -> None:
    """Also those that the stack adds (``link_local_ips``), and a MAC that it chooses."""
    with trio.fail_after(DEADLINE_S), lab() as world, tempfile.TemporaryDirectory() as directory:
        async with open_networking(site(Path(directory))) as networking:
            await networking.ensure([network("front", ipv6=True), network("back")])
            more = ("169.254.8.8", "fe80::8")
            front = Attachment(NetworkName("front"), link_local=more, mac_address="02:42:ac:11:00:09")
            web = await start(world, networking, "web", [front, "back"], [tcp(80, 8080)])
            near = Attachment(NetworkName("front"), link_local=("169.254.8.9",))
            client = await start(world, networking, "client", [near, "back"])
            async with echo(await world.listen(web.fd, 80, "::")):
                for end in web.endpoints:
                    for address in end.addresses:
                        if not address.ip.startswith("fe80:"):
                            assert await ask(world, client.fd, address.ip, 80)
                assert await ask(world, web.fd, web.gateway, 8080)  # its own published port, by the host
            with world.inside(client.fd):
                index = socket.if_nametoindex("eth0")
            server = await world.udp(web.fd, 9, "::")
            with world.socket(client.fd, socket.SOCK_DGRAM, socket.AF_INET6) as sock:
                await sock.sendto(b"hello", ("fe80::8", 9, 0, index))
                assert (await server.recvfrom(100))[0] == b"hello"
                assert (await server.sendto(b"hello", ("::ffff:169.254.8.9", 9))) == 5
            await stop(world, networking, web, client)
            await networking.remove([NetworkName("front"), NetworkName("back")])


async def test_the_guard_outlives_the_supervisor_and_forgets_who_is_gone() -> None:
    lie = FORGERIES["an ARP answer with another one's address"]
    with trio.fail_after(DEADLINE_S), lab() as world, tempfile.TemporaryDirectory() as directory:
        where = site(Path(directory))
        async with open_networking(where) as networking:
            await networking.ensure([network(ipv6=True)])
            boxes = [await start(world, networking, name) for name in NAMES]
        p = Place(world, networking, where, *boxes)
        before = p.table()
        victim, guarded = Wire(world, p.victim), Wire(world, p.guarded)

        async def check() -> None:
            guarded.send(lie(p, p.guarded))
            assert not any(NEEDLE in frame for frame in await victim.until(guarded.mark()))

        await check()
        (gone,) = (link.name for link in world.links(world.host).values() if link.peer and is_of(p.other, link.name))
        subprocess.run(["ip", "link", "del", gone], check=True)
        async with open_networking(where) as networking:
            for box in boxes:
                networking.restore(box.name, box.endpoints)
            await networking.ensure([network(ipv6=True)])
            await check()
            assert gone in before
            assert gone not in p.table()
            for box in boxes:
                await networking.attach(box.name, box.fd, box.endpoints, ())
            await check()
            assert sorted(p.table().split()) == sorted(before.split())
            await stop(world, networking, *boxes)
            assert "psv" not in p.table()
            await networking.remove([DEFAULT])
        assert nft_tables() == []


def is_of(box: Box, veth: str) -> bool:
    """Whether the guard's table gives that port the address of `box`."""
    told = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    return f'"{veth}" . {mac(box)} . {box.address}' in told


async def test_after_a_flush_of_all_rules_the_guard_is_as_before() -> None:
    async with place() as p:
        before = p.table()
        subprocess.run(["nft", "flush", "ruleset"], check=True)
        await until(lambda: sorted(p.table().split()) == sorted(before.split()))
        victim, guarded = Wire(p.world, p.victim), Wire(p.world, p.guarded)
        guarded.send(FORGERIES["a gratuitous ARP with another one's address"](p, p.guarded))
        assert not any(NEEDLE in frame for frame in await victim.until(guarded.mark()))
        subprocess.run(["nft", "delete", "table", "bridge", nft_table(p.site.key)], check=True)
        await until(lambda: sorted(p.table().split()) == sorted(before.split()))


async def test_whether_a_container_is_guarded_is_as_it_was_attached_last() -> None:
    lie = FORGERIES["an IPv4 packet with another one's address"]
    async with place() as p:
        victim, loose, guarded = (Wire(p.world, box) for box in (p.victim, p.loose, p.guarded))
        await p.networking.attach(p.guarded.name, p.guarded.fd, p.guarded.endpoints, (), guarded=False)
        await p.networking.attach(p.loose.name, p.loose.fd, p.loose.endpoints, ())
        guarded.send(lie(p, p.guarded))
        await victim.until(NEEDLE)
        loose.send(lie(p, p.loose))
        assert not any(NEEDLE in frame for frame in await victim.until(loose.mark()))


async def test_a_port_is_guarded_before_it_carries_anything() -> None:
    """Others may run in the namespace of a container that is started again (``network_mode: service:X``)."""
    with trio.fail_after(DEADLINE_S), lab() as world:
        fd = world.namespace()
        owner = VethOwner(ProjectKey("7e57ab1e"), ContainerId("lab-web-1"), DEFAULT)
        up: list[bool] = []

        def connect() -> None:
            links = HostLinks()
            with closing(links):
                subnet = AddressRange(IPv4Network("10.9.0.0/24"), ip_address("10.9.0.1"))
                bridge = links.make_bridge("psb7e57ab1e0000", [subnet])
                end = Endpoint(DEFAULT, (Address("10.9.0.2", 24, "10.9.0.1"),), "02:70:0a:09:00:02", "eth0")
                pairs = [VethPair(owner, bridge.index, end)]
                for _ in range(2):
                    attach.connect(thread, links, fd, pairs, lambda names: up.append(world.links(fd)["eth0"].up))
                links.delete([next(owner.names()), bridge.name])

        async with open_thread() as thread:
            await thread.run(connect)
        assert up == [False, True]


async def test_who_is_brought_to_another_address_or_network_is_guarded_there() -> None:
    async with place() as p:
        await p.networking.ensure([network("back")])
        old = p.guarded.address
        moved = Attachment(DEFAULT, ipv4_address=str(ip_address(old) + 100))
        wanted = [moved, Attachment(NetworkName("back"))]
        endpoints = p.networking.reserve(p.guarded.name, ServiceName("guarded"), wanted)
        await p.networking.rewire(p.guarded.name, p.guarded.fd, endpoints, [])
        now = replace(p.guarded, endpoints=endpoints)
        table = p.table()
        assert f" {old} " not in table
        assert f". {old}" not in table
        assert all(f". {end.addresses[0].ip}" in table for end in endpoints)
        victim, guarded = Wire(p.world, p.victim), Wire(p.world, now)
        guarded.send(FORGERIES["an ARP answer with another one's address"](p, now))
        assert not any(NEEDLE in frame for frame in await victim.until(guarded.mark()))
        back = p.networking.reserve(p.guarded.name, ServiceName("guarded"), [Attachment(DEFAULT)])
        await p.networking.rewire(p.guarded.name, p.guarded.fd, back, [])
        assert len(back) == 1
        assert f". {endpoints[1].addresses[0].ip}" not in p.table()
        await p.networking.remove([NetworkName("back")])


async def test_the_guard_of_a_project_that_died_is_a_left_over() -> None:
    with trio.fail_after(DEADLINE_S), lab() as world, tempfile.TemporaryDirectory() as directory:
        where = site(Path(directory))
        async with open_networking(where) as networking:
            await networking.ensure([network()])
            await start(world, networking, "web")
        subprocess.run(["nft", "delete", "table", "ip", nft_table(where.key)], check=True)
        assert (await find_leftovers(where.key)).tables == (nft_table(where.key),)
        await remove_leftovers(where.key)
        assert nft_tables() == []


def test_where_the_kernel_has_no_bridge_tables_there_is_no_guard_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """nf_tables_newtable() refuses a family that the kernel was built without (EOPNOTSUPP)."""
    asked: list[Request] = []

    def new_table(table: nft.Table) -> Request:
        family = 99 if table.family == nft.BRIDGE else table.family  # one that no kernel has
        asked.append(real(nft.Table(table.name, family)))
        return asked[-1]

    real = nft.new_table
    monkeypatch.setattr(nft, "new_table", new_table)
    with lab(), closing(Firewall("pystack_7e57ab1e")) as firewall:
        firewall.set_bridges([Bridge("psb0", "10.9.0.0", 20)])
        assert [request.body[0] for request in asked] == [socket.AF_INET, 99]
        assert not firewall.guard.supported
        firewall.add([], {"psv0": Port("psv0", "02:70:00:00:00:01", ("10.9.0.2",))})
        assert firewall.exists()
        firewall.put_back()
        firewall.forget_ports(["psv0"])
        assert nft_tables() == ["pystack_7e57ab1e"]
        firewall.remove()
        assert nft_tables() == []


def test_the_guard_of_a_thousand_containers_is_put_back_in_one_transaction() -> None:
    with lab(), closing(Firewall("pystack_7e57ab1e")) as firewall:
        firewall.set_bridges([Bridge("psb0", "10.9.0.0", 20)])
        ports = {}
        for n in range(1, 3000):
            addresses = (f"10.9.{n >> 8}.{n & 255}", f"fd00::{n:x}")
            ports[f"psv{n}"] = Port(f"psv{n}", f"02:70:00:00:{n >> 8:02x}:{n & 255:02x}", addresses)
        firewall.add([], ports)
        before = _members()
        assert len(before) == 2999 * 7
        subprocess.run(["nft", "flush", "ruleset"], check=True)
        firewall.put_back()
        assert _members() == before
        firewall.forget_ports(ports)
        assert _members() == set()
        firewall.remove()


def _members() -> set[str]:
    argv = ["nft", "list", "table", "bridge", "pystack_7e57ab1e"]
    told = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return {item.strip(" \t,{}=") for item in told.replace("elements = {", "\n").split("\n") if '"psv' in item}
