"""Images: unpacking, pulling, loading, starting from many layers, building, and memory, beside what others use for it.

Peers are Debian's ``cp -a`` and GNU tar (unpacking alone), podman and skopeo (whole images), buildah (builds), on the same
input, in the same run, on the same file system, each with a store of its own: podman's and buildah's is their ``overlay``
driver, which they choose for root here. The registry is Debian's docker-registry on 127.0.0.1. Every round takes all sides
of a row in turns, each into a new directory, after sync(2): nobody waits for what another left to be written, and deleting
trees, which slows down the making of files for a while, waits until the very end. Shown are medians and, in brackets, the
ratio of the least, which says more when the machine has other work. So does the time of the processors: we use several
threads, and what is written is on the disk when we end, so a machine whose processors and disk are busy is unkind to us.

Where the kernel has a hybrid cgroup hierarchy, which crun refuses, podman and buildah run in a mount namespace without the
unified part; where CAP_SYS_RESOURCE is missing, they are told limits that they can set.

Usage: python -m benchmarks.images [--rounds N] [--megabytes N] [--memory-megabytes N] [--only ROW,...] [--keep]
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.image_inputs import Inputs, make_inputs, start_context, write_big_image
from benchmarks.machine import HYBRID, is_refused
from tests.kernel.registry_lab import docker_registry

BIN = Path(sys.executable).parent
PROGRAMS = ("podman", "buildah", "skopeo", "docker-registry", "tar", "zstd", "gzip", "busybox")
UNPACK = """
import sys, time
from orchestrator.images.unpack.layers import apply_layer
began_s, began_cpu_s = time.perf_counter(), time.process_time()
with open(sys.argv[1], "rb", buffering=0) as blob:
    apply_layer(blob, sys.argv[2])
