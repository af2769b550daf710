"""``python -m benchmarks.names [--rounds N] [TREE ...]``: microseconds that a name takes, of each source tree in turn.

The client is a process of its own in a container's network namespace: an answer from the stack, one after the other (p50,
p99); the same while the event loop of the supervisor is busy; a name of others (cached where the tree has a cache); and how
many of a thousand questions that are asked at once for the outside are answered. Without a TREE: this one alone.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent

CLIENT = """
import ctypes, json, os, socket, struct, sys, time
fd, server, count, name = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
ctypes.CDLL(None).setns(fd, 0x40000000)
def message(number, name):
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack(">6H", number & 0xffff, 0x100, 1, 0, 0, 0) + labels + b"\\0\\0\\1\\0\\1"
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect((server, 53))
sock.settimeout(5)
if name == "burst":
    sock.setsockopt(socket.SOL_SOCKET, 33, 4 << 20)
    begin = time.perf_counter()
    for number in range(count):
        sock.send(message(number, f"n{number}.example.org"))
    seen = set()
    try:
        while len(seen) < count:
            seen.add(sock.recv(4096)[:2])
    except TimeoutError:
        pass
    print(json.dumps([len(seen), time.perf_counter() - begin]))
else:
    took = []
    for number in range(count):
        question = message(number, name)
        begin = time.perf_counter_ns()
        sock.send(question)
        answer = sock.recv(4096)
        took.append((time.perf_counter_ns() - begin) / 1000)
        assert answer[3] & 15 == 0 and answer[7], answer
    took.sort()
    print(json.dumps([took[len(took) // 2], took[len(took) * 99 // 100]]))
"""


def inside() -> None:
    """Measure the tree that this process imports."""
    import socket
    import threading

    import trio
    from dnslib import QTYPE, RR, A, DNSRecord

    from orchestrator.network.adapter import open_networking
    from orchestrator.network.upstream import Upstream
    from tests.kernel.network_lab import lab, network, site, start, stop

    def resolver(sock: socket.socket) -> None:
        while True:
            data, peer = sock.recvfrom(4096)
            reply = DNSRecord.parse(data).reply()
            reply.add_answer(RR(reply.q.qname, QTYPE.A, rdata=A("198.51.100.7"), ttl=60))
            sock.sendto(reply.pack(), peer)

    async def busy() -> None:
        """As a supervisor that starts containers: turns of some milliseconds."""
        while True:
            for _ in range(50_000):
                pass
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        with lab() as world, tempfile.TemporaryDirectory() as directory:
            conf = Path(directory, "resolv.conf")
            conf.write_text("nameserver 127.0.0.1\n")
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setsockopt(socket.SOL_SOCKET, 33, 4 << 20)
            sock.bind(("127.0.0.1", 5454))
            threading.Thread(target=resolver, args=(sock,), daemon=True).start()
            async with open_networking(site(Path(directory)), upstream=Upstream(str(conf), 5454)) as networking:
                await networking.ensure([network()])
                box = await start(world, networking, "web")

                async def ask(count: int, name: str) -> list[float]:
                    argv = [sys.executable, "-c", CLIENT, str(box.fd), box.resolver, str(count), name]
                    done = await trio.run_process(argv, capture_stdout=True, pass_fds=[box.fd])
                    return list(json.loads(done.stdout))

                found = {"own": await ask(3000, "web"), "other": await ask(1000, "example.org")}
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(busy)
                    found["own, loop busy"] = await ask(300, "web")
                    nursery.cancel_scope.cancel()
                found["burst: answered, s"] = await ask(1000, "burst")
                print(json.dumps(found))
                await stop(world, networking, box)
                await networking.remove([box.endpoints[0].network])

    trio.run(main)
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("trees", nargs="*", default=[str(HERE)])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        return inside()
    found: dict[str, dict[str, list[list[float]]]] = {tree: {} for tree in options.trees}
    for _ in range(options.rounds):
        for tree in options.trees:
            done = subprocess.run(
                [sys.executable, "-P", __file__, "--inside"],
                cwd=tree, env={**os.environ, "PYTHONPATH": tree}, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                sys.exit(done.stderr)
            for what, pair in json.loads(done.stdout.splitlines()[-1]).items():
                found[tree].setdefault(what, []).append(pair)
    for tree, table in found.items():
        for what, pairs in table.items():
            first, second = (statistics.median(pair[n] for pair in pairs) for n in (0, 1))
            print(f"{tree:24} {what:20} {first:10.1f} {second:10.2f}")


if __name__ == "__main__":
    main()
