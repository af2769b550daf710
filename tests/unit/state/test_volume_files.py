"""What is left of making a volume when that is cut short."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from orchestrator.errors import HostError
from orchestrator.state import volume_files
from orchestrator.state.volume_files import About, VolumeFiles


def test_what_a_killed_one_has_half_made_goes_with_the_next_volume(tmp_path: Path) -> None:
    files = VolumeFiles(str(tmp_path))
    half = tmp_path / "volumes" / ".new-shop_data"
    half.mkdir(parents=True)
    (half / "volume.json").write_text("{")
    files.ensure("other", About())
    assert os.listdir(tmp_path / "volumes") == ["other"]


def test_what_a_killed_one_has_half_made_goes_with_the_next_supervisor(tmp_path: Path) -> None:
    files = VolumeFiles(str(tmp_path))
    files.tidy()
    assert os.listdir(tmp_path) == []
    files.ensure("other", About())
    half = tmp_path / "volumes" / ".new-shop_data"
    half.mkdir()
    (half / "volume.json").write_text("{")
    files.tidy()
    assert os.listdir(tmp_path / "volumes") == ["other"]


def test_a_volume_that_cannot_be_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = VolumeFiles(str(tmp_path))

    def full(path: str, data: bytes) -> None:
        Path(path).write_bytes(data)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(volume_files, "replace_file", full)
    with pytest.raises(HostError, match="cannot make volume 'data': No space left on device"):
        files.ensure("data", About())
    assert os.listdir(tmp_path / "volumes") == []
