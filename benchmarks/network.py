"""``python -m benchmarks.network [--rounds N]``: what networks cost, as ratios taken in turns in one run.

* requests a second to a container from the host, by 127.0.0.1:PORT, by the bridge's address and PORT, and by the
  container's own address, as shares of those that another container has; over connections that stay, and with one each;
* a name of the stack: p50 and p99 against Podman's, whose name server is aardvark-dns (with netavark) or dnsmasq (dnsname);
* attaching a container against ip(8), which makes the same links, addresses and routes by ``-batch``;
* `down` of a project of one service with its network against ``podman rm`` and ``podman network rm``.

Everything is in mount, network and cgroup namespaces of its own (tests/world.py): no rule of the machine's is in the way.
What Podman has is skipped with a reason where its parts are missing (netavark and aardvark-dns, or
golang-github-containernetworking-plugin-dnsname).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.machine import HYBRID, is_refused
from benchmarks.names import CLIENT
from tests import world
from tests.machine import Pystack, make_busybox_rootfs

ROOT = Path(__file__).resolve().parent.parent
PORT, PUBLISHED = 8000, 18000
TURN_MS = 500
QUESTIONS, ROUNDS_OF_QUESTIONS = 1000, 5
ATTACHED = 40


@dataclass(slots=True)
class Turns:
    """Figures of things that take turns: name -> one of each round."""

    found: dict[str, list[float]] = field(default_factory=dict)

    def round(self, number: int, steps: Mapping[str, Callable[[], float]]) -> None:
        """Each step once, beginning with another one each time."""
        names = list(steps)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            self.found.setdefault(name, []).append(steps[name]())

    def median(self, name: str) -> float:
        return statistics.median(self.found[name])

    def ratio(self, name: str, to: str) -> float:
        """The median of the rounds' own ratios: what the machine does meanwhile is in both."""
        return statistics.median(ours / theirs for ours, theirs in zip(self.found[name], self.found[to], strict=True))


def output_of(*argv: object, fds: Sequence[int] = ()) -> str:
    words = [str(word) for word in argv]
    return subprocess.run(words, stdout=subprocess.PIPE, check=True, text=True, pass_fds=fds).stdout


def timed_ms(*argvs: Sequence[object], environment: Mapping[str, str] | None = None, cwd: Path | None = None) -> float:
    begin = time.perf_counter()
    for argv in argvs:
        words = [str(word) for word in argv]
        subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, env=environment, cwd=cwd)
    return (time.perf_counter() - begin) * 1e3


def gateway_of(pid: int) -> str:
    """proc_pid_net(5): the destination and gateway of ``route`` are in hexadecimal, in the order of this machine."""
    for line in Path(f"/proc/{pid}/net/route").read_text().splitlines()[1:]:
        _, destination, gateway, *_ = line.split()
        if destination == "00000000":
            return socket.inet_ntoa(struct.pack("=I", int(gateway, 16)))
    raise AssertionError(f"{pid} has no default route")


def server_of(pid: int) -> str:
    lines = Path(f"/proc/{pid}/root/etc/resolv.conf").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("nameserver"))


# -- requests -----------------------------------------------------------------------------------------------------------

SERVER = """
x-service: &service
  image: rootfs:{rootfs}
  stop_signal: SIGKILL
services:
  server: {{<<: *service, command: [requests, serve, "{port}"], ports: ["{published}:{port}"]}}
  client: {{<<: *service, command: [sleep, "3600"]}}
"""


