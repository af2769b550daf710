"""``python -m tests.fuzz.measure FOLDER [FILE...]``: load one stack under limits and say what that took.

Prints one JSON object: what came out (``loaded``, ``refused``, or the name of an exception that should not be), the
message, the processor seconds of the load alone, and the peak memory of the process. The limit on address space turns a
memory bomb into a MemoryError instead of trouble for the machine.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from orchestrator.compose.load import ComposeError, LoadRequest, load_canonical

ENVIRONMENT = {"HOME": "/home/dev"}
ADDRESS_SPACE_BYTES = 1200 * 2**20
TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class Measured:
    """`outcome` is loaded, refused, or an exception's name; `seconds` is processor time."""

    outcome: str
    message: str
    seconds: float
    peak_mb: float


def load(folder: str, files: tuple[str, ...], stdin: str | None = None) -> tuple[str, str]:
    """(outcome, message) of loading the stack in `folder`."""
    try:
        load_canonical(LoadRequest(folder, ENVIRONMENT, files, stdin))
    except ComposeError as exc:
        return "refused", str(exc)
    except Exception as exc:
        return type(exc).__name__, str(exc)[:500]
    return "loaded", ""


def measure(folder: Path, *files: str) -> Measured:
    """Load the stack in a process of its own. Raises subprocess.TimeoutExpired."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.measure", str(folder), *files],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=TIMEOUT_S,
        cwd=Path(__file__).parents[2],
    )
    if done.returncode:
        return Measured(f"exit {done.returncode}", done.stderr[-500:], 0.0, 0.0)
    return Measured(**json.loads(done.stdout))


def main() -> int:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    start = time.process_time()
    outcome, message = load(sys.argv[1], tuple(sys.argv[2:]))
    seconds = time.process_time() - start
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"outcome": outcome, "message": message[:2000], "seconds": seconds, "peak_mb": peak_mb}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
