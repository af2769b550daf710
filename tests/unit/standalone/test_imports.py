"""What `pystack-oci run` imports: each start of a container pays for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
SLOW = {"typing", "re", "enum", "contextlib", "functools", "collections", "json", "socket", "signal", "subprocess"}
PATH = """
import sys
bare = set(sys.modules)
import orchestrator.standalone.start, orchestrator.standalone.starting, orchestrator.standalone.entering
import orchestrator.runtime.device_rules, orchestrator.runtime.cgroup_limits, orchestrator.standalone.notifying
print(*sorted(set(sys.modules) - bare))
"""


def test_a_container_is_run_without_the_slow_parts_of_the_standard_library() -> None:
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.append({str(ROOT)!r}){PATH}"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found = set(ran.stdout.split())
    assert "orchestrator.standalone.starting" in found
    assert not found & SLOW
