"""Records and volumes in memory keep the contract that those on disk keep."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.contracts.state import Records, Volumes
from orchestrator.model.names import ProjectName
from orchestrator.state.directory import site_of
from orchestrator.state.preparation import prepare
from orchestrator.state.records import FileState
from orchestrator.state.volumes import FileVolumes
from orchestrator.testing.conformance_state import STATE_CHECKS, VOLUME_CHECKS, StateCheck
from orchestrator.testing.fake_state import FakeState, FakeVolumes, FakeVolumeStore


class FakeLab:
    def __init__(self) -> None:
        self._states: dict[str, FakeState] = {}
        self._store = FakeVolumeStore()

    def state(self, project: str) -> Records:
        return self._states.setdefault(project, FakeState())

    def volumes(self, project: str) -> Volumes:
        return FakeVolumes(project=project, store=self._store)


class RealLab:
    def __init__(self, root: Path) -> None:
        self._root = root

    def state(self, project: str) -> Records:
        return FileState(prepare(site_of(f"{self._root}/data", f"{self._root}/run", ProjectName(project))))

    def volumes(self, project: str) -> Volumes:
        return FileVolumes(prepare(site_of(f"{self._root}/data", f"{self._root}/run", ProjectName(project))))


@pytest.mark.parametrize("check", STATE_CHECKS + VOLUME_CHECKS, ids=lambda check: check.__name__)
def test_in_memory(check: StateCheck) -> None:
    check(FakeLab())


@pytest.mark.parametrize("check", STATE_CHECKS + VOLUME_CHECKS, ids=lambda check: check.__name__)
def test_on_disk(check: StateCheck, tmp_path: Path) -> None:
    check(RealLab(tmp_path))
