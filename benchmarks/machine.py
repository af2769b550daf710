"""What the benchmarks ask of the machine."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.machine import what_the_kernel_tests_lack

HYBRID = Path("/sys/fs/cgroup/unified")
"""The unified part of a hybrid cgroup hierarchy, which crun refuses."""


def is_refused(*programs: str) -> bool:
    """Whether a benchmark that needs root, this kernel's features and `programs` can't run here; that is told then."""
    lacking = what_the_kernel_tests_lack() or ", ".join(name for name in programs if shutil.which(name) is None)
    if lacking:
        print(f"error: the benchmark can't run here, it lacks: {lacking}", file=sys.stderr)
        print("hint: run it as root; .ci/servers installs what it needs", file=sys.stderr)
    return bool(lacking)
