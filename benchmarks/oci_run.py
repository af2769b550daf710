"""``pystack-oci run`` of ``true`` in a bundle, as a whole command, against ``crun run``: in turns, on the same bundle.

Where the kernel has a hybrid cgroup hierarchy, which crun refuses, all of it runs in a mount namespace without its unified
part. Python's own start is beside it, for that is what the ratio cannot go below.

Usage: python -m benchmarks.oci_run [--rounds N] [--directory DIR]
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
from pathlib import Path

from benchmarks.machine import HYBRID, is_refused
from orchestrator.kernel.constants import CLONE_NEWNS
from orchestrator.kernel.process import unshare
from orchestrator.standalone.default_config import default_config
from tests.machine import make_busybox_rootfs

CRUN, OURS, PYTHON = "crun run", "pystack-oci run", "python3 -c pass"
AS_INSTALLED = "from orchestrator.standalone.start import start; start()"
"""What the console script does; ``-m`` imports more."""


def make_bundle(place: Path) -> Path:
    bundle = place / "bundle"
    bundle.mkdir()
    make_busybox_rootfs(bundle / "rootfs")
    config = default_config(rootless=False)
    config["process"] |= {"terminal": False, "args": ["/bin/true"]}
    config["process"].pop("rlimits")
    config["ociVersion"] = "1.0.2"  # Debian's crun knows no later one.
    config["linux"].pop("resources", None)  # crun wants CAP_SYS_RESOURCE for a device filter.
    (bundle / "config.json").write_text(json.dumps(config))
    return bundle


def measure(place: Path, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each command."""
    bundle = make_bundle(place)
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(place / "compiled")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    commands = {
        CRUN: ["crun", "--root", str(place / "crun"), "run", "box"],
        OURS: [sys.executable, "-c", AS_INSTALLED, "--root", str(place / "oci"), "run", "box"],
        PYTHON: [sys.executable, "-c", "pass"],
    }
    found: dict[str, list[float]] = {what: [] for what in commands}
    for turn in range(rounds + 1):
        for what, argv in commands.items():
            begin = time.perf_counter()
            subprocess.run(argv, cwd=bundle, env=environment, check=True)
            if turn:  # The first compiles.
                found[what].append((time.perf_counter() - begin) * 1e3)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--directory", default="/tmp", help="where everything is, /dev/shm for memory")
    options = parser.parse_args()
    if is_refused("crun"):
        return 125
    place = Path(tempfile.mkdtemp(prefix="psbench-", dir=options.directory))
    if HYBRID.exists():
        unshare(CLONE_NEWNS)
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        subprocess.run(["umount", "-R", str(HYBRID)], check=True)
    try:
        found = measure(place, options.rounds)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    theirs = statistics.median(found[CRUN])
    print(f"medians of {options.rounds} rounds in turns; {os.cpu_count()} processors, Linux {os.uname().release}")
    for what, times in found.items():
        ms = statistics.median(times)
        print(f"{what}: {ms:.2f} ms (least {min(times):.2f}), ratio {ms / theirs:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
