"""Answers of others, kept for as long as they say, and for a minute at most.

A question is known again by all of its bytes but the id: whoever asks otherwise (other case, other EDNS options) is asked
for anew. What is kept is bounded in number and in size, so no container can make the supervisor grow.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock

from orchestrator.network import wire
from orchestrator.network.pieces import PIECE_BYTES, Pieces, cut, joined
from orchestrator.values import frozen

_MOST_ENTRIES = 2048
_MOST_BYTES = 2048
"""Of one answer."""
_LONGEST_S = 60
"""A resolver that changes its mind (a VPN comes up behind 127.0.0.53) is believed after this."""
_LONGEST_WITHOUT_S = 5
"""For "there is none": people make what is missing and try again."""

Key = tuple[tuple[str, ...], bytes]


@frozen
class _Kept:
    """`ttls`: where times to live are, and which."""

    answer: Pieces
    since_s: float
    until_s: float
    ttls: tuple[tuple[int, int], ...]


class AnswerCache:
    """Used by the event loop and by threads of name servers."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, servers: Sequence[str], message: bytes) -> bytes | None:
        """The answer of `servers` to `message`, as old as it is by now."""
        key, now = (tuple(servers), message[2:]), self._clock()
        with self._lock:
            kept = self._kept.get(key)
            if kept is None:
                return None
            if now >= kept.until_s:
                del self._kept[key]
                return None
            self._kept.move_to_end(key)
        answer, age = bytearray(joined(kept.answer)), int(now - kept.since_s)
        answer[:2] = message[:2]
        for at, ttl in kept.ttls if age else ():
            answer[at : at + 4] = (ttl - age).to_bytes(4, "big")
        return bytes(answer)

    def keep(self, servers: Sequence[str], message: bytes, answer: bytes) -> None:
        """Unless it says nothing that lasts: failures, what is truncated, or has a time to live of 0."""
        if len(answer) > _MOST_BYTES or len(message) > PIECE_BYTES:
            return
        try:
            lasts_s, ttls = _lasting(answer)
        except ValueError:
            return
        if lasts_s <= 0:
            return
        key, now = (tuple(servers), message[2:]), self._clock()
        with self._lock:
            self._kept[key] = _Kept(cut(answer), now, now + lasts_s, ttls)
            self._kept.move_to_end(key)
            while len(self._kept) > _MOST_ENTRIES:
                self._kept.popitem(last=False)


def _lasting(answer: bytes) -> tuple[int, tuple[tuple[int, int], ...]]:
    """For how long, and the times to live in it. Raises ValueError."""
    records = wire.reply_records(answer)
    flags = int.from_bytes(answer[2:4], "big")
    rcode, answers = flags & 0xF, int.from_bytes(answer[6:8], "big")
    if flags & wire.TRUNCATED or rcode not in (wire.NOERROR, wire.NXDOMAIN):
        return 0, ()
    timed = [record for record in records if record.kind != wire.OPT]
    if any(record.ttl >> 31 for record in timed):
        return 0, ()  # negative, says RFC 2181
    shortest = min([_LONGEST_S, *(record.ttl for record in timed)])
    if rcode == wire.NXDOMAIN or not answers:
        # RFC 2308: without an SOA nobody says how long it holds.
        authority = next((record for record in timed if record.kind == wire.SOA), None)
        if authority is None or authority.data[1] - authority.data[0] < 4:
            return 0, ()
        minimum = int.from_bytes(answer[authority.data[1] - 4 : authority.data[1]], "big")
        shortest = min(shortest, minimum, _LONGEST_WITHOUT_S)
    return shortest, tuple((record.ttl_at, record.ttl) for record in timed)
