"""A data directory of version 1 (tests/data/v1) is read, taken over, and written as today's."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from orchestrator.contracts.events import EventKind
from orchestrator.contracts.site import Site
from orchestrator.contracts.state import ContainerRecord, Definition, ProjectRecord, Wanted
from orchestrator.errors import OperationError
from orchestrator.kernel.sealed import VERSION, seal, unseal
from orchestrator.model.health import HealthCheck
from orchestrator.model.names import ContainerId, Instance, ProjectName, ServiceName, VolumeName
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.model.volume import Volume
from orchestrator.state.directory import site_of
from orchestrator.state.journal import EventLog
from orchestrator.state.preparation import prepare
from orchestrator.state.records import FileState
from orchestrator.state.upgrades import STEPS, upgrade
from orchestrator.state.volumes import FileVolumes

OLD = Path(__file__).parents[2] / "data" / "v1"
DB, WEB, JOB = (ContainerId(f"shop-{name}-1") for name in ("db-main", "web", "job"))
OLD_ANONYMOUS = "anonymous-9c1c9d3aa8566602-b841cf3708ac7f61"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    shutil.copytree(OLD, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def site(data: Path) -> Site:
    return prepare(site_of(str(data), f"{data}/run", ProjectName("shop")))


def by_id(record: ProjectRecord | None) -> dict[ContainerId, ContainerRecord]:
    assert record is not None
    return {item.container: item for item in record.containers}


def test_records_of_version_1_say_what_their_containers_were_made_from(site: Site) -> None:
    state = FileState(site)
    found = by_id(state.load())
    assert state.findings() == ()
    assert [found[name].instance for name in (DB, WEB, JOB)] == [
        Instance(ServiceName(name)) for name in ("db-main", "web", "job")
    ]
    db, web, job = (found[name].definition for name in (DB, WEB, JOB))
    assert db is not None
    assert (db.service.name, db.service.stop_grace_s, db.stop_signal) == ("db-main", 3.0, 2)
    assert db.check == HealthCheck(("true",), interval_s=1.0, retries=2)
    assert web is not None
    assert (web.check, web.stop_signal) == (None, 15)
    assert job is not None
    assert job.check is None  # Its test is the image's, which the record does not tell.
    assert (found[WEB].wanted, found[WEB].last_exit is not None) == (Wanted.STOPPED, True)


def test_what_is_written_next_is_of_this_version_and_says_the_same(site: Site) -> None:
    state = FileState(site)
    before = state.load()
    assert before is not None
    state.update(by_id(before)[DB])
    state.commit(before)
    raw = Path(site.data_dir, "wanted.json").read_bytes()
    (value,) = unseal(raw)
    assert value is not None
    assert (value["version"], value["generation"], len(value["definitions"])) == (2, 3, 3)
    again = FileState(site)
    assert again.load() == before
    assert again.findings() == ()


def test_addresses_and_subnets_become_plural() -> None:
    wanted = upgrade("wanted", json.loads((OLD / "projects/shop/wanted.json").read_text()), 1)
    assert wanted["project"]["networks"]["back"]["subnets"] == [{"subnet": "10.77.0.0/24", "gateway": "10.77.0.1"}]
    assert "subnets" not in wanted["project"]["networks"]["default"]
    lines = (OLD / "projects/shop/records.journal").read_text().splitlines()
    record = upgrade("record", json.loads(lines[0])["record"], 1, wanted["project"])
    assert [item["addresses"] for item in record["endpoints"]] == [
        [{"ip": "10.246.0.2", "prefix": 20, "gateway": "10.246.0.1"}],
        [{"ip": "10.77.0.129", "prefix": 24, "gateway": "10.77.0.1"}],
    ]


def test_every_kind_of_value_has_a_step_for_each_version() -> None:
    assert {kind: len(steps) for kind, steps in STEPS.items()} == dict.fromkeys(STEPS, VERSION - 1)


def test_an_orphan_of_version_1_keeps_its_service_s_name() -> None:
    record = upgrade("record", {"container": "c", "service": "gone", "config_hash": "h"}, 1, {"services": {}})
    assert record["instance"] == {"service": "gone"}
    assert record["definition"] == {"service": {"name": "gone", "image": ""}, "image": "", "stop_signal": 15}


@pytest.mark.parametrize(("name", "number"), [("SIGINT", 2), ("term", 15), ("SIGRTMIN+3", 37), ("SIGTRAM", 15), ("0", 15)])
def test_a_stop_signal_of_version_1_becomes_its_number(name: str, number: int) -> None:
    stack = {"services": {"a": {"name": "a", "image": "i", "stop_signal": name}}}
    assert upgrade("record", {"container": "c", "service": "a"}, 1, stack)["definition"]["stop_signal"] == number


def test_events_of_version_1_are_read_beside_those_of_today(site: Site) -> None:
    log = EventLog(site)
    (last,) = log.tail(1, services=["web"])
    assert (last.kind, last.text) == (EventKind.CONTAINER_STOPPED, "web was killed by SIGKILL after 10.4 s")
    events = list(log.since(0))
    assert len(events) == len((OLD / "projects/shop/events.jsonl").read_text().splitlines())
    log.append(last)
    log.close()
    assert list(log.since(0)) == [*events, last]


def test_records_of_a_newer_version_are_refused_and_left_alone(site: Site) -> None:
    path = Path(site.data_dir, "wanted.json")
    path.write_bytes(seal({"version": 3, "generation": 1, "something": "new"}))
    before = path.read_bytes()
    with pytest.raises(OperationError, match=r"wanted\.json was written by a newer pystack \(version 3") as caught:
        FileState(site).load()
    assert "newer pystack" in str(caught.value.hint)
    with pytest.raises(OperationError):
        FileState(site).commit(ProjectRecord(Project(ProjectName("shop"), "/", {})))
    assert path.read_bytes() == before


def test_an_anonymous_volume_of_version_1_is_taken_over_with_its_content(site: Site, data: Path) -> None:
    (data / "volumes" / OLD_ANONYMOUS / "_data" / "file").write_text("precious")
    volumes = FileVolumes(site)
    assert volumes.take_over([DB, WEB]) == ()
    assert not (data / "volumes" / OLD_ANONYMOUS).exists()
    path = volumes.ensure_anonymous(DB, "/var/anonymous")
    assert Path(path, "file").read_text() == "precious"
    assert volumes.take_over([DB, WEB]) == ()
    assert volumes.remove_unclaimed([WEB]) == 1


def other_project(data: Path, wanted: bytes | None) -> None:
    """Project ``shop-db`` has a service ``main``: its container's id is that of ``shop``'s ``db-main``."""
    other = prepare(site_of(str(data), f"{data}/run", ProjectName("shop-db")))
    name = ServiceName("main")
    project = Project(ProjectName("shop-db"), "/srv", {name: Service(name, "host")})
    record = ContainerRecord(DB, Instance(name), Definition(Service(name, "host")), "hash")
    FileState(other).commit(ProjectRecord(project, (record,)))
    if wanted is not None:
        for file in ("wanted.json", "wanted.json.copy"):
            Path(other.data_dir, file).write_bytes(wanted)


@pytest.mark.parametrize("wanted", [None, b"{damaged"])
def test_an_anonymous_volume_that_may_be_another_project_s_is_left_and_told(
    site: Site, data: Path, wanted: bytes | None
) -> None:
    other_project(data, wanted)
    (finding,) = FileVolumes(site).take_over([DB])
    assert str(finding) == (
        f"{data}/volumes/{OLD_ANONYMOUS} may belong to container shop-db-main-1 of project shop-db as well: "
        "it is left as it is, used by neither"
    )
    assert (data / "volumes" / OLD_ANONYMOUS / "_data").is_dir()
    assert os.path.basename(os.path.dirname(FileVolumes(site).ensure_anonymous(DB, "/var/anonymous"))) != OLD_ANONYMOUS


def test_a_named_volume_of_version_1_gets_an_owner_and_keeps_its_identity_and_labels(site: Site, data: Path) -> None:
    volumes = FileVolumes(site)
    volume = Volume(VolumeName("data"), "shop_data", labels=(("team", "shop"),))
    identity = volumes.identity(volume)
    assert identity == FileVolumes(site).identity(volume)
    assert volumes.owned() == ()
    volumes.ensure(Volume(VolumeName("data"), "shop_data"))
    assert volumes.identity(volume) == identity
    assert volumes.owned() == (volume,)
    assert volumes.remove(volume)
    volumes.ensure(volume)
    assert volumes.identity(volume) != identity
