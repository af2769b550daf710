"""What a command imports before it does anything: the user waits for it each time.

Modules are counted and not timed, so that a busy machine does not fail the test. The verbs really run, as far as they get
without a supervisor: what they import on the way counts too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("trio", "networkx", "pyroute2", "httpx", "dnslib", "h11")

PROBE = """
import json, sys
bare = set(sys.modules)
from orchestrator.cli.main import main
code = main(sys.argv[1:])
sys.stdout.flush()
print(json.dumps(sorted(set(sys.modules) - bare)), file=sys.stderr)
"""


def imported(tmp_path: Path, *words: str) -> set[str]:
    """The modules that ``pystack WORDS`` has imported when it ends."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYSTACK_RUN_DIR": str(tmp_path / "run")}
    for name in ("COMPOSE_PROJECT_NAME", "COMPOSE_FILE", "PYTHONDEVMODE"):
        environment.pop(name, None)
    command = [sys.executable, "-c", PROBE, "--data-dir", str(tmp_path / "data"), *words]
    ran = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(ran.stderr.splitlines()[-1]))


def packages(modules: set[str]) -> set[str]:
    return {name.split(".")[0] for name in modules}


def test_help_imports_no_verb_and_nothing_heavy(tmp_path: Path) -> None:
    modules = imported(tmp_path, "--help")
    ours = {name for name in modules if name.startswith("orchestrator.")}
    assert ours == {
        "orchestrator.cli",
        "orchestrator.cli.exitcodes",
        "orchestrator.cli.failures",
        "orchestrator.cli.main",
        "orchestrator.cli.render",
        "orchestrator.cli.render.escape",
        "orchestrator.values",
        "orchestrator.cli.settings",
        "orchestrator.cli.terminal",
        "orchestrator.errors",
    }
    assert packages(modules).isdisjoint({*HEAVY, "rich", "yaml", "subprocess", "asyncio", "difflib"})


@pytest.mark.parametrize("verb", ["ps", "logs", "exec", "why", "stop", "start", "restart", "kill", "down", "events"])
def test_verbs_that_talk_to_the_supervisor_import_nothing_heavy(tmp_path: Path, verb: str) -> None:
    words = {"exec": ["exec", "-T", "db", "true"], "why": ["why", "db"]}.get(verb, [verb])
    modules = imported(tmp_path, "-p", "demo", *words)
    assert packages(modules).isdisjoint({*HEAVY, "rich", "yaml", "asyncio"})
    rooms = ("orchestrator.scheduler", "orchestrator.network", "orchestrator.plan", "orchestrator.supervisor")
    assert not any(name.startswith(rooms) for name in modules)


@pytest.mark.parametrize(
    ("words", "limit"),
    [(["ps"], 215), (["logs"], 190), (["exec", "-T", "db", "true"], 200)],
    ids=["ps", "logs", "exec"],
)
def test_the_number_of_modules_is_bounded(tmp_path: Path, words: list[str], limit: int) -> None:
    assert len(imported(tmp_path, "-p", "demo", *words)) <= limit


@pytest.mark.parametrize(
    ("text", "parses"),
    [
        ("# a comment\nservices:\n  db:\n    image: host\n", False),
        ("---\nservices: {}\nx-name: y\n", False),
        ("name: other\nservices: {}\n", True),
        ("{services: {}}\n", True),
        ('"n\\u0061me": other\nservices: {}\n', True),
    ],
)
def test_the_compose_files_are_loaded_only_for_a_name(tmp_path: Path, text: str, parses: bool) -> None:
    (tmp_path / "compose.yaml").write_text(text)
    assert ("orchestrator.compose.load" in imported(tmp_path, "ps")) is parses


def test_up_imports_nothing_that_only_the_supervisor_needs(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {db: {image: host, depends_on: [nobody]}}\n")
    modules = imported(tmp_path, "up", "-d")
    assert packages(modules).isdisjoint({*HEAVY, "rich"})
