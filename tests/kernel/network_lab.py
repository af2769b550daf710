"""A small world for network tests: a host, an outside, and containers, each a network namespace of its own.

The calling thread moves into the *host* namespace for the length of the test, so the adapter works there exactly as on
a real machine, and nothing touches the real one. Sockets belong to the namespace they are made in for
ever: a client "in a container" is a socket that was made there, used from the test itself.

    outside 203.0.113.1 ---- 203.0.113.2 wan [host] bridges ... containers
            2001:db8::1 ---- 2001:db8::2
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from orchestrator.contracts.network import Endpoint, Networking, Published
from orchestrator.contracts.site import IdMap, Site
from orchestrator.kernel import netlink as nl
from orchestrator.kernel import rtnetlink as rt
from orchestrator.model.names import ContainerId, NetworkName, ProjectKey, ProjectName, ServiceName
from orchestrator.model.network import Attachment, Network, PortMapping
from orchestrator.network.thread import CLONE_NEWNET, enter_namespace

OUTSIDE = "203.0.113.1"
HOST = "203.0.113.2"
OUTSIDE6 = "2001:db8::1"
HOST6 = "2001:db8::2"
DEADLINE_S = 10.0

_libc = ctypes.CDLL(None, use_errno=True)


def _new_namespace() -> int:
    """A fresh network namespace; the calling thread is in it afterwards."""
    if _libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


@dataclass(slots=True)
class Lab:
    """`fds`: every namespace that was made."""

    host: int
    outside: int
    fds: list[int] = field(default_factory=list)
    sockets: list[socket.socket] = field(default_factory=list)

    @contextmanager
    def inside(self, namespace: int) -> Iterator[None]:
        enter_namespace(namespace)
        try:
            yield
        finally:
            enter_namespace(self.host)

    def namespace(self) -> int:
        """A new one, for a container."""
        try:
            fd = _new_namespace()
        finally:
            enter_namespace(self.host)
        self.fds.append(fd)
        return fd

    def close_namespace(self, fd: int) -> None:
        self.fds.remove(fd)
        os.close(fd)

    def socket(self, namespace: int, kind: int, family: int = socket.AF_INET) -> trio.socket.SocketType:
        with self.inside(namespace):
            plain = socket.socket(family, kind)
        self.sockets.append(plain)
        return trio.socket.from_stdlib_socket(plain)

    async def listen(self, namespace: int, port: int, address: str = "0.0.0.0") -> trio.socket.SocketType:
        sock = self.socket(namespace, socket.SOCK_STREAM, socket.AF_INET6 if ":" in address else socket.AF_INET)
        await sock.bind((address, port))
        sock.listen()
        return sock

    async def udp(self, namespace: int, port: int = 0, address: str = "0.0.0.0") -> trio.socket.SocketType:
        sock = self.socket(namespace, socket.SOCK_DGRAM, socket.AF_INET6 if ":" in address else socket.AF_INET)
        await sock.bind((address, port))
        return sock

    def links(self, namespace: int) -> dict[str, rt.Link]:
        with self.inside(namespace), nl.NetlinkSocket(nl.NETLINK_ROUTE) as sock:
            found = [rt.parse_link(body) for body in sock.ask(rt.get_links())]
        return {link.name: link for link in found}


@contextmanager
def lab() -> Iterator[Lab]:
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    opened = [home]
    world: Lab | None = None
    try:
        outside = _new_namespace()
        opened.append(outside)
        _addresses("lo", "127.0.0.1", 8)
        host = _new_namespace()
        opened.append(host)
        _addresses("lo", "127.0.0.1", 8)
        with nl.NetlinkSocket(nl.NETLINK_ROUTE) as sock:
            # The product's message, with the host's lo as "bridge": master 0 means none.
            assert sock.batch([rt.new_veth("wan", 0, "wan", "02:00:00:00:00:01", outside)]) == [0]
        wan = _addresses("wan", HOST, 24)
        with nl.NetlinkSocket(nl.NETLINK_ROUTE) as sock:
            sock.batch([rt.new_default_route(socket.AF_INET, OUTSIDE, wan)])
            sock.batch([rt.new_address(socket.AF_INET6, wan, HOST6, 64)])
            sock.batch([rt.new_default_route(socket.AF_INET6, OUTSIDE6, wan)])
        enter_namespace(outside)
        wan = _addresses("wan", OUTSIDE, 24)
        with nl.NetlinkSocket(nl.NETLINK_ROUTE) as sock:
            # Whoever is outside may send packets for the containers' addresses to the host; the firewall is to drop them.
            sock.batch([rt.new_default_route(socket.AF_INET, HOST, wan)])
            sock.batch([rt.new_address(socket.AF_INET6, wan, OUTSIDE6, 64)])
            sock.batch([rt.new_default_route(socket.AF_INET6, HOST6, wan)])
        enter_namespace(host)
        world = Lab(host, outside)
        yield world
    finally:
        enter_namespace(home)
        for plain in world.sockets if world is not None else ():
            plain.close()
        for fd in [*opened, *(world.fds if world is not None else ())]:
            os.close(fd)


def _addresses(name: str, address: str, prefix: int) -> int:
    with nl.NetlinkSocket(nl.NETLINK_ROUTE) as sock:
        index = rt.parse_link(sock.ask(rt.get_link(name))[0]).index
        sock.batch([rt.link_up(index, name), rt.new_address(socket.AF_INET, index, address, prefix, address)])
    return index


def site(directory: Path, key: str = "7e57ab1e") -> Site:
    """Files of the test's own; names in the kernel by `key`."""
    return Site(ProjectName("lab"), ProjectKey(key), str(directory / key), str(directory / "run"), IdMap(100000))


