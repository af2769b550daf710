"""Packets that are dropped on purpose: nft tables of their own, beside those of the firewall (docs/chaos.md, "How").

One is of family ``bridge``, for what one bridge hands on from port to port, and one of family ``inet``, for what is routed
or translated, and for what comes to this machine or from it. Both are replaced in one transaction, and `LossTables` keeps
what it put there, to put it back when somebody flushed it. A drop is final, whatever other tables accept. Its methods block
in the kernel and are called on the netlink thread only.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count

from orchestrator.errors import HostError
from orchestrator.kernel.netlink import NETLINK_NETFILTER, NetlinkSocket, Request
from orchestrator.network import nft_expressions as nfx
from orchestrator.network import nftables as nft
from orchestrator.network.addressing import family_of
from orchestrator.network.firewall import Translation
from orchestrator.network.nftables import Expression, Table
from orchestrator.values import frozen

FAMILIES: tuple[int, ...] = (nft.BRIDGE, nft.INET)
"""Of the tables."""
_ADDRESS_FAMILIES: tuple[int, ...] = (socket.AF_INET, socket.AF_INET6)
_HOOKS = {"input": nft.HOOK_INPUT, "forward": nft.HOOK_FORWARD, "output": nft.HOOK_OUTPUT}
_PROTOCOLS = {"tcp": 6, "udp": 17}
_SETS = 1_000_000
"""Sets of one transaction have different numbers, whichever table they are of."""


@frozen
class LossRule:
    """Packets from `addresses` to `peers` and, unless `one_way`, back are dropped with the probability `share`. `outside`:
    the peers are whatever is in none of the project's subnets, and this machine."""

    share: float
    addresses: tuple[str, ...]
    peers: tuple[str, ...] = ()
    outside: bool = False
    one_way: bool = False


@frozen
class Surroundings:
    """What of the project's networks rules have to know. `bridges`: name and MAC. `subnets`: address and length of the
    prefix. `servers`: where the name servers at gateways' addresses really listen; the others have an address of their own
    in the subnets. `gateways`: this machine's addresses on them."""

    bridges: tuple[tuple[str, str], ...] = ()
    subnets: tuple[tuple[str, int], ...] = ()
    servers: tuple[Translation, ...] = ()
    gateways: tuple[str, ...] = ()


def table_requests(table: Table, rules: Sequence[LossRule], around: Surroundings) -> list[Request]:
    """The whole table, for one that does not exist."""
    hooks = ["forward"] if table.family == nft.BRIDGE else list(_HOOKS)
    requests = [nft.new_table(table)]
    requests += [nft.new_base_chain(table, hook, "filter", _HOOKS[hook], 0) for hook in hooks]

    def rule(chain: str, *parts: list[Expression]) -> None:
        requests.append(nft.new_rule(table, chain, [e for part in parts for e in part]))

    if table.family == nft.BRIDGE:
        rule("forward", nfx.ether_type(socket.AF_INET6), nfx.neighbour_discovery(), nfx.accept())
    else:
        for name, mac in around.bridges:
            # With bridge-nf-call-iptables=1 frames that a bridge hands on come by here too, and were judged there.
            rule("forward", nfx.input_interface(name), nfx.output_interface(name), nfx.not_to_mac(mac), nfx.accept())
        for chain in ("input", "output"):
            rule(chain, nfx.ether_type(socket.AF_INET6), nfx.neighbour_discovery(), nfx.accept())
        for server in around.servers:
            at, whole = server.family, 128 if server.family == socket.AF_INET6 else 32
            protocol = nfx.l4_protocol(_PROTOCOLS[server.protocol])
            to = (nfx.to_subnet(at, server.address, whole), protocol, nfx.port_of(server.target, source=False))
            by = (nfx.from_subnet(at, server.address, whole), protocol, nfx.port_of(server.target, source=True))
            rule("input", nfx.ether_type(at), *to, nfx.accept())
            rule("output", nfx.ether_type(at), *by, nfx.accept())
    numbers = count(1 + _SETS * FAMILIES.index(table.family))

    def addresses(family: int, those: Sequence[str]) -> str:
        number = next(numbers)
        requests.extend(nft.new_address_set(table, name := f"s{number}", number, family, those))
        return name

    for loss in rules:
        for family in _ADDRESS_FAMILIES:
            for chain, parts in _drops(table, addresses, loss, family, around):
                rule(chain, nfx.ether_type(family), *parts, nfx.one_in(loss.share), nfx.drop())
    return requests


