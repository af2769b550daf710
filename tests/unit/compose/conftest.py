from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.compose.stacks import Stack


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    folder = tmp_path / "shop"
    folder.mkdir()
    return Stack(folder)
