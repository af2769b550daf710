"""Host ports: taken by bind(), and by nothing else.

A reservation is a bound socket that is kept while the port is published, so that the kernel itself refuses the port to
anybody else, and tells us when somebody has it. TCP reservations listen: `proxy` serves what is not translated, as
`udp_proxy` does for UDP. Sockets describe themselves (getsockname), so a restarted supervisor finds its reservations in
whatever file descriptors it gets.
"""

from __future__ import annotations

import errno
import resource
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address

from orchestrator.contracts.network import Published
from orchestrator.contracts.refusals import LIMIT_HINT
from orchestrator.errors import OperationError
from orchestrator.model.names import ContainerId
from orchestrator.model.network import PortMapping
from orchestrator.network.addressing import family_of
from orchestrator.network.port_owner import Publisher, port_owner
from orchestrator.values import field, frozen

SO_BINDTOIFINDEX = 62
"""Linux 5.1; Python has no name for it (asm-generic/socket.h)."""
_BACKLOG = 128
_HOLDERS_SHOWN = 4
_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
EVERY: dict[int, str] = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}
"""All addresses of the host, of one family."""


@frozen
class Reservation:
    """One published port. `sockets`: the one that was asked for, and for one on all addresses, where there is IPv6, its
    companion on ``::``."""

    mapping: PortMapping
    host_ip: str
    host_port: int
    sockets: tuple[socket.socket, ...]

    @property
    def published(self) -> Published:
        return Published(self.host_ip, self.host_port, self.mapping.target, self.mapping.protocol)

    @property
    def addresses(self) -> tuple[str, ...]:
        """All that it is taken on."""
        return tuple(sock.getsockname()[0] for sock in self.sockets)

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


@frozen
class Holder:
    """Another container of the project that has a host port, on `addresses`. `place`: where the stack says so."""

    container: ContainerId
    addresses: tuple[str, ...]
    place: str = ""

    def is_in_the_way_of(self, host_ip: str) -> bool:
        every = EVERY[family_of(host_ip)]
        same = [own for own in self.addresses if family_of(own) == family_of(host_ip)]
        return host_ip in same or every in same or (host_ip == every and bool(same))


@frozen
class Others:
    """Host ports of the project's other containers, by protocol and number. `held`: published now. `kept`: published before
    by containers that do not run, and get them again if they can. What the rest of the machine has, bind() tells;
    `publisher` knows what other projects have."""

    held: Mapping[tuple[str, int], Sequence[Holder]] = field(default_factory=dict)
    kept: frozenset[tuple[str, int]] = frozenset()
    publisher: Publisher | None = None

    def holder(self, protocol: str, host_ip: str, port: int) -> Holder | None:
        """Who is in the way of publishing `port` on `host_ip`."""
        found = self.held.get((protocol, port), ())
        return next((one for one in found if one.is_in_the_way_of(host_ip)), None)


NOBODY = Others()


def host_ip(mapping: PortMapping) -> str:
    """As the kernel writes it. Raises ValueError."""
    return str(ip_address(mapping.host_ip or EVERY[socket.AF_INET]))


def reserve(
    mappings: Sequence[PortMapping],
    kept: Iterable[socket.socket] = (),
    preferred: Sequence[Published] = (),
    others: Others = NOBODY,
) -> list[Reservation]:
    """Take a host port for each mapping, all or none. `kept`: sockets of a supervisor that died, used where they fit, and
    closed where they do not. `preferred`: what was published before; a choice falls on the same port again. `others`: the
    project's other containers.

    Raises OperationError naming `PortMapping.place`."""
    spare, earlier = _Spare(kept), _by_target(preferred)
    # Those that leave us a choice come last, or they might take a port that another one needs.
    order = sorted(range(len(mappings)), key=lambda n: _choices(mappings[n]))
    taken: dict[int, Reservation] = {}
    try:
        for position in order:
            taken[position] = _reserve_one(mappings[position], spare, earlier, others)
    except BaseException:
        for reservation in taken.values():
            reservation.close()
        raise
    finally:
        spare.close()
    return [taken[n] for n in range(len(mappings))]


def _choices(mapping: PortMapping) -> int:
    if mapping.published is None:
        return 1 << 16
    return mapping.published[1] - mapping.published[0]


