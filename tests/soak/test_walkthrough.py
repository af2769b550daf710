"""docs/walkthrough.md can be recorded: a newcomer's first ten minutes have no dead end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.machine import ROOT

pytestmark = [pytest.mark.kernel, pytest.mark.soak]


@pytest.mark.parametrize("columns", ["76", "60"])
def test_every_command_ends_as_the_page_says(columns: str, tmp_path: Path) -> None:
    program = tmp_path / "pystack"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -P -m orchestrator.cli "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(
        [ROOT / "scripts" / "record-walkthrough", "--check"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "COLUMNS": columns},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
