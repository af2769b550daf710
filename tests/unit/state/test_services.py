"""The cheap look at containers and services says what the records say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.contracts.site import Site
from orchestrator.contracts.state import ContainerRecord, Definition, ProjectRecord
from orchestrator.model.names import ContainerId, Instance, ProjectName, Role, ServiceName
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.state.directory import site_of
from orchestrator.state.preparation import prepare
from orchestrator.state.records import FileState
from orchestrator.state.services import Recorded, RecordedContainer, recorded


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return prepare(site_of(str(tmp_path / "data"), str(tmp_path / "run"), ProjectName("shop")))


def record(container: str, service: str, role: Role = Role.REPLICA, number: int = 1) -> ContainerRecord:
    name = ServiceName(service)
    return ContainerRecord(ContainerId(container), Instance(name, role, number), Definition(Service(name, "host")))


def loaded(site: Site) -> Recorded:
    found = FileState(site).load()
    if found is None:
        return Recorded({})
    containers = {
        item.container: RecordedContainer(item.instance.service, item.instance.role.value, item.instance.number)
        for item in found.containers
    }
    return Recorded(containers, tuple(found.project.services))


def written(site: Site) -> FileState:
    services = {ServiceName(name): Service(ServiceName(name), "host") for name in ("web", "db", "never-ran")}
    state = FileState(site)
    state.commit(ProjectRecord(Project(site.project, "/", {}), (record("old", "a"),)))
    state.update(record("stale", "b"))
    containers = record("mine", "web", number=3), record("gone", "db")
    state.commit(ProjectRecord(Project(site.project, "/", services), containers))
    state.update(record("shop-web-run-12", "web", Role.ONE_OFF, 2))
    state.forget(ContainerId("gone"))
    return state


def test_it_is_what_the_records_say_with_their_journal(site: Site) -> None:
    written(site).close()
    web = ServiceName("web")
    assert recorded(site) == loaded(site)
    assert recorded(site).containers == {
        "mine": RecordedContainer(web, number=3),
        "shop-web-run-12": RecordedContainer(web, "one-off", 2),
    }
    assert recorded(site).services == ("web", "db", "never-ran")


def test_a_project_without_records_has_none(site: Site) -> None:
    assert recorded(site) == Recorded({})


@pytest.mark.parametrize("name", ["wanted.json", "records.journal"])
@pytest.mark.parametrize("damage", [b"{", b"[]\n[]\n", b'{"generation":1}\n', b"\xff\n", b""])
def test_damaged_records_are_read_as_the_supervisor_reads_them(site: Site, name: str, damage: bytes) -> None:
    written(site).close()
    Path(site.data_dir, name).write_bytes(damage)
    assert recorded(site) == loaded(site)
    os.unlink(os.path.join(site.data_dir, name))
    assert recorded(site) == loaded(site)


def test_records_of_version_1_are_read(site: Site) -> None:
    old = Path(__file__).parents[2] / "data" / "v1"
    for file in old.rglob("wanted.json"):
        Path(site.data_dir, "wanted.json").write_bytes(file.read_bytes())
        assert recorded(site) == loaded(site) != Recorded({})