def leaves_a_choice(mapping: PortMapping) -> bool:
    return _choices(mapping) > 0


def _reserve_one(
    mapping: PortMapping, spare: _Spare, preferred: _Preferred, others: Others
) -> Reservation:
    address = _checked_ip(mapping)
    first = _from_spare(mapping, address, spare, preferred)
    if first is None:
        first = _bind_one_of(mapping, address, preferred, others)
    port = int(first.getsockname()[1])
    sockets: tuple[socket.socket, ...] = (first,)
    if mapping.host_ip is None:
        companion = spare.take(mapping.protocol, "::", port, port) or _try_companion(mapping.protocol, port)
        if companion is not None:
            sockets = (first, companion)
    return Reservation(mapping, address, port, sockets)


def _checked_ip(mapping: PortMapping) -> str:
    if mapping.protocol not in _KINDS:
        message = f"protocol {mapping.protocol} is not supported yet"
        raise OperationError(message, hint="use tcp or udp", place=mapping.place)
    try:
        return host_ip(mapping)
    except ValueError:
        raise OperationError(f'"{mapping.host_ip}" is not an IP address', place=mapping.place) from None


_Preferred = Mapping[tuple[int, str, str], Sequence[int]]
"""The host ports that there were before, by container port, protocol and address."""


def _by_target(preferred: Iterable[Published]) -> _Preferred:
    found: dict[tuple[int, str, str], list[int]] = {}
    for one in preferred:
        found.setdefault((one.target, one.protocol, one.host_ip), []).append(one.host_port)
    return found


def _before(mapping: PortMapping, address: str, preferred: _Preferred) -> list[int]:
    """The ports that were this mapping's before, and still can be."""
    low, high = mapping.published or (1, 65535)
    return [port for port in preferred.get((mapping.target, mapping.protocol, address), ()) if low <= port <= high]


def _from_spare(mapping: PortMapping, address: str, spare: _Spare, preferred: _Preferred) -> socket.socket | None:
    ranges = [(port, port) for port in _before(mapping, address, preferred)]
    for low, high in [*ranges, mapping.published or (1, 65535)]:
        if (sock := spare.take(mapping.protocol, address, low, high)) is not None:
            return sock
    return None


class _Spare:
    """Sockets that may be of use."""

    def __init__(self, sockets: Iterable[socket.socket]) -> None:
        self._ports: dict[tuple[int, str], dict[int, socket.socket]] = {}
        for sock in sockets:
            address, port = sock.getsockname()[:2]
            there = self._ports.setdefault((sock.type, address), {})
            if port in there:
                sock.close()
            else:
                there[port] = sock

    def take(self, protocol: str, address: str, low: int, high: int) -> socket.socket | None:
        """One with a port between `low` and `high`."""
        there = self._ports.get((_KINDS[protocol], address), {})
        port = low if low == high else next((port for port in there if low <= port <= high), 0)
        return there.pop(port, None)

    def close(self) -> None:
        for there in self._ports.values():
            for sock in there.values():
                sock.close()


def _bind_one_of(
    mapping: PortMapping, address: str, preferred: _Preferred, others: Others
) -> socket.socket:
    for port in _candidates(mapping, address, preferred, others):
        if port and others.holder(mapping.protocol, address, port) is not None:
            continue
        try:
            sock = bind(mapping.protocol, address, port)
            if mapping.protocol == "udp" and sock.family == socket.AF_INET:
                # Nobody reads it, unless it is served (`udp_proxy`): what comes untranslated is not worth kernel memory.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
            return sock
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise _refused(exc, mapping, address, port) from exc
    raise _in_use(mapping, address, others)


def _candidates(
    mapping: PortMapping, address: str, preferred: _Preferred, others: Others
) -> Iterator[int]:
    """In the order of trying; 0: the kernel chooses. Ports that other containers will want again come last."""
    yield from _before(mapping, address, preferred)
    if mapping.published is None:
        yield 0
        return
    low, high = mapping.published
    wanted = [port for port in range(low, high + 1) if (mapping.protocol, port) in others.kept]
    yield from (port for port in range(low, high + 1) if port not in wanted)
    yield from wanted