def _drops(
    table: Table, addresses: Callable[[int, Sequence[str]], str], loss: LossRule, family: int, around: Surroundings
) -> Iterator[tuple[str, list[list[Expression]]]]:
    """Which packets of `family` are meant, by chain. `addresses`: makes a set of these, and gives its name."""
    mine = [address for address in loss.addresses if family_of(address) == family]
    theirs = [address for address in loss.peers if family_of(address) == family]
    if not mine or not (theirs or loss.outside):
        return
    ours = addresses(family, mine)
    if not loss.outside:
        peers = addresses(family, theirs)
        yield "forward", [nfx.from_any_of(family, ours), nfx.to_any_of(family, peers)]
        if not loss.one_way:
            yield "forward", [nfx.from_any_of(family, peers), nfx.to_any_of(family, ours)]
        return
    if table.family == nft.BRIDGE:
        return
    subnets = [(ip, prefix) for ip, prefix in around.subnets if family_of(ip) == family]
    yield "input", [nfx.from_any_of(family, ours)]
    yield "forward", [
        nfx.from_any_of(family, ours),
        *(nfx.not_in_subnet(family, ip, prefix, source=False) for ip, prefix in subnets),
    ]
    if not loss.one_way:
        yield "output", [nfx.to_any_of(family, ours)]
        yield "forward", [
            nfx.to_any_of(family, ours),
            *(nfx.not_in_subnet(family, ip, prefix, source=True) for ip, prefix in subnets),
        ]


class LossTables:
    """The tables `name` of the network namespace that the thread is in when this is made."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._tables = [Table(name, family) for family in FAMILIES]
        self._sock = NetlinkSocket(NETLINK_NETFILTER)
        self._stated: tuple[tuple[LossRule, ...], Surroundings] | None = None
        """What was put there last; None: what is there is not known."""

    def close(self) -> None:
        self._sock.close()

    @property
    def made(self) -> bool:
        """Whether there should be tables."""
        return self._stated is not None and bool(self._stated[0])

    def state(self, rules: Iterable[LossRule], around: Surroundings) -> None:
        """Drop by exactly these rules. Raises OSError or HostError; the rules are as before then."""
        wanted = (tuple(rules), around)
        if not wanted[0]:
            if self._stated is None or self.made:
                self._commit(self._removal())
            self._stated = wanted
        elif wanted != self._stated:
            self._commit(self._replacement(*wanted))
            self._stated = wanted

    def exists(self) -> bool:
        return all(self._exists(table) for table in self._tables)

    def put_back(self) -> None:
        """Make the tables as they should be, whatever is there now."""
        if self._stated is not None:
            nft.commit(self._sock, self._replacement(*self._stated))

    def _commit(self, requests: Sequence[Request]) -> None:
        try:
            nft.commit(self._sock, requests)
        except OSError as exc:
            if exc.errno not in (errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.ENOENT):
                raise
            hint = "it needs CONFIG_NF_TABLES_BRIDGE, CONFIG_NF_TABLES_INET and, for loss, CONFIG_NFT_NUMGEN"
            raise HostError(f"this kernel cannot drop packets on purpose: {exc.strerror}", hint=hint) from exc

    def _exists(self, table: Table) -> bool:
        return any(nft.parse_table(body) == table.name for body in self._sock.ask(nft.get_tables(table.family)))

    def _removal(self) -> list[Request]:
        return [
            request
            for table in self._tables
            if self._exists(table)
            for request in (nft.new_table(table), nft.delete_table(table))
        ]

    def _replacement(self, rules: Sequence[LossRule], around: Surroundings) -> list[Request]:
        return [
            request
            for table in self._tables
            for request in (
                nft.new_table(table),
                nft.delete_table(table),
                *table_requests(table, rules, around),
            )
        ]