print(time.perf_counter() - began_s, time.process_time() - began_cpu_s)
"""
PRIVATE = ("unshare", "--mount", "sh", "-c", f'umount -R {HYBRID} && exec "$@"', "sh")
ROUND_MEASURES, BIG_MEASURES = 40, 12
"""How many times the layer's, and the big image's, size is written."""
BUILDS = ("cold", "one changed file", "fully cached")


@dataclass(slots=True)
class Row:
    """`spent`: by side, one each round. `megabytes`: what a run moves, for rows that are shown as MB/s, and with the time
    of the processors; 0: neither."""

    name: str
    megabytes: float = 0
    spent: dict[str, list[Spent]] = field(default_factory=dict)

    def add(self, side: str, spent: Spent) -> None:
        self.spent.setdefault(side, []).append(spent)

    def lines(self) -> list[str]:
        sides = {side: [one.wall_s for one in spent] for side, spent in self.spent.items()}
        cpu = {side: statistics.median(one.cpu_s for one in spent) for side, spent in self.spent.items()}
        ours = sides["pystack"]
        lines = []
        for side, spent in sorted(sides.items(), key=lambda pair: pair[0] != "pystack"):
            median_s = statistics.median(spent)
            shown = f"{self.megabytes / median_s:8.0f} MB/s" if self.megabytes else f"{median_s * 1e3:8.0f} ms  "
            text = f"{self.name:<36}{side:<12}{shown}"
            if spent is not ours:
                text += f"  pystack takes {statistics.median(ours) / median_s:5.2f} ({min(ours) / min(spent):.2f}) of it"
                text += f", {cpu['pystack'] / cpu[side]:.2f} of its processor time" if self.megabytes else ""
            lines.append(text)
        return lines


class Bench:
    """`place`: everything is below it. A new name is a new directory."""

    def __init__(self, place: Path, megabytes: int) -> None:
        self.place = place
        self.count = 0
        self.rows: dict[str, Row] = {}
        # Compiled, as pip installs it, in a place of our own; supervisors that this process starts inherit it.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(place / "compiled")
        self.private = PRIVATE if HYBRID.is_dir() else ()
        finite = resource.getrlimit(resource.RLIMIT_NPROC)[1] != resource.RLIM_INFINITY
        self.limits = ("--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000") if finite else ()
        self.inputs: Inputs = make_inputs(place / "inputs", megabytes)

    def new(self, name: str) -> Path:
        self.count += 1
        directory = self.place / f"{self.count:03}-{name}"
        directory.mkdir()
        return directory

    def row(self, name: str, megabytes: float = 0) -> Row:
        return self.rows.setdefault(name, Row(name, megabytes))

    def pystack(self, data: Path, *words: str, cwd: Path | None = None) -> Spent:
        return timed((str(BIN / "pystack"), *words), cwd or self.place, pystack_places(data))

    def peer(self, program: str, store: Path, *words: str, private: bool = False) -> Spent:
        """podman or buildah, with its store below `store`."""
        places = (program, "--root", f"{store}/root", "--runroot", f"{store}/run")
        return timed((*(self.private if private else ()), *places, *words), self.place)


def pystack_places(data: Path) -> Mapping[str, str]:
    return {"PYSTACK_DATA_DIR": str(data / "data"), "PYSTACK_RUN_DIR": str(data / "run")}


@dataclass(frozen=True, slots=True)
class Spent:
    """`cpu_s`: of the process and those that it waited for, user and system; what daemons do for it is not in it."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def timed(argv: Sequence[str], directory: Path, environment: Mapping[str, str] | None = None) -> Spent:
    """What the command takes, after all that waited to be written was. Raises CalledProcessError; its output is shown."""
    os.sync()
    with tempfile.TemporaryFile() as out:
        began_s = time.perf_counter()
        process = subprocess.Popen(
            argv, cwd=directory, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - began_s
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            out.seek(0)
            sys.stderr.write(out.read().decode(errors="replace"))
            raise subprocess.CalledProcessError(process.returncode, argv)
    return Spent(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def in_turns(turn: int, *sides: Callable[[], None]) -> None:
    """Another one begins each time."""
    for side in sides[turn % len(sides) :] + sides[: turn % len(sides)]:
        side()


# Rows.


def unpack_alone(bench: Bench, turn: int) -> None:
    """The unpacker in a process that has imported it, digest and all; cp and tar as processes, without a digest."""
    inputs = bench.inputs
    for kind, blob, option in (("raw", inputs.raw, ()), ("gzip", inputs.gzip, ("-z",)), ("zstd", inputs.zstd, ("--zstd",))):
        row = bench.row(f"unpack {kind}", inputs.megabytes)

        def ours(row: Row = row, blob: Path = blob) -> None:
            os.sync()
            argv = [sys.executable, "-c", UNPACK, str(blob), str(bench.new("ours"))]
            wall, cpu = subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout.split()
            row.add("pystack", Spent(float(wall), float(cpu), 0))

        def tar(row: Row = row, blob: Path = blob, option: tuple[str, ...] = option) -> None:
            argv = ("tar", "-x", "-p", "--numeric-owner", *option, "-f", str(blob), "-C", str(bench.new("tar")))
            row.add("GNU tar", timed(argv, bench.place))

        def copy(row: Row = row) -> None:
            row.add("cp -a", timed(("cp", "-a", f"{inputs.tree}/.", str(bench.new("cp"))), bench.place))

        in_turns(turn, ours, tar, *((copy,) if kind == "raw" else ()))


def load(bench: Bench, turn: int) -> None:
    """An OCI archive into an empty store."""
    for kind, archive in bench.inputs.archives.items():
        row = bench.row(f"load an archive, {kind}", bench.inputs.megabytes)
        in_turns(
            turn,
            lambda row=row, archive=archive: row.add(  # type: ignore[misc]
                "pystack", bench.pystack(bench.new("ours"), "image", "load", "-i", str(archive))
            ),
            lambda row=row, archive=archive: row.add(  # type: ignore[misc]
                "podman", bench.peer("podman", bench.new("podman"), "load", "-q", "-i", str(archive))
            ),
        )


def pull(bench: Bench, turn: int, registry: str) -> None:
    for kind in bench.inputs.archives:
        row = bench.row(f"pull from loopback, {kind}", bench.inputs.megabytes)
        name = f"{registry}/bench/{kind}:1"
        sides: list[Callable[[], None]] = [
            lambda row=row, name=name: row.add(  # type: ignore[misc]
                "pystack", bench.pystack(bench.new("ours"), "image", "pull", name)
            ),
            lambda row=row, name=name: row.add(  # type: ignore[misc]
                "podman", bench.peer("podman", bench.new("podman"), "pull", "-q", "--tls-verify=false", name)
            ),
        ]
        in_turns(turn, *sides)


class Starts:
    """Containers from images with many layers. Our project is up with another service, as podman needs no daemon: what is
    measured is one more container, from the command to its program's end."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.store, self.data, self.context = bench.new("podman"), bench.new("ours"), bench.new("stack")
        for count, layout in bench.inputs.layered.items():
            bench.peer("podman", self.store, "pull", "-q", f"oci:{layout}")
            bench.peer("podman", self.store, "tag", self._newest(), f"localhost/layers{count}:1")
            bench.pystack(self.data, "image", "pull", f"oci:{layout}")
        services = "".join(
            f"  layers{count}:\n    image: 'oci:{layout}'\n    command: [sleep, '3600']\n    stop_signal: SIGKILL\n"
            for count, layout in bench.inputs.layered.items()
        )
        (self.context / "compose.yaml").write_text(f"services:\n{services}")
        self._command("up", "-d")

    def _newest(self) -> str:
        argv = ("podman", "--root", f"{self.store}/root", "--runroot", f"{self.store}/run", "images", "-q")
        return subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout.split()[0]

    def _command(self, *words: str) -> Spent:
        return self.bench.pystack(self.data, "-p", "benchstarts", *words, cwd=self.context)

    def round(self, turn: int) -> None:
        for count in self.bench.inputs.layered:
            row = self.bench.row(f"run, {count} layers")
            argv = ("run", "--rm", "--network", "none", *self.bench.limits, f"localhost/layers{count}:1", "true")
            in_turns(
                turn,
                lambda row=row, count=count: row.add(  # type: ignore[misc]
                    "pystack", self._command("run", "--rm", "-T", f"layers{count}", "true")
                ),
                lambda row=row, argv=argv: row.add(  # type: ignore[misc]
                    "podman", self.bench.peer("podman", self.store, *argv, private=True)
                ),
            )

    def close(self) -> None:
        self._command("down", "-t", "0")


def build(bench: Bench, turn: int) -> None:
    """Ten stages, of which the last takes from all. buildah as it is when it keeps layers; RUN in a container each."""
    ours, theirs = bench.new("ours"), bench.new("buildah")
    context = start_context(bench.new("context"))
    bench.pystack(ours, "image", "pull", "-q", f"oci:{bench.inputs.base}")
    bench.pystack(ours, "image", "tag", _id_of_base(bench, ours), "localhost/base:1")
    bench.peer("buildah", theirs, "pull", "-q", f"oci:{bench.inputs.base}")
    image = subprocess.run(
        ("buildah", "--root", f"{theirs}/root", "--runroot", f"{theirs}/run", "images", "-q"),
        stdout=subprocess.PIPE, text=True, check=True,
    ).stdout.split()[0]  # fmt: skip
    bench.peer("buildah", theirs, "tag", image, "localhost/base:1")
    argv = ("bud", "--layers", "--network", "none", *bench.limits, "-t", "localhost/built:1", str(context))
    for number, what in enumerate(BUILDS):
        if what == "one changed file":
            (context / "file5").write_text(f"changed in turn {turn}\n")
        if what == "fully cached":
            settle(context)
            bench.pystack(ours, "build", cwd=context)
        row = bench.row(f"build of ten stages, {what}")

        def pystack(row: Row = row) -> None:
            row.add("pystack", bench.pystack(ours, "build", cwd=context))

        def buildah(row: Row = row) -> None:
            row.add("buildah", bench.peer("buildah", theirs, *argv, private=True))

        def status(row: Row = row) -> None:
            row.add("pystack ps", bench.pystack(ours, "ps", cwd=context))

        in_turns(turn + number, pystack, buildah)
        for again in range(5 if what == "fully cached" else 0):
            in_turns(turn + again, pystack, status)


def settle(context: Path) -> None:
    """Files that were changed a moment ago are read again: their times do not tell yet that nothing changed since."""
    newest = max(path.stat().st_ctime for path in context.iterdir())
    time.sleep(max(0.0, newest + 2.1 - time.time()))


def _id_of_base(bench: Bench, data: Path) -> str:
    argv = (str(BIN / "pystack"), "image", "ls", "-q", "--no-trunc")
    environment = {**os.environ, **pystack_places(data)}
    return subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout.split()[0]


def memory(bench: Bench, registry: str, megabytes: int) -> list[str]:
    """Peak resident memory while an image of `megabytes` comes: of `pull`, and of the supervisor that `up` starts."""
    name = f"{registry}/bench/big:1"
    write_big_image(bench.new("big"), megabytes, name)
    pulled = bench.new("ours")
    pull = bench.pystack(pulled, "image", "pull", name)
    stack, data = bench.new("stack"), bench.new("ours")
    (stack / "compose.yaml").write_text(
        f"services:\n  big:\n    image: {name}\n    command: [sleep, '3600']\n    stop_signal: SIGKILL\n"
    )
    words = (str(BIN / "pystack"), "-p", "benchbig")
    up = timed((*words, "up", "-d"), stack, pystack_places(data))
    supervisor_mb = supervisor_peak_mb(data)
    timed((*words, "down", "-t", "0"), stack, pystack_places(data))
    theirs = bench.peer("podman", bench.new("podman"), "pull", "-q", "--tls-verify=false", name)
    return [
        f"peak memory, an image of {megabytes} MB: pystack image pull {pull.peak_mb:.0f} MB; up: command"
        f" {up.peak_mb:.0f} MB, supervisor {supervisor_mb:.0f} MB; podman pull {theirs.peak_mb:.0f} MB"
    ]


def supervisor_peak_mb(data: Path) -> float:
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            line, status = (directory / "cmdline").read_bytes(), (directory / "status").read_text()
        except OSError:
            continue
        if b"orchestrator/supervisor" in line and os.fsencode(data / "data") in line:
            return next(int(text.split()[1]) / 1024 for text in status.splitlines() if text.startswith("VmHWM"))
    raise AssertionError("the supervisor has gone")


def push(bench: Bench, registry: str) -> None:
    for kind, archive in bench.inputs.archives.items():
        words = ("copy", "-q", "--preserve-digests", "--dest-tls-verify=false", f"oci-archive:{archive}")
        timed(("skopeo", "--insecure-policy", *words, f"docker://{registry}/bench/{kind}:1"), bench.place)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.images")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=100, help="of the layer that is unpacked, loaded and pulled")
    parser.add_argument("--memory-megabytes", type=int, default=1024, help="of the image whose pull is watched")
    parser.add_argument("--only", default="unpack,load,pull,start,build,memory", metavar="ROW,...")
    parser.add_argument("--keep", action="store_true", help="delete nothing at the end")
    options = parser.parse_args()
    only = set(options.only.split(","))
    if is_refused(*PROGRAMS):
        return 125
    needed = ROUND_MEASURES * options.rounds * options.megabytes + BIG_MEASURES * options.memory_megabytes
    if (free := shutil.disk_usage("/tmp").free >> 20) < needed:
        print(f"error: /tmp has {free} MB free, and {needed} MB are needed", file=sys.stderr)
        print("hint: nothing is deleted between rounds; ask for fewer --rounds or --megabytes", file=sys.stderr)
        return 125
    place = Path(tempfile.mkdtemp(prefix="psi-", dir="/tmp"))
    try:
        bench = Bench(place, options.megabytes)
        told = rounds(bench, only, options.rounds, options.memory_megabytes)
    finally:
        if options.keep:
            print(f"kept: {place}", file=sys.stderr)
        else:
            shutil.rmtree(place, ignore_errors=True)
    print(f"medians of {options.rounds} interleaved rounds; a layer of {bench.inputs.megabytes:.0f} MB, ", end="")
    print(f"{bench.inputs.entries} entries; {os.cpu_count()} processors, Linux {os.uname().release}")
    print("\n".join(line for row in bench.rows.values() for line in row.lines()))
    print("\n".join(told))
    return 0


def rounds(bench: Bench, only: set[str], number: int, memory_megabytes: int) -> list[str]:
    (registry_place := bench.place / "registry").mkdir()
    with docker_registry(registry_place) as registry:
        if "pull" in only:
            push(bench, registry)
        starts = Starts(bench) if "start" in only else None
        try:
            for turn in range(number):
                if "unpack" in only:
                    unpack_alone(bench, turn)
                if "load" in only:
                    load(bench, turn)
                if "pull" in only:
                    pull(bench, turn, registry)
                if starts is not None:
                    for again in range(3):
                        starts.round(turn + again)
                if "build" in only:
                    build(bench, turn)
                print(".", end="", file=sys.stderr, flush=True)
            print(file=sys.stderr)
        finally:
            if starts is not None:
                starts.close()
        return memory(bench, registry, memory_megabytes) if "memory" in only else []


if __name__ == "__main__":
    sys.exit(main())
