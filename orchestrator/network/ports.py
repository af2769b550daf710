"""Host ports: taken by bind(), and by nothing else.

A reservation is a bound socket that is kept while the port is published, so that the kernel itself refuses the port to
anybody else, and tells us when somebody has it. TCP reservations listen: `proxy` serves what is not translated (IPv6). UDP
ones are only bound. Sockets describe themselves (getsockname), so a restarted supervisor finds its reservations in whatever
file descriptors it gets.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from orchestrator.contracts.network import Published
from orchestrator.errors import OperationError
from orchestrator.model.network import PortMapping
from orchestrator.values import frozen

_BACKLOG = 128
_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_STATES = {"tcp": "0A", "udp": "07"}
"""TCP_LISTEN and TCP_CLOSE, as /proc/net/tcp and /proc/net/udp print them (proc_pid_net(5))."""


@frozen
class Reservation:
    """One published port. `sockets`: the one that was asked for, and for TCP on all addresses, where there is IPv6, its
    companion on ``::``."""

    mapping: PortMapping
    host_ip: str
    host_port: int
    sockets: tuple[socket.socket, ...]

    @property
    def published(self) -> Published:
        return Published(self.host_ip, self.host_port, self.mapping.target, self.mapping.protocol)

    @property
    def translated(self) -> bool:
        """By nft; IPv6 is not, only proxied."""
        return ":" not in self.host_ip

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


def host_ip(mapping: PortMapping) -> str:
    return mapping.host_ip or "0.0.0.0"


def reserve(
    mappings: Sequence[PortMapping], kept: Iterable[socket.socket] = (), known: Sequence[Published] = ()
) -> list[Reservation]:
    """Take a host port for each mapping, all or none. `kept`: sockets of a supervisor that died, used where they fit, and
    closed where they do not. `known`: what was published before; a free choice falls on the same port again.

    Raises OperationError naming `PortMapping.place`."""
    spare = list(kept)
    taken: list[Reservation] = []
    # Those that leave us a choice come last, or they might take a port that another one needs.
    order = sorted(range(len(mappings)), key=lambda n: _choices(mappings[n]))
    by_position: dict[int, Reservation] = {}
    try:
        for position in order:
            by_position[position] = _reserve_one(mappings[position], spare, known)
            taken.append(by_position[position])
    except BaseException:
        for reservation in taken:
            reservation.close()
        raise
    finally:
        for sock in spare:
            sock.close()
    return [by_position[n] for n in range(len(mappings))]


def _choices(mapping: PortMapping) -> int:
    if mapping.published is None:
        return 1 << 16
    return mapping.published[1] - mapping.published[0]


def _reserve_one(mapping: PortMapping, spare: list[socket.socket], known: Sequence[Published]) -> Reservation:
    if mapping.protocol not in _KINDS:
        raise OperationError(f"{mapping.place}: protocol {mapping.protocol} is not supported yet", hint="use tcp or udp")
    address = host_ip(mapping)
    try:
        version = ip_address(address).version
    except ValueError:
        raise OperationError(f'{mapping.place}: "{address}" is not an IP address') from None
    if version == 6 and mapping.protocol == "udp":
        hint = "publish it on an IPv4 address"
        raise OperationError(f"{mapping.place}: udp on an IPv6 address is not supported yet", hint=hint)
    first = _from_spare(mapping, address, spare)
    if first is None:
        first = _bind_one_of(mapping, address, known)
    port = int(first.getsockname()[1])
    sockets: tuple[socket.socket, ...] = (first,)
    if mapping.protocol == "tcp" and mapping.host_ip is None:
        companion = _take(spare, "tcp", "::", port, port) or _try_companion(port)
        if companion is not None:
            sockets = (first, companion)
    return Reservation(mapping, address, port, sockets)


def _from_spare(mapping: PortMapping, address: str, spare: list[socket.socket]) -> socket.socket | None:
    low, high = mapping.published or (1, 65535)
    return _take(spare, mapping.protocol, address, low, high)


def _take(spare: list[socket.socket], protocol: str, address: str, low: int, high: int) -> socket.socket | None:
    for sock in spare:
        name = sock.getsockname()
        if sock.type == _KINDS[protocol] and name[0] == address and low <= name[1] <= high:
            spare.remove(sock)
            return sock
    return None


def _bind_one_of(mapping: PortMapping, address: str, known: Sequence[Published]) -> socket.socket:
    same = (mapping.target, mapping.protocol, address)
    low, high = mapping.published or (1, 65535)
    before = [p.host_port for p in known if (p.target, p.protocol, p.host_ip) == same and low <= p.host_port <= high]
    candidates = [*before, *(range(low, high + 1) if mapping.published is not None else (0,))]
    for port in candidates:
        try:
            sock = bind(mapping.protocol, address, port)
            if mapping.protocol == "udp":
                # Nobody reads it: what comes here untranslated is not worth kernel memory.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
            return sock
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise _refused(exc, mapping, address, port) from exc
    raise _in_use(mapping, address)


def bind(protocol: str, address: str, port: int) -> socket.socket:
    """A bound socket, listening if it is TCP. Raises OSError; ValueError cannot happen, `address` is an IP address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, _KINDS[protocol] | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if protocol == "tcp":
            # Connections in TIME_WAIT do not keep the port; a listener does, whatever its options.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        if protocol == "tcp":
            sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _try_companion(port: int) -> socket.socket | None:
    """IPv6 may be off, or somebody may have just that half: IPv4 is what counts."""
    try:
        return bind("tcp", "::", port)
    except OSError:
        return None


