"""How long a dependent waits after its condition holds: a chain of services, each of which is ready when it listens.

Each service says in its log when it has begun to listen (right after listen(2)); the journal of the monitor says when the
next one's process was there. Between the two: the listener is seen, the condition is met, the process is made. The services
are Python on ``image: host``, which take a while until they listen, as real ones do.

The machine has to be quiet: in a p99 one sees what else it does.

Usage: python -m benchmarks.dependents [--length 20] [--rounds 20]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.machine import what_the_kernel_tests_lack

PROGRAM = (
    "import socket, time; s = socket.socket(); s.bind(('', 80)); s.listen(); print(repr(time.time()), flush=True); "
    "time.sleep(100000)"
)
BIN = Path(sys.executable).parent


def stack(length: int) -> dict[str, object]:
    services: dict[str, object] = {}
    for number in range(length):
        services[f"s{number}"] = {
            "image": "host",
            "command": ["python3", "-S", "-c", PROGRAM],
            "expose": [80],
            "stop_grace_period": "0s",
            "x-pystack": {"ready": "listening"},
            **({"depends_on": {f"s{number - 1}": {"condition": "service_healthy"}}} if number else {}),
        }
    return {"services": services}


def latencies_ms(place: Path, length: int) -> list[float]:
    """Of one `up`."""
    work = place / "chain"
    work.mkdir(exist_ok=True)
    (work / "compose.json").write_text(json.dumps(stack(length)))
    environment = {**os.environ, "PYSTACK_DATA_DIR": str(place / "data"), "PYSTACK_RUN_DIR": str(place / "run")}
    program = [sys.executable, "-m", "orchestrator.cli", "-f", str(work / "compose.json")]
    subprocess.run([*program, "up", "-d", "--wait"], env=environment, check=True, capture_output=True, timeout=300)
    begun: dict[str, float] = {}
    for line in (place / "data/projects/chain/exits.journal").read_text().splitlines():
        entry = json.loads(line)
        if entry["e"] == "start":
            begun[entry["c"]] = entry["at"]
    listening = [
        float((place / f"data/projects/chain/logs/chain-s{number}-1.log").read_text()) for number in range(length)
    ]
    subprocess.run([*program, "down"], env=environment, check=True, capture_output=True, timeout=300)
    return [1000 * (begun[f"chain-s{number}-1"] - listening[number - 1]) for number in range(1, length)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    if lacking := what_the_kernel_tests_lack():
        sys.exit(f"cannot measure here: {lacking}")
    found: list[float] = []
    with tempfile.TemporaryDirectory(prefix="bench-dependents-") as compiled:
        # Compiled, as pip installs it: the first look would wait until its module is, in each supervisor anew.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = compiled
        with tempfile.TemporaryDirectory(prefix="bench-dependents-") as place:
            latencies_ms(Path(place), 2)
        for _ in range(options.rounds):
            with tempfile.TemporaryDirectory(prefix="bench-dependents-") as place:
                found += latencies_ms(Path(place), options.length)
    found.sort()
    share = {name: found[min(len(found) - 1, int(len(found) * part))] for name, part in
             (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("most", 1.0))}  # fmt: skip
    print(f"{len(found)} dependents, from listen(2) of the one to the process of the next:")
    print("  ".join(f"{name} {value:.1f} ms" for name, value in share.items()))


if __name__ == "__main__":
    main()