def measure_requests(pystack: Pystack, rootfs: Path, rounds: int) -> list[str]:
    program = rootfs / "bin" / "requests"
    subprocess.run(["cc", "-O2", "-static", "-o", program, ROOT / "benchmarks" / "requests.c"], check=True)
    stack = pystack.stack(SERVER.format(rootfs=rootfs, port=PORT, published=PUBLISHED))
    stack.must("up", "-d")
    rows = stack.ps()
    client, (server,) = rows["client"]["Pid"], rows["server"]["Addresses"].values()
    direct = ("nsenter", "-t", client, "-n", program, "ask", server, PORT)
    ways: dict[str, tuple[object, ...]] = {
        "another container": direct,
        "127.0.0.1:PORT": (program, "ask", "127.0.0.1", PUBLISHED),
        "the bridge's address:PORT": (program, "ask", gateway_of(rows["server"]["Pid"]), PUBLISHED),
        "the container's address": (program, "ask", server, PORT),
    }
    lines = []
    for each, what in ((0, "connections that stay"), (1, "a connection each")):
        turns = Turns()

        def step(argv: tuple[object, ...], each: int = each) -> float:
            return float(output_of(*argv, TURN_MS, each))

        for number in range(rounds):
            turns.round(number, {name: lambda argv=argv: step(argv) for name, argv in ways.items()})  # type: ignore[misc]
        first = "another container"
        lines.append(f"requests, {what}: {turns.median(first):.0f}/s from {first}")
        lines += [f"  by {name}: {turns.median(name):.0f}/s, {turns.ratio(name, first):.2f} of it" for name in [*ways][1:]]
    stack.must("down", "-t", "0")
    return lines


# -- Podman -------------------------------------------------------------------------------------------------------------

NAME_SERVERS = {"netavark": "/usr/lib/podman/aardvark-dns", "cni": "/usr/lib/cni/dnsname"}
CONTAINERS_CONF = """
[network]
network_backend = "{backend}"
network_config_dir = "{place}/net"
[engine]
cgroup_manager = "cgroupfs"
"""
LIMITS = ("--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000")
"""crun asks for more than an unprivileged root may have."""


class Podman:
    """One with places, network and mounts of its own: ``/run`` too, where its name servers keep their files."""

    def __init__(self, place: Path, backend: str, rootfs: Path) -> None:
        place.mkdir()
        self.place, self.rootfs = place, rootfs
        conf = place / "containers.conf"
        conf.write_text(CONTAINERS_CONF.format(backend=backend, place=place))
        script = f"""
            if test -d {HYBRID}; then umount -R {HYBRID}; fi
            mount -t tmpfs tmpfs /run && ip link set lo up && echo ready && exec cat"""
        argv = ["env", f"CONTAINERS_CONF={conf}", "unshare", "-n", "-m", "sh", "-e", "-c", script]
        self.holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.holder.stdout is not None
        if self.holder.stdout.readline() != "ready\n":
            raise OSError("no namespaces for podman")
        enter = ("nsenter", "-t", str(self.holder.pid), "-n", "-m", "env", f"CONTAINERS_CONF={conf}")
        self.podman = (*enter, "podman", "--root", f"{place}/root", "--runroot", f"{place}/run")

    def run(self, network: str, name: str) -> int:
        """Start a container; its pid."""
        rootfs = self.place / f"rootfs-{name}"
        if not rootfs.exists():
            shutil.copytree(self.rootfs, rootfs, symlinks=True)
        words = ("run", "-d", "--network", network, "--name", name, "--cgroups=disabled", *LIMITS)
        output_of(*self.podman, *words, "--rootfs", rootfs, "sleep", "3600")
        return int(output_of(*self.podman, "inspect", "--format", "{{.State.Pid}}", name))

    def close(self) -> None:
        subprocess.run([*self.podman, "rm", "-f", "-a", "-t", "0"], capture_output=True)
        self.holder.kill()
        self.holder.wait()


@contextmanager
def podman(place: Path, backend: str, rootfs: Path) -> Iterator[Podman]:
    opened = Podman(place, backend, rootfs)
    try:
        yield opened
    finally:
        opened.close()


SLEEPERS = """
x-service: &service
  image: rootfs:{rootfs}
  stop_signal: SIGKILL
  command: [sleep, "3600"]
services:
  web: *service
"""


def ask_names(pid: int) -> tuple[float, float]:
    """p50 and p99 of one question after the other for the only other container, in microseconds."""
    fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        answer = output_of(sys.executable, "-c", CLIENT, fd, server_of(pid), QUESTIONS, "web", fds=[fd])
    finally:
        os.close(fd)
    p50, p99 = json.loads(answer)
    return p50, p99


