"""The pictures of docs/pictures can be taken."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.machine import ROOT
from tests.scenarios.talk import free_port

pytestmark = [pytest.mark.kernel, pytest.mark.soak]


def test_each_picture_shows_what_it_is_to_show(tmp_path: Path) -> None:
    program = tmp_path / "pystack"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -P -m orchestrator.cli "$@"\n')
    program.chmod(0o755)
    folder = tmp_path / "pictures"
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "HELLO_PORT": str(free_port())}
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "take-pictures", folder], env=environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    texts = {
        file.stem: "".join(ElementTree.parse(file).getroot().itertext()).replace("\xa0", " ") for file in folder.iterdir()
    }
    assert texts.keys() == {"up", "timeline", "why", "mistake"}
    assert "fatal: the greeting has gone missing" in texts["up"]
    assert "critical path" in texts["timeline"]
    assert "restarted 1 time" in texts["why"]
    assert 'did you mean "user"?' in texts["mistake"]
    assert not any("warning" in text for text in texts.values())
