"""Packets that are held back on purpose: queues at the interfaces that packets leave by (docs/chaos.md, "How").

What a container sends leaves by its own interface, in its namespace; what it receives leaves by the host's end of its veth.
Each of the two has a tree: an HTB root with the handle `HANDLE`, a class for each set of faults that meet on the same
addresses, and below a class that delays, netem. A packet belongs to the first filter that its address matches: single
addresses first, then this machine's (and before these its name servers), then the project's subnets, then all others.
`plan_of` decides that, and is pure; `lay` makes it, on the netlink thread only.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Mapping, Sequence

from orchestrator.errors import HostError
from orchestrator.kernel import traffic
from orchestrator.kernel.netlink import NetlinkSocket, Request
from orchestrator.kernel.traffic import Match
from orchestrator.network.addressing import family_of
from orchestrator.network.losses import Surroundings
from orchestrator.values import frozen

HANDLE = 0x7079_0000
"""``7079:``, which is "py": the trees that are ours."""
_UNLIMITED = 4_000_000_000
"""Bytes a second; the kernel's number has 32 bits (tc_ratespec)."""
_TICKS_OF_BURST = 250
_LEAST_BURST = 3200
_HELD = 10_000
_NAMES_PORT = 53


@frozen
class Slowing:
    """What becomes of packets in one class. `bits_per_s` 0: as fast as they come."""

    bits_per_s: int = 0
    delay_s: float = 0.0
    jitter_s: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.bits_per_s or self.delay_s or self.jitter_s)

    def and_(self, other: Slowing) -> Slowing:
        """Both at once: the lower rate, the sum of the times."""
        rates = [rate for rate in (self.bits_per_s, other.bits_per_s) if rate]
        return Slowing(min(rates, default=0), self.delay_s + other.delay_s, self.jitter_s + other.jitter_s)


@frozen
class Slowed:
    """A fault at one interface: `slowing` is for packets to (or from) `peers`, or for what is `outside`, or for
    everybody."""

    id: str
    slowing: Slowing
    peers: tuple[str, ...] = ()
    outside: bool = False


@frozen
class Filter:
    """Packets whose other end is in `ip`/`prefix` belong to the class `minor`. `names`: only those of its name server."""

    ip: str
    prefix: int
    minor: int
    names: bool = False


@frozen
class Tree:
    """`classes`: minor number -> what it does. `default`: the class of all others, 0: none. `sends`: whether the other end
    is where packets go to, and not where they come from."""

    classes: tuple[tuple[int, Slowing], ...] = ()
    filters: tuple[Filter, ...] = ()
    default: int = 0
    sends: bool = True


def plan_of(faults: Sequence[Slowed], around: Surroundings, *, sends: bool) -> Tree:
    """The tree of an interface; one without classes when nothing is to be slowed there."""
    numbers: dict[tuple[str, ...], int] = {}
    classes: dict[int, Slowing] = {}

    def minor(those: Iterable[Slowed]) -> int:
        every = list(those)
        key = tuple(fault.id for fault in every)
        if key not in numbers:
            number = numbers[key] = len(numbers) + 1
            slowing = Slowing()
            for fault in every:
                slowing = slowing.and_(fault.slowing)
            classes[number] = slowing
        return numbers[key]

    everybody = [fault for fault in faults if not fault.peers and not fault.outside]
    beyond = [fault for fault in faults if fault.outside]
    if not faults:
        return Tree(sends=sends)
    filters = [
        Filter(address, _bits(address), minor(fault for fault in faults if fault in everybody or address in fault.peers))
        for address in dict.fromkeys(address for fault in faults for address in fault.peers)
    ]
    if beyond:
        filters += [Filter(ip, _bits(ip), minor(everybody), names=True) for ip in around.gateways]
        filters += [Filter(ip, _bits(ip), minor([*beyond, *everybody])) for ip in around.gateways]
        filters += [Filter(ip, prefix, minor(everybody)) for ip, prefix in around.subnets]
    rest = [*beyond, *everybody]
    default = minor(rest) if rest else 0
    return Tree(tuple(classes.items()), tuple(filters), default, sends)


