"""Stored files that are not as they were written: nothing raises but errors for the user, what can be kept is kept, and
what is lost is told with the file's name."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.contracts.events import Event, EventKind
from orchestrator.contracts.network import Address, Endpoint
from orchestrator.contracts.site import Site
from orchestrator.contracts.state import ContainerRecord, ProjectRecord
from orchestrator.errors import PystackError
from orchestrator.kernel.sealed import seal
from orchestrator.model.names import ContainerId, NetworkName, ProjectName, VolumeName
from orchestrator.model.network import Network
from orchestrator.model.project import Project
from orchestrator.model.volume import Volume
from orchestrator.state import lock
from orchestrator.state.directory import ID_RANGE, site_of
from orchestrator.state.journal import EventLog
from orchestrator.state.preparation import prepare, same_project
from orchestrator.state.records import FileState
from orchestrator.state.volumes import FileVolumes
from orchestrator.testing.conformance_state import DATA, ONE, TWO, a_project, a_record
from orchestrator.values import replace

BACK = NetworkName("back")
THREE = ContainerId("shop-db-main-3")
SEEDS = 40

Damage = Callable[[bytes, random.Random], bytes]


def flip_a_bit(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def lose_the_beginning(data: bytes, chance: random.Random) -> bytes:
    return data[chance.randrange(1, len(data)) :]


def empty(data: bytes, chance: random.Random) -> bytes:
    return b""


def double(data: bytes, chance: random.Random) -> bytes:
    return data + data


def zero_a_block(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes(len(data[at : at + 512])) + data[at + 512 :]


def other_json(data: bytes, chance: random.Random) -> bytes:
    others = ("null", "[]", "{}", "7", '"text"', '{"version": 2}', '{"version": 1, "generation": 1}', "[" * 100_000)
    return chance.choice(others).encode()


def wrong_types(data: bytes, chance: random.Random) -> bytes:
    """Rightly sealed, as a bug might write it."""
    lines = []
    for line in data.splitlines():
        value = {key: item for key, item in json.loads(line).items() if key != "check"}
        key = chance.choice([key for key in value if key != "version"])
        value[key] = chance.choice((None, [], {}, "text", -1, [None], {"a": None}, [7], True))
        lines.append(seal(value))
    return b"".join(lines)


DAMAGES: tuple[Damage, ...] = (
    flip_a_bit, cut, lose_the_beginning, empty, double, zero_a_block, other_json, wrong_types
)  # fmt: skip


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return prepare(site_of(str(tmp_path / "data"), str(tmp_path / "run"), ProjectName("shop")))


def record() -> ProjectRecord:
    return ProjectRecord(a_project(), (a_record(ONE), a_record(TWO)))


def expected() -> dict[ContainerId, ContainerRecord]:
    other = a_record().definition
    assert other is not None
    third = replace(a_record(THREE), definition=replace(other, image="sha256:3"))
    endpoint = Endpoint(BACK, (Address("10.1.0.2", 24, "10.1.0.1"),), "02:70:0a:01:00:02", "eth0")
    return {ONE: replace(a_record(ONE), restarts=2, endpoints=(endpoint,)), TWO: a_record(TWO), THREE: third}


@pytest.fixture
def stored(site: Site) -> Site:
    """A project whose records say `expected`, in all files."""
    state = FileState(site)
    state.commit(record())
    for item in (replace(a_record(ONE), restarts=1), expected()[ONE], expected()[THREE]):
        state.update(item)
    state.close()
    return site


def rounds(site: Site, name: str, damage: Damage) -> list[tuple[Path, bytes, bytes]]:
    """The file, what it held, and what it holds instead, many times."""
    path = Path(site.data_dir, name)
    whole = path.read_bytes()
    return [(path, whole, damage(whole, random.Random(seed))) for seed in range(SEEDS)]


def known(state: FileState) -> dict[ContainerId, ContainerRecord]:
    loaded = state.load()
    return {} if loaded is None else {item.container: item for item in loaded.containers}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["wanted.json", "wanted.json.copy"])
def test_one_of_the_two_copies_is_enough(stored: Site, name: str, damage: Damage) -> None:
    for path, whole, broken in rounds(stored, name, damage):
        path.write_bytes(broken)
        state = FileState(stored)
        loaded = state.load()
        assert loaded is not None
        found = known(state)
        if damage is wrong_types and name == "wanted.json":
            # Containers that are none, or definitions that are lost: what the journal says is there all the same.
            assert expected().keys() >= found.keys() >= {ONE, THREE}
        else:
            assert (loaded.project, found) == (a_project(), expected()), broken
        assert all(finding.file == f"{stored.data_dir}/wanted.json" for finding in state.findings())
        path.write_bytes(whole)


@pytest.mark.parametrize("damage", [item for item in DAMAGES if item not in (double, wrong_types)])
def test_without_both_copies_the_journal_still_tells_of_what_changed(stored: Site, damage: Damage) -> None:
    for seed in range(SEEDS):
        wholes = {}
        for number, name in enumerate(("wanted.json", "wanted.json.copy")):
            path = Path(stored.data_dir, name)
            wholes[path] = path.read_bytes()
            path.write_bytes(damage(wholes[path], random.Random(seed * 2 + number)))
        state = FileState(stored)
        found = known(state)
        if not state.findings():  # The bit was the line break's, which nothing needs.
            assert found == expected()
        else:
            (finding,) = state.findings()
            assert "is damaged, and wanted.json.copy too" in str(finding)
            assert "2 of its containers are known from records.journal" in str(finding)
            assert set(found) == {ONE, THREE}
            assert (found[ONE].restarts, found[THREE]) == (2, expected()[THREE])
            definition = found[ONE].definition
            assert definition is not None
            assert (definition.service.name, definition.service.image) == ("db-main", "")
            loaded = state.load()
            assert loaded is not None
            assert (loaded.project.working_dir, list(loaded.project.services)) == ("", ["db-main"])
            assert loaded.project.networks == {BACK: Network(BACK, "shop_back")}
        for path, whole in wholes.items():
            path.write_bytes(whole)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_lines_of_the_journal_cost_those_lines_alone(stored: Site, damage: Damage) -> None:
    old = {item.container: item for item in record().containers}
    for path, whole, broken in rounds(stored, "records.journal", damage):
        path.write_bytes(broken)
        state = FileState(stored)
        found = known(state)
        assert found.keys() >= old.keys()
        if damage in (flip_a_bit, double):
            lost = [name for name, item in expected().items() if found.get(name) != item]
            assert len(lost) <= 1
            assert len(lost) <= len(state.findings())
        assert all("records.journal has" in str(finding) for finding in state.findings())
        state.update(replace(a_record(TWO), restarts=9))  # What comes next is not lost with it.
        state.close()
        assert known(FileState(stored))[TWO].restarts == 9
        path.write_bytes(whole)


def test_what_was_damaged_is_kept_aside_by_the_next_commit(stored: Site) -> None:
    for name in ("wanted.json", "records.journal"):
        path = Path(stored.data_dir, name)
        path.write_bytes(flip_a_bit(path.read_bytes(), random.Random(3)))
    broken = {name: Path(stored.data_dir, name).read_bytes() for name in ("wanted.json", "records.journal")}
    state = FileState(stored)
    loaded = state.load()
    assert loaded is not None
    assert len(state.findings()) == 2
    assert sorted(os.listdir(stored.data_dir)) == sorted(
        ["ids", "wanted.json", "wanted.json.copy", "records.journal", "containers", "logs"]
    )
    state.commit(loaded)
    for name, data in broken.items():
        assert Path(stored.data_dir, f"{name}.damaged-1").read_bytes() == data
    again = FileState(stored)
    assert again.load() == loaded
    assert again.findings() == ()


def test_a_project_all_of_whose_records_are_lost_is_unknown_and_told(stored: Site) -> None:
    for name in ("wanted.json", "wanted.json.copy", "records.journal"):
        Path(stored.data_dir, name).write_bytes(b"")
    state = FileState(stored)
    assert state.load() is None
    (finding,) = state.findings()
    assert finding.done == "the stack has to be read from its files again; what exists is found by its names"
    state.commit(record())
    assert FileState(stored).load() == record()


def test_a_record_whose_file_cannot_be_read_is_the_machine_s_trouble(stored: Site) -> None:
    path = Path(stored.data_dir, "wanted.json")
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(PystackError, match=r"cannot read .*wanted\.json"):
        FileState(stored).load()


@pytest.mark.parametrize("damage", [item for item in DAMAGES if item is not wrong_types])
@pytest.mark.parametrize("name", ["events.jsonl", "events.jsonl.1"])
def test_damaged_events_are_passed_over(site: Site, name: str, damage: Damage) -> None:
    log = EventLog(site)
    for number in range(60):
        log.append(Event(EventKind.WARNING, f"number {number}", float(number)))
        if number == 29:
            log.close()
            os.rename(f"{site.data_dir}/events.jsonl", f"{site.data_dir}/events.jsonl.1")
    log.close()
    spared = range(30) if name == "events.jsonl" else range(30, 60)
    for path, whole, broken in rounds(site, name, damage):
        path.write_bytes(broken)
        texts = [event.text for event in EventLog(site).since(0)]
        assert set(texts) >= {f"number {number}" for number in spared}
        EventLog(site).tail(5, services=["a"])
        path.write_bytes(whole)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_volume_whose_description_is_damaged_keeps_its_content(site: Site, damage: Damage) -> None:
    volumes = FileVolumes(site)
    data = Path(volumes.ensure(DATA))
    (data / "file").write_text("precious")
    path = data.parent / "volume.json"
    whole = path.read_bytes()
    for seed in range(SEEDS):
        path.write_bytes(damage(whole, random.Random(seed)))
        assert volumes.identity(DATA) == volumes.identity(DATA)
        assert set(volumes.owned()) <= {DATA, replace(DATA, labels=())} or damage is wrong_types
        assert volumes.ensure(DATA) == str(data)
        assert (data / "file").read_text() == "precious"
    path.write_bytes(b"")
    volumes.ensure(DATA)
    assert volumes.owned() == (DATA,)
    assert list(path.parent.glob("volume.json.damaged-*"))
    assert volumes.remove(DATA)
    assert not data.parent.exists()


def test_what_version_1_left_of_a_volume_when_it_was_killed_is_made_whole(site: Site) -> None:
    half = Path(site.data_dir).parents[1] / "volumes" / "shop_data"
    half.mkdir(parents=True)
    (half / "volume.json").write_text('{"lab')
    assert FileVolumes(site).existing([DATA]) == ()
    assert Path(FileVolumes(site).ensure(DATA)).is_dir()
    (half / "_data").rmdir()
    (half / "mine").write_text("not pystack's")
    with pytest.raises(PystackError, match="cannot make volume 'shop_data': Directory not empty"):
        FileVolumes(site).ensure(DATA)


@pytest.mark.parametrize("damage", [item for item in DAMAGES if item is not wrong_types])
def test_a_damaged_id_range_is_that_of_the_containers_or_a_free_one(site: Site, damage: Damage) -> None:
    path = Path(site.data_dir, "ids")
    whole = path.read_bytes()
    used = site.ids.host_base + 5 * ID_RANGE
    bundle = Path(site.data_dir, "containers", "shop-db-main-1")
    for has_container in (True, False):
        if has_container:
            bundle.mkdir()
            (bundle / "spec.json").write_text(json.dumps({"linux": {"uidMappings": [{"containerID": 0, "hostID": used}]}}))
        else:
            shutil.rmtree(bundle)
        for seed in range(SEEDS):
            path.write_bytes(damage(whole, random.Random(seed)))
            again = prepare(site_of(str(Path(site.data_dir).parents[1]), str(Path(site.run_dir).parent), site.project))
            assert again.ids.host_base in ((used, site.ids.host_base) if has_container else (site.ids.host_base,))
            assert int(path.read_bytes().split()[0]) == again.ids.host_base


def test_a_lock_that_is_no_file_is_named(site: Site) -> None:
    os.mkdir(f"{site.data_dir}/lock")
    with pytest.raises(PystackError, match=r"cannot open .*lock: it is a directory"):
        lock.acquire(site)
    os.rmdir(f"{site.data_dir}/lock")
    Path(site.data_dir, "lock").write_bytes(b"\xff\x00" * 100)
    os.close(lock.acquire(site))


def test_a_project_comes_from_one_folder(tmp_path: Path) -> None:
    def of(folder: Path | str) -> Project:
        return Project(ProjectName("shop"), str(folder), {})

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert same_project(of(tmp_path / "a"), of(tmp_path / "link"))
    assert not same_project(of(tmp_path / "a"), of(tmp_path / "b"))
    assert same_project(of(tmp_path / "gone"), of(tmp_path / "b"))
    assert same_project(of(""), of(tmp_path / "b"))


def test_volumes_of_the_project_are_found_without_any_record(stored: Site) -> None:
    volumes = FileVolumes(stored)
    volumes.ensure(DATA)
    volumes.ensure(Volume(VolumeName("x"), "shop_x"))
    volumes.ensure_anonymous(ONE, "/a")
    shutil.rmtree(stored.data_dir)
    fresh = FileVolumes(stored)
    assert [volume.full_name for volume in fresh.owned()] == ["shop_data", "shop_x"]
    assert [fresh.remove(volume) for volume in fresh.owned()] == [True, True]
    assert fresh.remove_unclaimed(()) == 1
    assert os.listdir(Path(stored.data_dir).parents[1] / "volumes") == []
