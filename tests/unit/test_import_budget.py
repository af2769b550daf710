"""What a command imports before it does anything: the user waits for it each time.

Modules are counted and not timed, so that a busy machine does not fail the test. The verbs really run, as far as they get
without a supervisor: what they import on the way counts too.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.model.names import ProjectName, normal_project_name
from orchestrator.state.directory import site_of
from tests.unit.cli.logwriter import recorded
from tests.unit.cli.supervisor import FakeSupervisor, ok

ROOT = Path(__file__).parents[2]
HEAVY = ("trio", "networkx", "pyroute2", "httpx", "h11")

PROBE = """
import sys
bare = set(sys.modules)
from orchestrator.cli.main import main
code = main(sys.argv[1:])
sys.stdout.flush()
print("\\n" + " ".join(sorted(set(sys.modules) - bare)), file=sys.stderr)
"""


def imported(tmp_path: Path, *words: str) -> set[str]:
    """The modules that ``pystack WORDS`` has imported when it ends."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYSTACK_RUN_DIR": str(tmp_path / "run")}
    for name in ("COMPOSE_PROJECT_NAME", "COMPOSE_FILE", "PYTHONDEVMODE"):
        environment.pop(name, None)
    command = [sys.executable, "-c", PROBE, "--data-dir", str(tmp_path / "data"), *words]
    ran = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    return set(ran.stderr.splitlines()[-1].split())


def packages(modules: set[str]) -> set[str]:
    return {name.split(".")[0] for name in modules}


BASE = {
    "orchestrator", "cli", "cli.main", "cli.parser", "cli.settings", "cli.terminal", "cli.commands", "errors", "values",
    "cli.table", "cli.table.acting", "cli.table.files", "cli.table.imaging", "cli.table.looking", "cli.table.shapes",
}  # fmt: skip
"""Of our own modules, what every verb has."""
NAME = {
    "compose", "compose.folder", "model", "model.keys", "state", "state.directory", "contracts", "contracts.site",
    "kernel", "kernel.identity", "kernel.plain",
}  # fmt: skip
"""To find the project, and its directories."""
ASK = {
    "cli.connection", "client", "client.connection", "client.messages", "client.starting", "kernel", "kernel.jsontext",
    "kernel.identity", "contracts.protocol",
}  # fmt: skip
"""To ask its supervisor."""
PRINT = {"cli.render", "cli.render.escape"}
FAIL = {"cli.failures", "cli.exitcodes", "cli.render", "cli.render.escape"}
"""To say what went wrong."""
LIBRARY = {
    "__future__", "_operator", "_json", "_sha256", "_sha2", "_socket", "select", "_struct", "_heapq", "heapq",
    "_collections", "itertools", "time", "_signal", "errno", "fcntl",
}  # fmt: skip
"""Of the standard library: C modules, and heapq. Not re, enum, typing, json, socket, hashlib, contextlib, functools..."""
HOT = {
    ("version",): BASE | {"cli.commands.version", "contracts", "contracts.protocol"},
    ("ps",): BASE | NAME | ASK | PRINT | {"cli.commands.ps", "cli.render.statuses", "cli.render.table", "cli.selection"}
    | {"units", "cli.identity", "cli.render.published"},
    ("logs", "-n", "1"): BASE | NAME | PRINT | {"cli.commands.logs", "cli.logfiles", "cli.render.loglines", "cli.selection"}
    | {"runtime", "runtime.logs", "runtime.loglines", "runtime.logpairs", "runtime.monitor", "runtime.monitor.logformat"}
    | {"cli.identity", "state.services", "kernel", "kernel.identity", "kernel.jsontext", "kernel.rangelocks"},
    ("exec", "-T", "db", "true"): BASE | NAME | ASK | {"cli.commands.exec", "cli.identity", "cli.piping"},
}  # fmt: skip


def short(name: str) -> str:
    return name.removeprefix("orchestrator.")


def test_help_imports_no_verb_and_nothing_heavy(tmp_path: Path) -> None:
    modules = imported(tmp_path, "--help")
    ours = {short(name) for name in modules if name.split(".")[0] == "orchestrator"}
    assert ours == (BASE | FAIL | {"cli.clicked"}) - {"cli.commands"}
    assert packages(modules).isdisjoint({*HEAVY, "rich", "yaml", "subprocess", "asyncio", "difflib"})


@pytest.mark.parametrize("words", list(HOT), ids=lambda words: words[0])
def test_what_a_hot_verb_imports(tmp_path: Path, words: tuple[str, ...]) -> None:
    """With a project that runs, as the verb is used: its supervisor is a scripted one, its log a real one."""
    (tmp_path / "compose.yaml").write_text("services: {db: {image: host}}\n")
    with running(tmp_path):
        modules = imported(tmp_path, *words)
    ours = {short(name) for name in modules if name.split(".")[0] == "orchestrator"}
    assert ours <= HOT[words]
    assert modules - {name for name in modules if name.split(".")[0] == "orchestrator"} <= LIBRARY


@contextlib.contextmanager
def running(directory: Path) -> Iterator[None]:
    """A project named after `directory`, with a status and a log."""
    site = site_of(str(directory / "data"), str(directory / "run"), ProjectName(normal_project_name(directory.name)))
    logs = Path(site.data_dir, "logs")
    logs.mkdir(parents=True)
    (logs / f"{site.project}-db-1.log").write_text("hello\n")
    recorded(site, **{f"{site.project}-db-1": "db"})
    status = {"service": "db", "container": "db-1", "image": "host", "phase": "running", "health": "none"}
    server = FakeSupervisor(site.run_dir, {"ps": ok([status | {"started_at": 1.0}]), "exec": ok({"status": 0})})
    try:
        yield
    finally:
        server.close()


@pytest.mark.parametrize("verb", ["why", "stop", "start", "restart", "kill", "down", "events"])
def test_verbs_that_talk_to_the_supervisor_import_nothing_heavy(tmp_path: Path, verb: str) -> None:
    words = {"why": ["why", "db"]}.get(verb, [verb])
    modules = imported(tmp_path, "-p", "demo", *words)
    assert packages(modules).isdisjoint({*HEAVY, "click", "rich", "yaml", "asyncio", "pathlib", "hashlib", "subprocess"})
    rooms = ("orchestrator.scheduler", "orchestrator.network", "orchestrator.plan", "orchestrator.supervisor")
    assert not any(name.startswith(rooms) for name in modules)


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
def test_the_compose_files_are_parsed_only_for_a_name(tmp_path: Path, text: str, parses: bool) -> None:
    (tmp_path / "compose.yaml").write_text(text)
    assert ("orchestrator.compose.text.tree" in imported(tmp_path, "ps")) is parses


def test_up_imports_nothing_that_only_the_supervisor_needs(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {db: {image: host, depends_on: [nobody]}}\n")
    modules = imported(tmp_path, "up", "-d")
    assert packages(modules).isdisjoint({*HEAVY, "click", "rich", "pathlib", "hashlib", "subprocess", "socket"})
