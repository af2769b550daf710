"""Records, locks, volumes and the event log on a real directory."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.contracts.site import Site
from orchestrator.contracts.state import ContainerRecord, Definition, ProjectRecord, Wanted
from orchestrator.errors import BusyError, HostError, InputError, OperationError
from orchestrator.kernel.trees import remove_tree
from orchestrator.model.names import ContainerId, Instance, ProjectName, ServiceName, VolumeName
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.model.volume import Volume
from orchestrator.state import lock
from orchestrator.state.directory import ID_RANGE, site_of
from orchestrator.state.preparation import make_private, prepare
from orchestrator.state.records import FileState
from orchestrator.state.volumes import FileVolumes


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return prepare(site_of(str(tmp_path / "data"), str(tmp_path / "run"), ProjectName("demo")))


def record(name: str, **changes: object) -> ContainerRecord:
    instance = Instance(ServiceName(name))
    definition = Definition(Service(instance.service, "host"))
    return ContainerRecord(ContainerId(f"demo-{name}-1"), instance, definition, "hash", **changes)  # type: ignore[arg-type]


def project() -> Project:
    return Project(ProjectName("demo"), "/srv", {})


def test_a_project_that_was_never_up_has_no_record(site: Site) -> None:
    assert FileState(site).load() is None


def test_updates_after_a_commit_are_seen_by_another_reader(site: Site) -> None:
    state = FileState(site)
    state.commit(ProjectRecord(project(), (record("a"), record("b"))))
    state.update(record("b", wanted=Wanted.STOPPED))
    state.forget(ContainerId("demo-a-1"))
    loaded = FileState(site).load()
    assert loaded is not None
    assert loaded.containers == (record("b", wanted=Wanted.STOPPED),)


def test_lines_from_before_the_last_commit_do_not_count(site: Site) -> None:
    state = FileState(site)
    state.commit(ProjectRecord(project(), (record("a"),)))
    state.update(record("a", restarts=7))
    journal = Path(site.data_dir, "records.journal")
    before = journal.read_bytes()
    state.commit(ProjectRecord(project(), (record("a"),)))
    journal.write_bytes(before)
    loaded = FileState(site).load()
    assert loaded is not None
    assert loaded.containers[0].restarts == 0


def test_a_torn_last_line_is_ignored(site: Site) -> None:
    state = FileState(site)
    state.commit(ProjectRecord(project(), ()))
    state.update(record("a"))
    with open(os.path.join(site.data_dir, "records.journal"), "ab") as journal:
        journal.write(b'{"generation": 1, "rec')
    loaded = FileState(site).load()
    assert loaded is not None
    assert [item.instance.service for item in loaded.containers] == ["a"]


def test_a_long_journal_is_folded_into_the_record(site: Site) -> None:
    state = FileState(site)
    state.commit(ProjectRecord(project(), ()))
    for number in range(40):
        state.update(record("a", restarts=number, gave_up="x" * 40_000))
    assert os.path.getsize(os.path.join(site.data_dir, "records.journal")) < 1 << 20
    loaded = FileState(site).load()
    assert loaded is not None
    assert loaded.containers[0].restarts == 39


def test_clearing_a_project_leaves_nothing_of_it(site: Site) -> None:
    state = FileState(site)
    state.commit(ProjectRecord(project(), ()))
    state.clear()
    assert not os.path.exists(site.data_dir)


def test_a_second_supervisor_is_told_who_holds_the_project(site: Site) -> None:
    held = lock.acquire(site)
    try:
        with pytest.raises(BusyError, match=rf"process {os.getpid()}"):
            lock.acquire(site)
    finally:
        os.close(held)
    os.close(lock.acquire(site))


def test_nobody_writes_into_a_place_that_somebody_else_is_taking_away(site: Site) -> None:
    """Builds take the first place that is free, at any moment of its last owner's leaving."""
    taken: list[int] = []

    def take_and_leave(worker: int) -> None:
        for _ in range(150):
            try:
                mine, held = lock.take(site)
            except BusyError:
                continue
            try:
                path = os.path.join(mine.data_dir, "mine")
                with open(path, "x") as file:
                    file.write(str(worker))
                with open(path) as file:
                    assert file.read() == str(worker)
                assert sorted(os.listdir(mine.data_dir)) == ["containers", "ids", "lock", "logs", "mine"]
                shutil.rmtree(mine.run_dir)
                lock.remove_project_directory(mine.data_dir)
            finally:
                os.close(held)
            taken.append(worker)

    with ThreadPoolExecutor(4) as pool:
        for worker in [pool.submit(take_and_leave, number) for number in range(4)]:
            worker.result()
    assert taken
    assert not os.path.exists(site.data_dir)