def measure_names(pystack: Pystack, other: Podman, called: str, rootfs: Path, rounds: int) -> list[str]:
    stack = pystack.stack(SLEEPERS.format(rootfs=rootfs) + "  more: *service\n")
    stack.must("up", "-d")
    output_of(*other.podman, "network", "create", "names")
    other.run("names", "web")
    pids = {"pystack": stack.ps()["more"]["Pid"], called: other.run("names", "more")}
    found: dict[str, list[tuple[float, float]]] = {}
    for number in range(rounds * ROUNDS_OF_QUESTIONS):
        for who in sorted(pids, reverse=bool(number % 2)):
            found.setdefault(who, []).append(ask_names(pids[who]))
    stack.must("down", "-t", "0")
    lines = ["a name of the stack, asked one after the other"]
    for who, pairs in found.items():
        p50, p99 = (statistics.median(pair[at] for pair in pairs) for at in (0, 1))
        # A machine with much else to do adds its own turns to one answer in a hundred: the best round has least of them.
        best50, best99 = min(pairs, key=lambda pair: pair[1])
        best = f"of the best round {best50:6.1f}, {best99:7.1f}, {best99 / best50:.1f} times as long"
        lines.append(f"  {who:<24} p50 {p50:6.1f} us  p99 {p99:7.1f} us  {best}")
    ratios = [statistics.median(o[at] / t[at] for o, t in zip(found["pystack"], found[called])) for at in (0, 1)]
    return [*lines, f"  pystack takes {ratios[0]:.2f} of its p50, {ratios[1]:.2f} of its p99"]


def measure_down(pystack: Pystack, other: Podman, rootfs: Path, rounds: int) -> list[str]:
    turns = Turns()
    stack = pystack.stack(SLEEPERS.format(rootfs=rootfs))

    def ours() -> float:
        stack.must("up", "-d")
        argv = pystack.command("-p", stack.name, "--progress", "quiet", "down")
        return timed_ms(argv, environment=pystack.child_environment(), cwd=stack.directory)

    def theirs() -> float:
        output_of(*other.podman, "network", "create", "down")
        other.run("down", "alone")
        remove, network = ("rm", "-f", "-t", "0", "alone"), ("network", "rm", "down")
        return timed_ms((*other.podman, *remove), (*other.podman, *network))

    names = "pystack down", "podman rm and network rm"
    for number in range(rounds):
        turns.round(number, dict(zip(names, (ours, theirs))))
    first, second = map(turns.median, names)
    ratio = turns.ratio(*names)
    return [f"down of one service and its network: {first:.0f} ms, {names[1]} {second:.0f} ms, ratio {ratio:.2f}"]


# -- attaching ----------------------------------------------------------------------------------------------------------

HOST_BATCH = """\
link add {veth} address {host_mac} type veth peer name eth0 address {mac} netns {ns}
link set {veth} master psb0 up
"""
OWN_BATCH = """\
link set lo up
address add {address}/16 dev eth0
link set eth0 up
route add default via 10.99.0.1
"""


def attach_by_ip() -> float:
    """Milliseconds for each container: one ``ip -batch`` for the ends on the host, and one in each namespace. In a world
    of its own, which ends with the process that `measure_attach` makes for it."""
    names = [f"n{number}" for number in range(ATTACHED)]
    batch = "".join(f"netns add {name}\n" for name in names)
    setup = batch + "link add psb0 type bridge\naddress add 10.99.0.1/16 dev psb0\nlink set psb0 up\n"
    run_batch(setup)
    host, own = "", []
    for number, name in enumerate(names):
        mac = f"{number >> 8:02x}:{number & 255:02x}"
        macs = {"host_mac": f"02:73:00:00:{mac}", "mac": f"02:70:0a:63:{mac}"}
        host += HOST_BATCH.format(veth=f"psv{number}", ns=name, **macs)
        own.append(OWN_BATCH.format(address=f"10.99.1.{number + 2}"))
    begin = time.perf_counter()
    run_batch(host)
    for name, text in zip(names, own):
        run_batch(text, "-n", name)
    return (time.perf_counter() - begin) * 1e3 / ATTACHED