def _bits(address: str) -> int:
    return 32 if family_of(address) == socket.AF_INET else 128


def tree_requests(index: int, name: str, tree: Tree) -> list[Request]:
    """What makes the tree on the interface `index`, which has none."""
    what = f"queues of {name}"
    requests = [traffic.new_htb(index, HANDLE, tree.default, what)]
    for minor, slowing in tree.classes:
        rate = max(1, slowing.bits_per_s // 8) if slowing.bits_per_s else _UNLIMITED
        burst = max(_LEAST_BURST, rate // _TICKS_OF_BURST)
        requests.append(traffic.new_htb_class(index, HANDLE, HANDLE | minor, rate, burst, what))
        if slowing.delay_s or slowing.jitter_s:
            handle = HANDLE + (minor << 16)
            delay_s, jitter_s = slowing.delay_s, slowing.jitter_s
            requests.append(traffic.new_netem(index, HANDLE | minor, handle, delay_s, jitter_s, _HELD, what))
    for priority, item in enumerate(tree.filters, start=1):
        protocol = traffic.ETH_P_IP if family_of(item.ip) == socket.AF_INET else traffic.ETH_P_IPV6
        requests.append(
            traffic.new_u32(index, HANDLE, protocol, priority, _matches(item, tree.sends), HANDLE | item.minor, what)
        )
    return requests


def _matches(item: Filter, sends: bool) -> list[Match]:
    """IPv4 (RFC 791): addresses at 12 and 16, ports at 20 when there are no options; IPv6 (RFC 8200): 8 and 24, 40."""
    family = family_of(item.ip)
    source, destination, ports = (12, 16, 20) if family == socket.AF_INET else (8, 24, 40)
    packed = socket.inet_pton(family, item.ip)
    bits = len(packed) * 8
    mask = ((1 << bits) - (1 << (bits - item.prefix))).to_bytes(len(packed), "big")
    at = destination if sends else source
    words = [(n, *(int.from_bytes(part[n : n + 4], "big") for part in (packed, mask))) for n in range(0, len(packed), 4)]
    found = [Match(at + n, value & bitmask, bitmask) for n, value, bitmask in words if bitmask]
    if item.names:
        shift = 0 if sends else 16
        found.append(Match(ports, _NAMES_PORT << shift, 0xFFFF << shift))
    return found


def lay(sock: NetlinkSocket, index: int, name: str, tree: Tree) -> None:
    """Make `tree` in place of what we had there. `sock`: of the namespace that the interface is in. Raises HostError, and
    nothing of ours is there then."""
    what = f"queues of {name}"
    sock.batch([traffic.delete_root(index, HANDLE, what)])
    if not tree.classes:
        return
    try:
        for request in tree_requests(index, name, tree):
            sock.batch([request])
    except OSError as exc:
        sock.batch([traffic.delete_root(index, HANDLE, what)])
        raise _refused(exc, name, request) from exc


_MODULES: Mapping[int, tuple[str, str]] = {
    traffic.RTM_NEWTFILTER: ("cls_u32", "CONFIG_NET_CLS_U32"),
    traffic.RTM_NEWTCLASS: ("sch_htb", "CONFIG_NET_SCH_HTB"),
}


def _refused(exc: OSError, name: str, request: Request) -> HostError:
    if exc.errno == errno.EEXIST:
        return HostError(f"{name} has queues of somebody else's", hint="`tc qdisc show` in there lists them")
    if exc.errno in (errno.ENOENT, errno.EOPNOTSUPP):
        module, option = _MODULES.get(request.kind, ("sch_htb", "CONFIG_NET_SCH_HTB"))
        if request.kind == traffic.RTM_NEWQDISC and b"netem\0" in request.body:
            module, option = "sch_netem", "CONFIG_NET_SCH_NETEM"
        return HostError(
            f"this kernel has no {module}, which packets are held back by",
            hint=f"`modprobe {module}`, or a kernel with {option}",
        )
    return HostError(f"cannot make queues at {name}: {exc.strerror}")
