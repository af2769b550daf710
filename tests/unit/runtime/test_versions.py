"""What an older pystack stored is read; what a newer one stored is said to be that. tests/data/v1 was made by version 1."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from orchestrator.contracts.site import IdMap, Site
from orchestrator.errors import OperationError
from orchestrator.model.names import ContainerId, ProjectName, project_key
from orchestrator.runtime.bundle import SPEC_VERSION, read_bundle, write_bundle
from orchestrator.runtime.history import read_journal
from orchestrator.runtime.logs import read_entries
from orchestrator.runtime.versions import upgrade

V1 = Path(__file__).resolve().parents[2] / "data" / "v1" / "runtime"
BOX = ContainerId("rt-a-1")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    bundle = tmp_path / "data" / "containers" / BOX
    bundle.mkdir(parents=True)
    shutil.copy(V1 / "spec.json", bundle)
    project = ProjectName("rt")
    return Site(project, project_key(str(tmp_path), project), f"{tmp_path}/data", f"{tmp_path}/run", IdMap(1 << 20))


def test_a_bundle_of_version_1_is_read_and_written_anew_with_its_version(site: Site) -> None:
    spec = read_bundle(site, BOX)
    assert (spec.container, spec.lowers) == (BOX, ("@ROOTFS@",))
    assert spec.config["process"]["args"] == ["sh", "-c", "echo one; exit 7"]
    write_bundle(site, spec)
    stored = json.loads(Path(site.data_dir, "containers", BOX, "spec.json").read_text())
    assert stored["version"] == SPEC_VERSION
    assert read_bundle(site, BOX) == spec


@pytest.mark.parametrize("version", [SPEC_VERSION + 1, 99])
def test_a_bundle_of_a_newer_version_is_an_error_that_names_it(site: Site, version: int) -> None:
    path = Path(site.data_dir, "containers", BOX, "spec.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": version}))
    with pytest.raises(OperationError, match=r"spec\.json was written by a newer pystack") as caught:
        read_bundle(site, BOX)
    assert caught.value.hint


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "3", '{"version": "x"}', '{"version": 0}', '{"version": true}', "{}", "\0"]
)
def test_a_damaged_bundle_is_an_error_that_names_the_container(site: Site, text: str) -> None:
    Path(site.data_dir, "containers", BOX, "spec.json").write_text(text)
    with pytest.raises(OperationError, match="container rt-a-1 cannot be read"):
        read_bundle(site, BOX)


def test_a_journal_of_version_1_is_read() -> None:
    found = read_journal(str(V1 / "exits.journal"))
    assert sorted(found) == ["rt-a-1", "rt-b-1"]
    first, second = found[BOX], found[ContainerId("rt-b-1")]
    assert (first.last_run, first.last_exit and first.last_exit.code) == (2, 7)
    assert (second.last_run, second.last_exit and second.last_exit.signal) == (1, 9)


def test_entries_of_a_newer_journal_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "exits.journal"
    path.write_bytes((V1 / "exits.journal").read_bytes() + b'{"v":99,"e":"start","c":"rt-a-1","r":50}\n{"v":"x","c":1}\n')
    assert read_journal(str(path))[BOX].last_run == 2


def test_a_log_of_version_1_is_read() -> None:
    assert [entry.line for entry in read_entries(str(V1 / "rt-a-1"))] == [b"one", b"one"]


def test_upgrades_are_made_one_after_the_other() -> None:
    chain = {1: lambda data: {**data, "b": data["a"] + 1}, 2: lambda data: {**data, "c": data["b"] + 1}}
    assert upgrade({"a": 1}, 3, chain, "it") == {"a": 1, "b": 2, "c": 3, "version": 3}
    assert upgrade({"a": 1, "b": 7, "version": 2}, 3, chain, "it") == {"a": 1, "b": 7, "c": 8, "version": 3}