def bind(protocol: str, address: str, port: int, interface: int = 0) -> socket.socket:
    """A bound socket, listening if it is TCP. `interface`: only what comes by the one with that index reaches it; 0: any.
    Raises OSError; ValueError cannot happen, `address` is an IP address."""
    family = family_of(address)
    sock = socket.socket(family, _KINDS[protocol] | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if protocol == "tcp":
            # Connections in TIME_WAIT do not keep the port; a listener does, whatever its options.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if interface:
            # Before it is bound: one that somebody keeps of an interface that is gone is not in the way then.
            sock.setsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX, interface)
        sock.bind((address, port))
        if protocol == "tcp":
            sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _try_companion(protocol: str, port: int) -> socket.socket | None:
    """IPv6 may be off, or somebody may have just that half: IPv4 is what counts."""
    try:
        return bind(protocol, "::", port)
    except OSError:
        return None


def _refused(exc: OSError, mapping: PortMapping, address: str, port: int) -> OperationError:
    what = f"port {port}/{mapping.protocol} on {address}"
    if exc.errno == errno.EADDRNOTAVAIL:
        hint = "leave the address out, or use 127.0.0.1"
        return OperationError(f"{what}: {address} is not an address of this host", hint=hint, place=mapping.place)
    if exc.errno in (errno.EACCES, errno.EPERM):
        hint = "ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE"
        return OperationError(f"{what}: permission denied", hint=hint, place=mapping.place)
    if exc.errno == errno.EMFILE:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        message = f"{what} cannot be taken: the supervisor is out of file descriptors (its limit is {limit})"
        return OperationError(message, hint=f"a published port needs 6 (udp: 4); {LIMIT_HINT}", place=mapping.place)
    return OperationError(f"{what} cannot be taken: {exc.strerror or exc}", place=mapping.place)


_USUAL_LOOPBACK = ("127.0.0.1", "::1")


def _in_use(mapping: PortMapping, address: str, others: Others) -> OperationError:
    if mapping.published is None:
        return OperationError(f"no free {mapping.protocol} port on {address}", place=mapping.place)
    low, high = mapping.published
    if low != high:
        return _exhausted(mapping, address, others)
    holder = others.holder(mapping.protocol, address, low)
    if holder is not None:
        return OperationError(
            f"port {low}/{mapping.protocol} on {address} is published by {holder.container} already",
            hint=f"see {holder.place}" if holder.place else None,
            place=mapping.place,
        )
    owner = port_owner(mapping.protocol, low, others.publisher)
    by = f" by {owner.text}" if owner else ""
    other = f'"{low + 1 if low < 65535 else 8080}:{mapping.target}"'
    hint = f"stop what uses it, or publish another port, such as {other}"
    if owner is not None and owner.project:
        down = f"`pystack -p {owner.project} down`"
        hint = f"{down}, publish another port, such as {other}, or give projects addresses of their own: `up --isolated`"
        if ip_address(address).is_loopback and address not in _USUAL_LOOPBACK:
            hint = f"{down}, or give that one an address of its own too: `up --isolated`"
    return OperationError(f"port {low}/{mapping.protocol} on {address} is in use{by}", hint=hint, place=mapping.place)


def _exhausted(mapping: PortMapping, address: str, others: Others) -> OperationError:
    assert mapping.published is not None
    low, high = mapping.published
    holders = [others.holder(mapping.protocol, address, port) for port in range(low, high + 1)]
    names = list(dict.fromkeys(holder.container for holder in holders if holder is not None))
    ours = sum(holder is not None for holder in holders)
    by = ""
    if names:
        more = len(names) - _HOLDERS_SHOWN
        shown = ", ".join(names[:_HOLDERS_SHOWN]) + (f" and {more} more" if more > 0 else "")
        by = f": by {shown}" if ours == len(holders) else f": {ours} of {len(holders)} by {shown}"
    stranger = next((low + step for step, holder in enumerate(holders) if holder is None), None)
    if stranger is not None and (owner := port_owner(mapping.protocol, stranger, others.publisher)) is not None:
        by += f"{',' if by else ':'} {stranger} by {owner.text}"
    return OperationError(
        f"ports {low}-{high}/{mapping.protocol} on {address} are all in use{by}",
        hint="publish a wider range, or run fewer containers of the service",
        place=mapping.place,
    )
