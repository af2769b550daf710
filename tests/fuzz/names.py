"""All that a container may send to the name server of its network, while others ask.

``python -m tests.fuzz.names``, each a process of its own:
``--attack FD OWN SERVER SECONDS SEED``: a hostile client at address OWN, in the network namespace FD. Names of every length
and byte in turn; random, cut and damaged messages, by UDP, by raw IP packets and fragments, and in pieces by TCP.
``--ask FD SERVER SECONDS PATIENCE``: one that asks for a name of the stack every few milliseconds. Prints what came of it.
``--fill FD SERVER COUNT``: one that asks for so many names of others, which all have answers that last.
``--resolve PORT SEED``: a hostile resolver on 127.0.0.1, as the one outside; good to those who fill.
``tests/soak/test_names_fuzzed.py`` puts them together, and says what may come of it.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import socket
import struct
import time
from random import Random

ASK_EVERY_S = 0.004
LATE_S = 0.005
WORDS = (b"web", b"lab-web-1", b"default", b"lab_default", b"host", b"docker", b"internal", b"in-addr", b"ip6", b"arpa",
         b"example", b"org", b"a" * 63, b"\xff" * 63, b"\0", b".", b"\xc0\x0c", b"%", b"10", b"1", b"f")  # fmt: skip
KINDS = (0, 1, 2, 5, 6, 12, 15, 16, 28, 33, 41, 64, 65, 251, 252, 255, 65535)


def name(r: Random) -> bytes:
    """A name of any length, sometimes a pointer, sometimes one that goes on for ever."""
    match r.randrange(8):
        case 0:
            return bytes([r.randrange(256)]) + r.randbytes(r.randrange(80))
        case 1:
            return r.choice((b"\xc0\x0c", b"\xc0\x0d", b"\3web\xc0\x0c", b"\xff\xff", b"\xc0", b"\x40\x40"))
        case 2:
            return b"\1a" * r.randrange(200) + r.choice((b"\0", b"", b"\xc0\x0c"))
        case 3:
            digits = [b"%d" % r.randrange(300) for _ in range(r.randrange(6))]
            return labels([*digits, b"in-addr", b"arpa"])
        case 4:
            digits = [b"%x" % r.randrange(20) for _ in range(r.choice((31, 32, 33)))]
            return labels([*digits, b"ip6", b"arpa"])
    return labels([r.choice(WORDS) for _ in range(r.randrange(6))])


def labels(parts: list[bytes]) -> bytes:
    return b"".join(bytes([len(part) & 63]) + part[:63] for part in parts) + b"\0"


FILLING = b"filling"
LENGTHS, BYTES = 260, 256
EVERY = LENGTHS * BYTES


def every(number: int) -> bytes:
    """Of all names of one byte repeated, the longest label first, the `number`-th: of each length in bytes as on the wire,
    also of those that are too long (RFC 1035, 2.3.4: 255), and of each byte."""
    length, byte = number % LENGTHS, number // LENGTHS % BYTES
    parts = [63] * (length // 64) + ([length % 64 - 1] if length % 64 > 1 else [])
    encoded = b"".join(bytes([part]) + bytes([byte]) * part for part in parts) + b"\0"
    kind = KINDS[number % len(KINDS)]
    return struct.pack(">6H", number & 0xFFFF, 0x0100, 1, 0, 0, 0) + encoded + struct.pack(">HH", kind, 1)


def message(r: Random) -> bytes:
    match r.randrange(6):
        case 0:
            return r.randbytes(r.choice((0, 1, 11, 12, 13, 40, 512, 4096, 4097, 9000)))
        case 1:
            counts = [r.choice((0, 1, 2, 65535)) for _ in range(4)]
            return (
                struct.pack(">6H", r.randrange(65536), r.randrange(65536), *counts) + name(r) + r.randbytes(r.randrange(40))
            )
    flags = r.choice((0x0100, 0x0000, 0x0110, 0x8180, 0x2800, 0x7800))
    extra = b""
    if r.random() < 0.4:
        size, more = r.choice((0, 1, 511, 512, 1232, 65535)), r.randbytes(r.randrange(30))
        extra = (
            r.choice((b"\0", b"\xc0\x0c", name(r))) + struct.pack(">HHIH", 41, size, r.getrandbits(32), len(more)) + more
        )
    body = name(r) + struct.pack(">HH", r.choice(KINDS), r.choice((1, 1, 1, 3, 255, 0))) + extra
    data = bytearray(struct.pack(">6H", r.randrange(65536), flags, 1, 0, 0, 1 if extra else 0) + body)
    for _ in range(r.choice((0, 0, 0, 1, 5))):
        data[r.randrange(len(data))] = r.randrange(256)
    return bytes(data[: r.randrange(len(data))] if r.random() < 0.1 else data)


def packet(r: Random, source: str, server: str) -> bytes:
    """An IPv4 packet as raw as can be: cut, in fragments, with wrong lengths, from others' addresses."""
    payload = message(r)[:1300]
    udp = (
        struct.pack(">4H", r.randrange(65536), 53, r.choice((8 + len(payload), 0, 7, 65535)), r.randrange(65536)) + payload
    )
    if r.random() < 0.3:
        source = source.rpartition(".")[0] + f".{r.randrange(256)}"
    protocol = r.choice((17, 17, 17, 6, 1, 132, 255))
    fragment = r.choice((0, 0, 0x2000, 0x2001, 1, 0x1FFF))
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), r.randrange(65536), fragment, 64, protocol, 0)
    return head + socket.inet_aton(source) + socket.inet_aton(server) + udp


