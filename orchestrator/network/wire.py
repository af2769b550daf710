"""DNS messages as bytes (RFC 1035, EDNS: RFC 6891): questions read, replies made, records of others' replies walked over.

Whatever a container sends comes here first, so nothing here follows a pointer, trusts a length, or does work that grows
faster than the message. A general library took a third of the time of an answer, and had several kinds of errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct, error

from orchestrator.values import frozen

A, NS, SOA, PTR, AAAA, OPT, ANY = 1, 2, 6, 12, 28, 41, 255
NOERROR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 2, 3, 4, 5
BADVERS = 16
CLASSIC_UDP_BYTES = 512
OUR_UDP_BYTES = 1232
"""What our OPT record says: fits into every packet."""
HEAD_BYTES = 12
RESPONSE, TRUNCATED = 0x8000, 0x0200
_OPCODE, _AUTHORITATIVE, _RECURSION = 0x7800, 0x0400, 0x0080
_REPEATED = 0x0110
"""Flags of a question that its reply repeats: recursion desired, checking disabled."""
_DNSSEC_OK = 0x8000
_MOST_NAME_BYTES = 255
_MOST_LABEL_BYTES = 63
_MOST_EXTRAS = 16
"""Records of a question that are looked at for its OPT; real ones have one or two."""

_HEAD = Struct(">6H")
_TWO = Struct(">HH")
_RECORD = Struct(">HHIH")


@frozen
class Question:
    """`section`: its bytes as they came, letters in the case of whoever asks. `name`: in lower case, without the dot at the
    end; a dot inside of a label has a backslash before it. `udp_bytes`: how large a reply by UDP may be. `edns`: the flags
    of its OPT record, and its version; None without one. `whole`: one question and an ordinary one."""

    id: int
    flags: int
    section: bytes
    name: str
    kind: int
    udp_bytes: int = CLASSIC_UDP_BYTES
    edns: tuple[int, int] | None = None
    whole: bool = True


@frozen
class Record:
    """A record of a reply. `ttl_at`: where its time to live is in the message. `data`: from where to where."""

    kind: int
    size: int
    ttl: int
    ttl_at: int
    data: tuple[int, int]


def parse(data: bytes) -> Question | None:
    """The question in `data`; None if that is none."""
    if len(data) < HEAD_BYTES:
        return None
    ident, flags, questions, answers, authorities, extras = _HEAD.unpack_from(data)
    if flags & RESPONSE:
        return None
    if flags & _OPCODE or questions != 1:
        return Question(ident, flags, b"", "", 0, whole=False)
    try:
        name, end = _name(data)
        (kind, _) = _TWO.unpack_from(data, end)
    except (ValueError, error):
        return None
    end += 4
    udp_bytes, edns = _options(data, end, answers + authorities + extras) if len(data) > end else (CLASSIC_UDP_BYTES, None)
    return Question(ident, flags, data[HEAD_BYTES:end], name, kind, udp_bytes, edns)


def section(data: bytes) -> bytes:
    """The question section of a question or a reply, in lower case. Raises ValueError if there is none."""
    if len(data) < HEAD_BYTES or _HEAD.unpack_from(data)[2] != 1:
        raise ValueError("no DNS question")
    _, end = _name(data)
    if len(data) < end + 4:
        raise ValueError("a DNS question that is cut off")
    return data[HEAD_BYTES : end + 4].lower()


def _name(data: bytes) -> tuple[str, int]:
    """The name at the beginning of the question section, and where it ends. There is nothing before it that a compressed
    name could point to. Raises ValueError."""
    at, labels = HEAD_BYTES, []
    while True:
        if at >= len(data) or at - HEAD_BYTES >= _MOST_NAME_BYTES:
            raise ValueError("a name that does not end")
        length = data[at]
        at += 1
        if not length:
            break
        if length > _MOST_LABEL_BYTES:
            raise ValueError("a compressed name in a question")
        labels.append(data[at : at + length])
        at += length
    name = b".".join(labels)
    if name.count(b".") != max(0, len(labels) - 1):
        name = b".".join(label.replace(b".", b"\\.") for label in labels)
    return name.decode("utf-8", "surrogateescape").lower(), at


def _options(data: bytes, at: int, count: int) -> tuple[int, tuple[int, int] | None]:
    """What an OPT record in the question says."""
    try:
        for record in records(data, at, min(count, _MOST_EXTRAS)):
            if record.kind == OPT:
                return max(CLASSIC_UDP_BYTES, record.size), (record.ttl & 0xFFFF, record.ttl >> 16 & 0xFF)
    except ValueError:
        pass
    return CLASSIC_UDP_BYTES, None


def records(data: bytes, at: int, count: int) -> Iterator[Record]:
    """`count` records from `at` on. Raises ValueError where the message is damaged."""
    for _ in range(count):
        at = _past_name(data, at)
        try:
            kind, size, ttl, length = _RECORD.unpack_from(data, at)
        except error as exc:
            raise ValueError("a record that is cut off") from exc
        begin = at + _RECORD.size
        if begin + length > len(data):
            raise ValueError("a record that is cut off")
        yield Record(kind, size, ttl, at + 4, (begin, begin + length))
        at = begin + length


def _past_name(data: bytes, at: int) -> int:
    while at < len(data):
        length = data[at]
        if length > _MOST_LABEL_BYTES:
            return at + 2
        at += 1 + length
        if not length:
            return at
    raise ValueError("a name that does not end")


def reply_records(data: bytes) -> list[Record]:
    """All records of a reply. Raises ValueError."""
    if len(data) < HEAD_BYTES:
        raise ValueError("no DNS message")
    counts = _HEAD.unpack_from(data)
    at = HEAD_BYTES + len(section(data))
    return list(records(data, at, sum(counts[3:])))


def record(kind: int, ttl_s: int, data: bytes) -> bytes:
    """A record of the name that was asked for."""
    return b"\xc0\x0c" + _RECORD.pack(kind, 1, ttl_s, len(data)) + data


def encode_name(name: str) -> bytes:
    """Raises ValueError for what is too long for DNS."""
    labels = [label.encode("utf-8", "surrogateescape") for label in name.split(".") if label]
    encoded = b"".join(bytes([len(label)]) + label for label in labels if len(label) <= _MOST_LABEL_BYTES) + b"\0"
    if len(encoded) > _MOST_NAME_BYTES or any(len(label) > _MOST_LABEL_BYTES for label in labels):
        raise ValueError(f'"{name}" is too long for DNS')
    return encoded


def reply(question: Question, rcode: int, found: Sequence[bytes] = (), most_bytes: int = 65535) -> bytes:
    """The reply with the records `found`: as many as fit, marked as truncated if those are not all."""
    options = b""
    if question.edns is not None:
        flags = (rcode >> 4) << 24 | question.edns[0] & _DNSSEC_OK
        options = b"\0" + _RECORD.pack(OPT, OUR_UDP_BYTES, flags, 0)
    flags = RESPONSE | _AUTHORITATIVE | _RECURSION | question.flags & (_REPEATED | _OPCODE) | rcode & 0xF
    room = most_bytes - HEAD_BYTES - len(question.section) - len(options)
    if sum(map(len, found)) > room:
        flags |= TRUNCATED
        kept: list[bytes] = []
        for item in found:
            room -= len(item)
            if room < 0:
                break
            kept.append(item)
        found = kept
    head = _HEAD.pack(question.id, flags, 1 if question.section else 0, len(found), 0, 1 if options else 0)
    return b"".join((head, question.section, *found, options))