def test_projects_with_the_same_wish_get_different_id_ranges(tmp_path: Path) -> None:
    one = prepare(site_of(str(tmp_path / "d"), str(tmp_path / "r"), ProjectName("one")))
    other = site_of(str(tmp_path / "d"), str(tmp_path / "r"), ProjectName("two"))
    clash = prepare(Site(other.project, other.key, other.data_dir, other.run_dir, one.ids))
    assert clash.ids.host_base == one.ids.host_base + ID_RANGE
    assert site_of(str(tmp_path / "d"), str(tmp_path / "r"), ProjectName("two")).ids == clash.ids


def test_a_symbolic_link_is_not_taken_for_our_directory(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(HostError, match="is not a directory of user"):
        make_private(str(tmp_path / "link"))


def test_parents_that_are_missing_are_made_as_private(tmp_path: Path) -> None:
    make_private(str(tmp_path / "a" / "b" / "c"))
    assert [oct((tmp_path / name).stat().st_mode & 0o777) for name in ("a", "a/b", "a/b/c")] == ["0o700"] * 3


def test_a_volume_is_made_once_and_removed_with_its_content(site: Site) -> None:
    volumes = FileVolumes(site)
    volume = Volume(VolumeName("data"), "demo_data")
    path = volumes.ensure(volume)
    Path(path, "file").write_text("x")
    assert volumes.ensure(volume) == path
    assert Path(path, "file").read_text() == "x"
    assert volumes.existing([volume]) == (volume,)
    assert volumes.remove(volume)
    assert not volumes.remove(volume)
    assert os.listdir(os.path.dirname(os.path.dirname(path))) == []


def test_a_missing_external_volume_is_an_error_and_an_existing_one_is_never_removed(site: Site) -> None:
    volumes = FileVolumes(site)
    external = Volume(VolumeName("x"), "shared", external=True)
    with pytest.raises(OperationError, match="external volume 'shared' does not exist"):
        volumes.ensure(external)
    volumes.ensure(Volume(VolumeName("x"), "shared"))
    assert volumes.remove(external) is False
    assert volumes.existing([external]) == (external,)


def test_anonymous_volumes_go_with_their_container_alone(site: Site) -> None:
    volumes = FileVolumes(site)
    mine = volumes.ensure_anonymous(ContainerId("demo-a-1"), "/data")
    other = volumes.ensure_anonymous(ContainerId("demo-b-1"), "/data")
    assert mine != other
    volumes.remove_anonymous(ContainerId("demo-a-1"))
    assert not os.path.exists(mine)
    assert os.path.isdir(other)


def test_a_volume_name_cannot_leave_the_volumes_directory(site: Site) -> None:
    with pytest.raises(InputError, match="is not a volume name"):
        FileVolumes(site).ensure(Volume(VolumeName("x"), "../../etc"))


def test_a_tree_deeper_than_the_recursion_limit_is_deleted(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    at = os.open(top, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=at))
    os.close(at)
    assert remove_tree(str(top))
    assert not top.exists()


def test_deleting_a_tree_does_not_follow_links_out_of_it(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_text("x")
    (tmp_path / "top" / "sub").mkdir(parents=True)
    (tmp_path / "top" / "sub" / "link").symlink_to(tmp_path / "outside")
    assert remove_tree(str(tmp_path / "top"))
    assert (tmp_path / "outside" / "precious").read_text() == "x"
    assert not remove_tree(str(tmp_path / "top"))