def attack(fd: int, own: str, server: str, seconds: float, seed: int) -> None:
    """The hostile client; a process of its own."""
    enter(fd)
    r = Random(seed)
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(8)]
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    open_streams: list[socket.socket] = []
    for sock in sockets:
        sock.setblocking(False)
    sent, swept, end = 0, r.randrange(EVERY), time.monotonic() + seconds
    while time.monotonic() < end:
        # A flood now and then, and otherwise as fast as a program that does something else too.
        pause_s = r.choice((0.0, 0.001, 0.001, 0.003))
        for _ in range(200):
            sent += 1
            try:
                match r.randrange(20):
                    case 0:
                        stream(r, server, open_streams)
                    case 1 | 2:
                        raw.sendto(packet(r, own, server), (server, 0))
                    case 3 | 4 | 5:
                        sockets[0].sendto(every(swept), (server, 53))
                        swept += 1
                    case _:
                        r.choice(sockets).sendto(message(r), (server, 53))
            except OSError:
                pass
            if pause_s and not sent % 10:
                time.sleep(pause_s)
    print(json.dumps(sent))


def stream(r: Random, server: str, streams: list[socket.socket]) -> None:
    """Frames by TCP: in pieces, without an end, with wrong lengths; some stay open."""
    if len(streams) > 40 or (streams and r.random() < 0.3):
        streams.pop(r.randrange(len(streams))).close()
    if not streams or r.random() < 0.3:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.settimeout(0.05)
        if r.random() < 0.3:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        streams.append(sock)
        sock.connect((server, 53))
    data = message(r)
    framed = struct.pack(">H", r.choice((len(data), len(data), 0, 1, 65535))) + data
    sock = r.choice(streams)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # each piece is a packet
    cuts = sorted(r.randrange(len(framed) + 1) for _ in range(r.choice((0, 1, 1, 2, 20))))
    pieces = [framed[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(framed)])]
    for piece in pieces if r.random() < 0.5 else pieces[:-1]:
        sock.send(piece)


def ask(fd: int, server: str, seconds: float, patience_s: float) -> None:
    """The client that wants to know something; a process of its own. It ends with an error if it is told a falsehood."""
    enter(fd)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect((server, 53))
    sock.settimeout(patience_s)
    took: list[float] = []
    lost, number, overslept, end = 0, 0, 0, time.monotonic() + seconds
    while time.monotonic() < end:
        number = (number + 1) & 0xFFFF
        begin = time.perf_counter()
        sock.send(question(number, [b"web"]))
        try:
            while (answer := sock.recv(4096))[:2] != number.to_bytes(2, "big"):
                pass
            assert answer[3] & 15 == 0, answer
            assert answer[7] == 1, answer
            took.append(time.perf_counter() - begin)
        except TimeoutError:
            lost += 1
        begin = time.perf_counter()
        time.sleep(ASK_EVERY_S)
        # What the machine makes a program wait that nobody has to answer.
        overslept += time.perf_counter() - begin > ASK_EVERY_S + LATE_S
    took.sort()
    late = sum(1 for s in took if s > LATE_S)
    marks = {f"p{share}_ms": took[min(len(took) - 1, int(len(took) * share / 100))] * 1000 for share in (50, 99, 99.9)}
    counts = {"asked": len(took) + lost, "lost": lost, "late": late, "overslept": overslept}
    print(json.dumps({**counts, **marks, "most_ms": took[-1] * 1000}))


def fill(fd: int, server: str, count: int) -> None:
    """What is kept of others' answers is full of as large ones as it usually has, or larger."""
    enter(fd)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((server, 53))
        sock.settimeout(5)
        for number in range(count):
            sock.send(question(number & 0xFFFF, [b"%d" % number, *[b"x" * 63] * 3, FILLING]))
            assert len(sock.recv(4096)) > 200


def question(number: int, parts: list[bytes]) -> bytes:
    return struct.pack(">6H", number, 0x100, 1, 0, 0, 0) + labels(parts) + b"\0\1\0\1"


def enter(fd: int) -> None:
    assert ctypes.CDLL(None).setns(fd, 0x40000000) == 0


def hostile_resolver(sock: socket.socket, seed: int) -> None:
    r = Random(seed)
    while True:
        data, peer = sock.recvfrom(65535)
        match r.randrange(6) if FILLING not in data else 5:
            case 0:
                reply = data[:2] + r.randbytes(r.randrange(600))
            case 1:
                continue
            case 2:
                reply = data[:2] + b"\x81\x83" + data[4:]
            case 3:
                reply = data[:2] + b"\x81\x80" + data[4:6] + b"\xff\xff\0\1\0\0" + data[12:] + r.randbytes(r.randrange(900))
            case _:
                ttl, count = r.choice((0, 60, 1 << 31, 0xFFFFFFFF)), r.choice((0, 1, 2))
                if FILLING in data:
                    ttl, count = 60, 1
                record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, ttl, 4) + b"\1\2\3\4"
                reply = data[:2] + b"\x81\x80" + data[4:6] + struct.pack(">3H", count, 0, 0) + data[12:] + record
        try:
            sock.sendto(reply, peer)
        except OSError:
            continue


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--attack", nargs=5)
    parser.add_argument("--ask", nargs=4)
    parser.add_argument("--fill", nargs=3)
    parser.add_argument("--resolve", nargs=2, type=int)
    options = parser.parse_args()
    if options.attack:
        fd, own, server, seconds, seed = options.attack
        attack(int(fd), own, server, float(seconds), int(seed))
    elif options.ask:
        fd, server, seconds, patience_s = options.ask
        ask(int(fd), server, float(seconds), float(patience_s))
    elif options.fill:
        fd, server, count = options.fill
        fill(int(fd), server, int(count))
    else:
        port, seed = options.resolve
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", port))
            hostile_resolver(sock, seed)


if __name__ == "__main__":
    main()
