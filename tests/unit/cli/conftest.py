"""A site of the test's own, a control server in it, and the command line run against it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from orchestrator.contracts.site import Site
from orchestrator.model.names import ProjectName
from orchestrator.state.directory import site_of
from tests.unit.cli.supervisor import FakeSupervisor, Script

ROOT = Path(__file__).parents[3]


@dataclass
class Outcome:
    code: int
    out: str
    err: str


@dataclass
class Bench:
    """`run` runs a command in this process with captured output; `spawn` in another one, with pipes."""

    root: Path
    capture: pytest.CaptureFixture[str]
    project: str = "demo"
    servers: list[FakeSupervisor] = field(default_factory=list)

    @property
    def site(self) -> Site:
        return site_of(str(self.root / "data"), str(self.root / "run"), ProjectName(self.project))

    @property
    def directory(self) -> Path:
        return self.root / "work"

    def serve(self, **scripts: Script) -> FakeSupervisor:
        (self.root / "data" / "projects" / self.project / "logs").mkdir(parents=True, exist_ok=True)  # As `prepare` does.
        server = FakeSupervisor(self.site.run_dir, scripts)
        self.servers.append(server)
        return server

    def arguments(self, *words: str) -> list[str]:
        return ["--data-dir", str(self.root / "data"), "-p", self.project, *words]

    def run(self, *words: str) -> Outcome:
        from orchestrator.cli.main import main

        self.capture.readouterr()
        code = main(self.arguments(*words))
        out, err = self.capture.readouterr()
        return Outcome(code, out, err)

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "orchestrator.cli", *self.arguments(*words)]

    def spawn(self, *words: str, **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command(*words),
            cwd=self.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )

    def compose(self, text: str) -> None:
        (self.directory / "compose.yaml").write_text(text)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="psc-", dir="/tmp") as directory:
        root = Path(directory)
        (root / "work").mkdir()
        for name in ("NO_COLOR", "PYSTACK_DEBUG", "PYSTACK_DATA_DIR", "COMPOSE_PROJECT_NAME", "COMPOSE_FILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PYSTACK_RUN_DIR", str(root / "run"))
        monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
        monkeypatch.setenv("TZ", "UTC")
        monkeypatch.chdir(root / "work")
        own = Bench(root, capsys)
        yield own
        for server in own.servers:
            server.close()
    assert not os.path.exists(root)
