"""The cheap look at which service a container is of says what the records say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.contracts.site import Site
from orchestrator.contracts.state import ContainerRecord, Definition, ProjectRecord
from orchestrator.model.names import ContainerId, Instance, ProjectName, ServiceName
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.state.directory import site_of
from orchestrator.state.preparation import prepare
from orchestrator.state.records import FileState
from orchestrator.state.services import services_of


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return prepare(site_of(str(tmp_path / "data"), str(tmp_path / "run"), ProjectName("shop")))


def record(container: str, service: str) -> ContainerRecord:
    name = ServiceName(service)
    return ContainerRecord(ContainerId(container), Instance(name), Definition(Service(name, "host")))


def loaded(site: Site) -> dict[str, str]:
    found = FileState(site).load()
    return {item.container: item.instance.service for item in found.containers} if found is not None else {}


def written(site: Site) -> FileState:
    state = FileState(site)
    state.commit(ProjectRecord(Project(site.project, "/", {}), (record("old", "a"),)))
    state.update(record("stale", "b"))
    state.commit(ProjectRecord(Project(site.project, "/", {}), (record("mine", "web"), record("gone", "db"))))
    state.update(record("shop-web-run-12", "web"))
    state.forget(ContainerId("gone"))
    return state


def test_it_is_what_the_records_say_with_their_journal(site: Site) -> None:
    written(site).close()
    assert services_of(site) == loaded(site) == {"mine": "web", "shop-web-run-12": "web"}


def test_a_project_without_records_has_none(site: Site) -> None:
    assert services_of(site) == {}


@pytest.mark.parametrize("name", ["wanted.json", "records.journal"])
@pytest.mark.parametrize("damage", [b"{", b"[]\n[]\n", b'{"generation":1}\n', b"\xff\n", b""])
def test_damaged_records_are_read_as_the_supervisor_reads_them(site: Site, name: str, damage: bytes) -> None:
    written(site).close()
    Path(site.data_dir, name).write_bytes(damage)
    assert services_of(site) == loaded(site)
    os.unlink(os.path.join(site.data_dir, name))
    assert services_of(site) == loaded(site)


def test_records_of_version_1_are_read(site: Site) -> None:
    old = Path(__file__).parents[2] / "data" / "v1"
    for file in old.rglob("wanted.json"):
        Path(site.data_dir, "wanted.json").write_bytes(file.read_bytes())
        assert services_of(site) == loaded(site) != {}