def _refused(exc: OSError, mapping: PortMapping, address: str, port: int) -> OperationError:
    what = f"{mapping.place}: port {port}/{mapping.protocol} on {address}"
    if exc.errno == errno.EADDRNOTAVAIL:
        hint = "leave the address out, or use 127.0.0.1"
        return OperationError(f"{what}: {address} is not an address of this host", hint=hint)
    if exc.errno in (errno.EACCES, errno.EPERM):
        hint = "ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE"
        return OperationError(f"{what}: permission denied", hint=hint)
    return OperationError(f"{what} cannot be taken: {exc.strerror or exc}")


def _in_use(mapping: PortMapping, address: str) -> OperationError:
    if mapping.published is None:
        return OperationError(f"{mapping.place}: no free {mapping.protocol} port on {address}")
    low, high = mapping.published
    if low != high:
        return OperationError(
            f"{mapping.place}: ports {low}-{high}/{mapping.protocol} on {address} are all in use",
            hint="publish another range",
        )
    owner = port_owner(mapping.protocol, low)
    by = f" by {owner}" if owner else ""
    other = low + 1 if low < 65535 else 8080
    return OperationError(
        f"{mapping.place}: port {low}/{mapping.protocol} on {address} is in use{by}",
        hint=f'stop what uses it, or publish another port, such as "{other}:{mapping.target}"',
    )


def port_owner(protocol: str, port: int) -> str:
    """``"nginx" (pid 1234)`` of a process that has the port on any address, or "". What /proc shows: not processes of
    other pid namespaces, and a port that is bound but not listening has no line."""
    inodes = set()
    for table in (protocol, protocol + "6"):
        inodes |= _inodes(f"/proc/thread-self/net/{table}", port, _STATES[protocol])
    if not inodes:
        return ""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        directory = f"/proc/{pid}/fd"
        try:
            with os.scandir(directory) as entries:
                if any(_link(entry.path) in wanted for entry in entries):
                    with open(f"/proc/{pid}/comm", "rb") as file:
                        return f'"{file.read(64).decode("utf-8", "replace").strip()}" (pid {pid})'
        except OSError:
            continue  # ended meanwhile, or not ours to look at
    return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _inodes(path: str, port: int, state: str) -> set[str]:
    try:
        with open(path, encoding="ascii") as file:
            lines = file.read().splitlines()[1:]
    except OSError:
        return set()
    rows = (line.split() for line in lines)
    return {row[9] for row in rows if len(row) > 9 and row[3] == state and int(row[1].rpartition(":")[2], 16) == port}