def network(key: str = "default", **options: object) -> Network:
    return Network(NetworkName(key), f"lab_{key}", **options)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Box:
    """A container: its namespace, where it is, and what is published of it."""

    name: ContainerId
    fd: int
    endpoints: tuple[Endpoint, ...]
    published: tuple[Published, ...]

    @property
    def address(self) -> str:
        return self.endpoints[0].addresses[0].ip

    @property
    def address6(self) -> str:
        return next(a.ip for a in self.endpoints[0].addresses if ":" in a.ip and a.gateway)

    @property
    def gateway6(self) -> str:
        return next(a.gateway for a in self.endpoints[0].addresses if ":" in a.ip and a.gateway)

    @property
    def gateway(self) -> str:
        return self.endpoints[0].addresses[0].gateway

    @property
    def resolver(self) -> str:
        return self.endpoints[0].name_server


async def start(
    world: Lab,
    networking: Networking,
    service: str,
    networks: Sequence[str | Attachment] = ("default",),
    ports: Sequence[PortMapping] = (),
    number: int = 1,
    guarded: bool = True,
) -> Box:
    """Reserve and attach, as the scheduler does."""
    name = ContainerId(f"lab-{service}-{number}")
    attachments = [n if isinstance(n, Attachment) else Attachment(NetworkName(n)) for n in networks]
    endpoints = networking.reserve(name, ServiceName(service), attachments)
    fd = world.namespace()
    published = await networking.attach(name, fd, endpoints, ports, guarded=guarded)
    return Box(name, fd, endpoints, published)


async def stop(world: Lab, networking: Networking, *boxes: Box) -> None:
    async with trio.open_nursery() as nursery:
        for box in boxes:
            nursery.start_soon(networking.detach, box.name)
    for box in boxes:
        networking.release(box.name)
        world.close_namespace(box.fd)


def tcp(target: int, published: int | None = None, host_ip: str | None = None) -> PortMapping:
    return port(target, published, host_ip, "tcp")


def udp(target: int, published: int | None = None, host_ip: str | None = None) -> PortMapping:
    return port(target, published, host_ip, "udp")


def port(target: int, published: int | None, host_ip: str | None, protocol: str) -> PortMapping:
    wanted = (published, published) if published is not None else None
    return PortMapping(target, wanted, host_ip, protocol, "services.web.ports[0]")


@asynccontextmanager
async def echo(listener: trio.socket.SocketType) -> AsyncIterator[None]:
    """Serve `listener`: tell each client the address it is seen with, then close."""

    async def serve() -> None:
        while True:
            connection, peer = await listener.accept()
            with connection:
                await connection.send(f"{peer[0]}".encode())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        yield
        nursery.cancel_scope.cancel()


async def ask(world: Lab, namespace: int, address: str, port: int) -> str:
    """Connect from `namespace`; what the server says (see `echo`)."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with trio.fail_after(DEADLINE_S), world.socket(namespace, socket.SOCK_STREAM, family) as sock:
        await sock.connect((address, port))
        said = b""
        while part := await sock.recv(100):
            said += part
    return said.decode()


class MemoryStore:
    """An FdStore that outlives the adapter, as the monitor does."""

    def __init__(self) -> None:
        self.kept: dict[str, list[int]] = {}

    async def keep(self, name: str, fds: Sequence[int]) -> None:
        await self.drop(name)
        self.kept[name] = [os.dup(fd) for fd in fds]

    async def fetch(self, name: str) -> list[int] | None:
        return [os.dup(fd) for fd in self.kept[name]] if name in self.kept else None

    async def drop(self, name: str) -> None:
        for fd in self.kept.pop(name, ()):
            os.close(fd)

    def close(self) -> None:
        for fds in self.kept.values():
            for fd in fds:
                os.close(fd)
