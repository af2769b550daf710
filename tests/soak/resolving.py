"""``python -m tests.soak.resolving``: what programs in containers are told by the name server of their /etc/resolv.conf.

Standard input: a JSON list of ``[pid, [[name, type], ...]]``. Standard output: a list as long, of lists of ``[rcode,
[address, ...]]``; an rcode of -1 is no answer after three times five seconds, as resolv.conf(5) has it.
One process asks for all of them, in the network namespace of each in turn: three hundred `exec`s would take minutes.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import struct
import sys
from pathlib import Path

CLONE_NEWNET = 0x40000000
TYPES = {"A": (1, socket.AF_INET), "AAAA": (28, socket.AF_INET6)}
TRIES, PATIENCE_S = 3, 5.0


def servers(pid: int) -> list[str]:
    lines = Path(f"/proc/{pid}/root/etc/resolv.conf").read_text().splitlines()
    return [line.split()[1] for line in lines if line.startswith("nameserver")]


def question(number: int, name: str, kind: int) -> bytes:
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack(">6H", number, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)


def addresses(answer: bytes, at: int, kind: int, family: int) -> list[str]:
    """Those of the answer section that begins at `at`; owners are pointers (RFC 1035, 4.1.4), as all servers have them."""
    found = []
    for _ in range(int.from_bytes(answer[6:8], "big")):
        assert answer[at] & 0xC0, answer
        record, length = struct.unpack_from(">H", answer, at + 2)[0], struct.unpack_from(">H", answer, at + 10)[0]
        if record == kind:
            found.append(socket.inet_ntop(family, answer[at + 12 : at + 12 + length]))
        at += 12 + length
    return found


def ask(sock: socket.socket, number: int, name: str, word: str) -> tuple[int, list[str]]:
    kind, family = TYPES[word]
    asked = question(number, name, kind)
    for _ in range(TRIES):
        sock.send(asked)
        try:
            while (answer := sock.recv(4096))[:2] != asked[:2]:
                pass
        except TimeoutError:
            continue
        return answer[3] & 15, addresses(answer, len(asked), kind, family)
    return -1, []


def ask_all(pid: int, questions: list[tuple[str, str]]) -> list[tuple[int, list[str]]]:
    server = servers(pid)[0]
    fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    assert ctypes.CDLL(None).setns(fd, CLONE_NEWNET) == 0
    os.close(fd)
    with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((server, 53))
        sock.settimeout(PATIENCE_S)
        return [ask(sock, number, *each) for number, each in enumerate(questions)]


if __name__ == "__main__":
    json.dump([ask_all(pid, questions) for pid, questions in json.load(sys.stdin)], sys.stdout)
