"""Answers that are kept, and questions that wait."""

from __future__ import annotations

import socket
import sys

import pytest
from dnslib import QTYPE, RCODE, RR, SOA, A, DNSRecord
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.network import turns
from orchestrator.network.cache import AnswerCache
from orchestrator.network.pieces import PIECE_BYTES, cut, extended, joined
from orchestrator.network.turns import Turns, Waiting

SERVERS = ("192.0.2.1",)
MESSAGE = b"\1\2" + bytes(DNSRecord.question("example.org").pack())[2:]


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def answer(*ttls: int, rcode: int = 0, authority: tuple[int, int] | None = None, tc: int = 0) -> bytes:
    reply = DNSRecord.parse(MESSAGE).reply()
    reply.header.rcode, reply.header.tc = rcode, tc
    for ttl in ttls:
        reply.add_answer(RR("example.org", QTYPE.A, rdata=A("192.0.2.7"), ttl=ttl))
    if authority is not None:
        times = (1, 2, 3, 4, authority[1])
        reply.add_auth(RR("org", QTYPE.SOA, rdata=SOA("a.org", "b.org", times), ttl=authority[0]))
    return bytes(reply.pack())


def test_an_answer_is_given_again_with_the_id_of_who_asks_and_the_time_that_is_left() -> None:
    clock = Clock()
    cache = AnswerCache(clock)
    cache.keep(SERVERS, MESSAGE, answer(30, 300))
    clock.now_s += 10
    again = cache.find(SERVERS, b"\xab\xcd" + MESSAGE[2:])
    assert again is not None
    reply = DNSRecord.parse(again)
    assert (reply.header.id, [record.ttl for record in reply.rr]) == (0xABCD, [20, 290])
    assert cache.find(("192.0.2.2",), MESSAGE) is None
    assert cache.find(SERVERS, bytes(DNSRecord.question("EXAMPLE.org").pack())) is None
    clock.now_s += 20
    assert cache.find(SERVERS, MESSAGE) is None
    assert len(cache) == 0


@pytest.mark.parametrize(
    ("kept", "lasts_s"),
    [
        (answer(86400), 60),
        (answer(0), 0),
        (answer(60, 0), 0),
        (answer(1 << 31), 0),
        (answer(60, tc=1), 0),
        (answer(60, rcode=RCODE.SERVFAIL), 0),
        (answer(rcode=RCODE.NXDOMAIN), 0),
        (answer(rcode=RCODE.NXDOMAIN, authority=(60, 60)), 5),
        (answer(rcode=RCODE.NXDOMAIN, authority=(60, 2)), 2),
        (answer(authority=(3, 60)), 3),
        (answer(60)[:-1], 0),
        (b"", 0),
    ],
    ids=[
        "a day",
        "none",
        "one of two",
        "negative",
        "truncated",
        "failed",
        "nothing, who knows how long",
        "nothing",
        "nothing for a moment",
        "no such type",
        "cut off",
        "empty",
    ],
)
def test_an_answer_lasts_as_long_as_it_says_and_not_for_ever(kept: bytes, lasts_s: int) -> None:
    clock = Clock()
    cache = AnswerCache(clock)
    cache.keep(SERVERS, MESSAGE, kept)
    clock.now_s += lasts_s - 0.5
    assert (cache.find(SERVERS, MESSAGE) is not None) is (lasts_s > 0)
    clock.now_s += 0.6
    assert cache.find(SERVERS, MESSAGE) is None


def test_the_cache_is_bounded() -> None:
    cache = AnswerCache()
    for number in range(5000):
        cache.keep(SERVERS, number.to_bytes(4, "big") + MESSAGE, answer(60))
    assert len(cache) == 2048
    cache.keep(SERVERS, MESSAGE, answer(*[60] * 200))
    assert cache.find(SERVERS, MESSAGE) is None


@given(st.binary(max_size=200), st.integers(0, 40))
def test_no_answer_of_others_breaks_the_cache(noise: bytes, at: int) -> None:
    cache = AnswerCache()
    good = answer(60, authority=(60, 60))
    for hostile in (noise, good[:at] + noise, good[:at] + noise + good[at:]):
        cache.keep(SERVERS, MESSAGE, hostile)
        cache.find(SERVERS, MESSAGE)


NOBODYS = socket.socket()
NOBODYS.close()


def waiting(client: str, number: int = 0, size: int = 20) -> Waiting:
    return Waiting(cut(number.to_bytes(2, "big") * (size // 2)), (client, 1), 0.0, client, NOBODYS)


def test_who_asks_much_delays_itself_alone() -> None:
    queue = Turns()
    assert all(queue.put(waiting("loud", number)) for number in range(turns.MOST_OF_ONE))
    assert not queue.put(waiting("loud"))
    assert queue.put(waiting("quiet"))
    taken = [queue.take() for _ in range(3)]
    assert [item.client for item in taken if item] == ["loud", "quiet", "loud"]
    assert queue.take(lambda client: client != "loud") is None
    assert len(queue) == turns.MOST_OF_ONE - 2
    order = [item.data for item in iter(queue.take, None)]
    assert order == sorted(order)
    assert (len(queue), queue.take()) == (0, None)


@given(st.lists(st.binary(max_size=1500), max_size=20))
def test_a_message_is_whole_again_whatever_parts_it_came_in_and_no_piece_is_large(parts: list[bytes]) -> None:
    pieces = cut(b"")
    for part in parts:
        pieces = extended(pieces, part)
    assert pieces == cut(b"".join(parts))
    assert joined(pieces) == b"".join(parts)
    assert all(sys.getsizeof(piece) <= 512 for piece in pieces)
    assert all(len(piece) == PIECE_BYTES for piece in pieces[:-1])


def test_what_waits_is_bounded_in_all() -> None:
    queue = Turns()
    taken = sum(queue.put(waiting(f"10.0.{n % 4000}", n, 4000)) for n in range(20_000))
    assert taken == turns.MOST_BYTES // 4000
    queue = Turns()
    assert sum(queue.put(waiting(f"10.0.{n % 4000}", n, 2)) for n in range(20_000)) == turns.MOST