def run_batch(text: str, *options: str) -> None:
    subprocess.run(["ip", *options, "-batch", "-"], input=text, text=True, check=True)


def attach_by_us() -> float:
    """Milliseconds for each container, one after the other, names and firewall included."""
    import trio

    from orchestrator.model.names import ContainerId, NetworkName, ServiceName
    from orchestrator.model.network import Attachment
    from orchestrator.network.adapter import open_networking
    from tests.kernel.network_lab import lab, network, site

    async def main() -> float:
        with lab() as place, tempfile.TemporaryDirectory() as directory:
            async with open_networking(site(Path(directory))) as networking:
                await networking.ensure([network()])
                made = []
                for number in range(ATTACHED):
                    name = ContainerId(f"lab-web-{number}")
                    endpoints = networking.reserve(name, ServiceName("web"), [Attachment(NetworkName("default"))])
                    made.append((name, place.namespace(), endpoints))
                begin = time.perf_counter()
                for name, fd, endpoints in made:
                    await networking.attach(name, fd, endpoints, ())
                return (time.perf_counter() - begin) * 1e3 / ATTACHED

    return trio.run(main)


ATTACHING = {"pystack": attach_by_us, "ip -batch": attach_by_ip}


def measure_attach(rounds: int) -> list[str]:
    """Each in a process of its own, in a network namespace of its own, which ends with it."""
    turns = Turns()

    def step(name: str) -> float:
        own_run = 'mount -t tmpfs tmpfs /run && exec "$@"'  # ip(8) keeps files for namespaces there
        measured = (sys.executable, "-m", "benchmarks.network", "--attach", name)
        inside = ("unshare", "-n", "-m", "sh", "-c", own_run, "sh", *measured)
        return float(output_of(*inside).splitlines()[-1])

    for number in range(rounds):
        turns.round(number, {name: lambda name=name: step(name) for name in ATTACHING})  # type: ignore[misc]
    ours, theirs = ATTACHING
    return [
        f"attach, each of {ATTACHED} containers: {turns.median(ours):.2f} ms, {theirs} {turns.median(theirs):.2f} ms,"
        f" ratio {turns.ratio(ours, theirs):.2f}"
    ]


# -- all ----------------------------------------------------------------------------------------------------------------


def measure(place: Path, rounds: int) -> Iterator[str]:
    # Compiled, as pip installs it, in a place of our own; supervisors that this process starts inherit it.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(place / "compiled")
    rootfs, pystack = make_busybox_rootfs(place / "rootfs"), Pystack(place / "pystack")
    try:
        yield from measure_requests(pystack, rootfs, rounds)
        yield from measure_attach(rounds)
        for backend, program in NAME_SERVERS.items():
            if reason := what_podman_lacks(program):
                yield f"not against podman with {backend}: {reason}"
                continue
            with podman(place / backend, backend, rootfs) as other:
                yield from measure_names(pystack, other, Path(program).name, rootfs, rounds)
                if backend == "netavark":
                    yield from measure_down(pystack, other, rootfs, rounds)
    finally:
        for complaint in pystack.close():
            print(complaint, file=sys.stderr)


def what_podman_lacks(program: str) -> str:
    if shutil.which("podman") is None:
        return "no podman"
    return "" if Path(program).exists() else f"no {program}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--attach", choices=ATTACHING, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.attach:
        print(ATTACHING[options.attach]())
        return 0
    world.enter()
    if is_refused("cc"):
        return 125
    place = Path(tempfile.mkdtemp(prefix="psbench-", dir="/tmp"))
    place.chmod(0o755)  # containers go through it as an unprivileged user
    print(f"medians of {options.rounds} rounds in turns; {os.cpu_count()} processors, Linux {os.uname().release}")
    try:
        for line in measure(place, options.rounds):
            print(line, flush=True)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
