"""``make bench``: pystack against the floor, a C program that makes the same system calls (floor.c).

Every figure is a ratio to the floor or to nsenter(1), taken in turns with it in the same run on the same machine; absolute
times of one machine say little. Rounds are interleaved and medians are shown. Everything is in a directory of its own, and
that is deleted at the very end: deleting trees slows down the creation of files for a while afterwards.

Usage: python -m benchmarks.bench [--rounds N] [--counts 1,10,30,100] [--directory DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machine import is_refused
from orchestrator.cli.settings import Settings
from orchestrator.cli.wire import encoded, selected
from orchestrator.client import Client, EventMessage, ensure_supervisor
from orchestrator.contracts.control import Exec, Restart, Up
from orchestrator.contracts.site import Site
from orchestrator.model.names import ServiceName
from tests.machine import make_busybox_rootfs

ROOT = Path(__file__).resolve().parent.parent
FLOOR_IN_FLIGHT = 32
EXECS = 40
RESTARTS = 80
TURNS = 4
LOG_BYTES = 200_000_000


@dataclass(frozen=True, slots=True)
class Floor:
    """Milliseconds of one run of floor.c."""

    up_ms: float
    restart_ms: float


@dataclass(slots=True)
class Sample:
    """Milliseconds of one round with one number of services."""

    floor_ms: list[float] = field(default_factory=list)
    inside_ms: list[float] = field(default_factory=list)
    """In the supervisor: from ``operation.started`` to the last ``container.started``."""
    command_ms: list[float] = field(default_factory=list)
    """The whole of ``pystack up -d``: Python, the compose file, a new supervisor and monitor, the network, everything."""


class Bench:
    def __init__(self, place: Path) -> None:
        self.place = place
        self.rounds = 0
        self.rootfs = make_busybox_rootfs(place / "rootfs")
        self.floor_program = place / "floor"
        subprocess.run(["cc", "-O2", "-o", self.floor_program, ROOT / "benchmarks" / "floor.c"], check=True)
        # Compiled, as pip installs it, in a place of our own; supervisors that this process starts inherit it.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(place / "compiled")
        self.environment = {**os.environ, "PYSTACK_DATA_DIR": str(place / "data"), "PYSTACK_RUN_DIR": str(place / "run")}

    def floor(self, count: int, restarts: int = 0) -> Floor:
        self.rounds += 1
        directory = self.place / f"floor{self.rounds}"
        directory.mkdir()
        argv = [self.floor_program, directory, self.rootfs, count, FLOOR_IN_FLIGHT, restarts]
        done = subprocess.run([str(word) for word in argv], stdout=subprocess.PIPE, check=True)
        result = json.loads(done.stdout)
        settle(count)
        return Floor(result["up_ms"], result["restart_ms"])

    def project(self, count: int) -> Project:
        self.rounds += 1
        directory = self.place / f"stack{self.rounds}"
        directory.mkdir()
        services = "".join(f"  s{number:03}: *service\n" for number in range(count))
        # SIGKILL: sleep as process 1 ignores SIGTERM, and it is not its grace period that is to be measured.
        (directory / "compose.yaml").write_text(
            f"x-service: &service\n  image: rootfs:{self.rootfs}\n  command: [/bin/sleep, '3600']\n"
            f"  stop_signal: SIGKILL\nservices:\n{services}"
        )
        return Project(self, f"bench{self.rounds}", directory)


@dataclass(frozen=True, slots=True)
class Project:
    bench: Bench
    name: str
    directory: Path

    def run(self, *args: str) -> float:
        """A `pystack` command, as a user has it: milliseconds."""
        argv = [sys.executable, "-m", "orchestrator.cli", "-p", self.name, "--progress", "quiet", *args]
        begin = time.perf_counter()
        subprocess.run(argv, cwd=self.directory, env=self.bench.environment, stdout=subprocess.DEVNULL, check=True)
        return (time.perf_counter() - begin) * 1e3

    @property
    def settings(self) -> Settings:
        return Settings(
            files=(str(self.directory / "compose.yaml"),),
            project_name=self.name,
            data_root=self.bench.environment["PYSTACK_DATA_DIR"],
            environment=self.bench.environment,
        )

    @property
    def site(self) -> Site:
        return self.settings.site()

    def up_and_listen(self) -> list[Mapping[str, Any]]:
        """`up` by the control socket; the events of the operation."""
        project = self.settings.load()
        client, _ = ensure_supervisor(self.site)
        events: list[Mapping[str, Any]] = []

        def keep(message: EventMessage) -> None:
            events.append(message.value)

        with client:
            client.request(*encoded(Up(project, named=True)), keep)
        return events

    def request(self, site: Site, request: Exec | Restart, fds: Sequence[int] = ()) -> Any:
        """One request on a connection of its own, as every command makes it."""
        client = Client.connect(site)
        assert client is not None, "the supervisor has gone"
        with client:
            return client.request(*encoded(request), ignore, fds)


def execute(project: Project, site: Site) -> None:
    """`true` in the only container, with three pipes, as `pystack exec` has it."""
    pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
    try:
        (stdin, _), (_, stdout), (_, stderr) = pipes
        project.request(site, Exec(ServiceName("s000"), ("/bin/true",)), (stdin, stdout, stderr))
    finally:
        for pair in pipes:
            for fd in pair:
                os.close(fd)


def ignore(message: EventMessage) -> None:
    for fd in message.fds:
        os.close(fd)


def inside_ms(events: Sequence[Mapping[str, Any]]) -> float:
    begin = min(event["at"] for event in events if event["kind"] == "operation.started")
    end = max(event["at"] for event in events if event["kind"] == "container.started")
    return float(end - begin) * 1e3


def settle(count: int) -> None:
    """Destroying a network namespace goes on in a kernel thread for about 2 ms each."""
    time.sleep(0.3 + 0.004 * count)


def measure_up(bench: Bench, counts: Sequence[int], rounds: int) -> dict[int, Sample]:
    samples = {count: Sample() for count in counts}
    for turn in range(rounds):
        for count, sample in samples.items():
            steps = (up_floor, up_inside, up_command)
            for step in steps[turn % 3 :] + steps[: turn % 3]:
                step(bench, count, sample)
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return samples


def up_floor(bench: Bench, count: int, sample: Sample) -> None:
    sample.floor_ms.append(bench.floor(count).up_ms)


def up_inside(bench: Bench, count: int, sample: Sample) -> None:
    project = bench.project(count)
    try:
        sample.inside_ms.append(inside_ms(project.up_and_listen()))
    finally:
        project.run("down", "-t", "1")
    settle(count)


def up_command(bench: Bench, count: int, sample: Sample) -> None:
    project = bench.project(count)
    try:
        sample.command_ms.append(project.run("up", "-d"))
    finally:
        project.run("down", "-t", "1")
    settle(count)


def timed(action: Callable[[], object], times: int) -> list[float]:
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        action()
        found.append((time.perf_counter() - begin) * 1e3)
    return found


def measure_one(bench: Bench) -> list[tuple[str, float, str, float]]:
    """exec, restart and memory, on one running service: (what, ours, against what, theirs)."""
    project = bench.project(1)
    try:
        project.up_and_listen()
        row = json.loads(
            subprocess.run(
                [sys.executable, "-m", "orchestrator.cli", "-p", project.name, "ps", "--format", "json"],
                cwd=project.directory,
                env=bench.environment,
                stdout=subprocess.PIPE,
                check=True,
            ).stdout
        )
        nsenter = ["nsenter", "-t", str(row["Pid"]), "-m", "-u", "-i", "-n", "-p", "-C", "-U", "/bin/true"]
        ours, theirs, site = [], [], project.site
        for _ in range(EXECS):
            ours += timed(lambda: execute(project, site), 1)
            theirs += timed(lambda: subprocess.run(nsenter, check=True), 1)
        command = timed(lambda: project.run("exec", "-T", "s000", "/bin/true"), 7)
        again = Restart(selected(["s000"], no_deps=True), timeout_s=1)
        restart, floor_restart = [], []
        for _ in range(TURNS):
            restart += timed(lambda: project.request(site, again), RESTARTS // TURNS)
            floor_restart.append(bench.floor(1, RESTARTS // TURNS).restart_ms)
    finally:
        project.run("down", "-t", "1")
    nsenter_ms, exec_ms = statistics.median(theirs), statistics.median(ours)
    floor_ms = statistics.median(floor_restart)
    return [
        ("exec, one request on the control socket", exec_ms, "nsenter", nsenter_ms),
        ("exec, the whole command (starts Python)", statistics.median(command), "nsenter", nsenter_ms),
        ("restart, one request on the control socket", statistics.median(restart), "floor", floor_ms),
    ]


def measure_logs(bench: Bench) -> list[tuple[str, float, str, float]]:
    """`logs` of one service into a file, against cat(1) of its log: lines of 100 bytes, 64 KiB a write."""
    project = bench.project(1)
    write = f"yes {'x' * 99} | head -c {LOG_BYTES} > /lines; dd if=/lines bs=65536 2>/dev/null"
    (project.directory / "compose.yaml").write_text(
        f"services:\n  s000:\n    image: rootfs:{bench.rootfs}\n    command: [sh, -c, '{write}']\n"
    )
    out = project.directory / "out"

    def into_file(argv: Sequence[str]) -> float:
        with out.open("wb") as file:
            begin = time.perf_counter()
            subprocess.run(argv, cwd=project.directory, env=bench.environment, stdout=file, check=True)
            return (time.perf_counter() - begin) * 1e3

    logs = [sys.executable, "-m", "orchestrator.cli", "-p", project.name, "logs"]
    try:
        project.run("up")
        (log,) = Path(project.site.data_dir, "logs").glob("*.log")
        assert log.stat().st_size == LOG_BYTES
        exact, prefixed, cat = [], [], []
        for _ in range(TURNS):
            cat.append(into_file(["cat", str(log)]))
            exact.append(into_file([*logs, "--no-log-prefix", "s000"]))
            prefixed.append(into_file([*logs, "s000"]))
    finally:
        project.run("down", "-t", "1")
    cat_ms = statistics.median(cat)
    return [
        ("logs of 200 MB into a file, as they are", statistics.median(exact), "cat", cat_ms),
        ("logs of 200 MB into a file, with prefixes", statistics.median(prefixed), "cat", cat_ms),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--counts", default="1,10,30,100")
    parser.add_argument("--directory", default="/tmp", help="where everything is, /dev/shm for memory")
    options = parser.parse_args()
    if is_refused("cc"):
        return 125
    place = Path(tempfile.mkdtemp(prefix="psbench-", dir=options.directory))
    place.chmod(0o755)  # the floor's containers go through it as an unprivileged user
    try:
        bench = Bench(place)
        counts = [int(word) for word in options.counts.split(",")]
        samples = measure_up(bench, counts, options.rounds)
        single = [*measure_one(bench), *measure_logs(bench)]
    finally:
        shutil.rmtree(place, ignore_errors=True)
    print(f"medians of {options.rounds} interleaved rounds; {os.cpu_count()} processors, Linux {os.uname().release}")
    print("services      floor   per one     our up   per one  ratio      up -d  ratio")
    for count, sample in samples.items():
        floor, inside, command = map(statistics.median, (sample.floor_ms, sample.inside_ms, sample.command_ms))
        print(
            f"{count:8} {floor:7.1f} ms {floor / count:6.2f} ms {inside:7.1f} ms {inside / count:6.2f} ms"
            f" {inside / floor:6.2f} {command:7.1f} ms {command / floor:6.2f}"
        )
    for what, ours, against, theirs in single:
        print(f"{what}: {ours:.2f} ms, {against} {theirs:.2f} ms, ratio {ours / theirs:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
