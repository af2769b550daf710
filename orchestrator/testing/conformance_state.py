"""What every implementation of Records and Volumes must do, as checks that the fakes and the real ones both pass.

A check is a function of a *lab*: a data directory with any number of projects. Each call of `StateLab.state` is what a new
supervisor of that project gets, after the one before was killed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from orchestrator.contracts.network import Published
from orchestrator.contracts.runtime import Exit
from orchestrator.contracts.state import Armed, ContainerRecord, Definition, ProjectRecord, Records, Volumes, Wanted
from orchestrator.errors import OperationError
from orchestrator.model.health import HealthCheck
from orchestrator.model.job import Schedule
from orchestrator.model.names import ContainerId, Instance, ProjectName, ServiceName, VolumeName
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.model.volume import Volume
from orchestrator.values import replace


class StateLab(Protocol):
    def state(self, project: str) -> Records: ...

    def volumes(self, project: str) -> Volumes: ...


StateCheck = Callable[[StateLab], None]

ONE, TWO = ContainerId("shop-db-main-1"), ContainerId("shop-db-main-2")
"""`ONE` is what project ``shop`` calls service ``db-main``, and project ``shop-db`` its service ``main``."""
DATA = Volume(VolumeName("data"), "shop_data", labels=(("team", "a"),))


def a_project(name: str = "shop") -> Project:
    db = ServiceName("db-main")
    return Project(ProjectName(name), f"/srv/{name}", {db: Service(db, "postgres", environment={"TEXT": 'a\n"{"check":"'})})


def a_record(container: ContainerId = ONE) -> ContainerRecord:
    service = ServiceName("db-main")
    definition = Definition(Service(service, "postgres"), "sha256:1", HealthCheck(("true",)), 2)
    return ContainerRecord(container, Instance(service), definition, "hash")


def _loaded(lab: StateLab, project: str = "shop") -> ProjectRecord:
    record = lab.state(project).load()
    assert record is not None, f"project {project} is unknown"
    return record


def _by_id(record: ProjectRecord) -> dict[ContainerId, ContainerRecord]:
    return {item.container: item for item in record.containers}


def a_project_that_was_never_committed_is_unknown(lab: StateLab) -> None:
    state = lab.state("shop")
    assert state.load() is None
    assert state.findings() == ()


def what_is_committed_is_what_the_next_supervisor_loads(lab: StateLab) -> None:
    record = ProjectRecord(a_project(), (a_record(ONE), a_record(TWO)))
    lab.state("shop").commit(record)
    state = lab.state("shop")
    assert state.load() == record
    assert state.findings() == ()


def an_update_replaces_or_adds_one_container(lab: StateLab) -> None:
    state = lab.state("shop")
    state.commit(ProjectRecord(a_project(), (a_record(ONE),)))
    changed = replace(a_record(ONE), wanted=Wanted.STOPPED, last_exit=Exit(code=3), published=(Published("::", 80, 80),))
    state.update(changed)
    state.update(a_record(TWO))
    assert _by_id(_loaded(lab)) == {ONE: changed, TWO: a_record(TWO)}


def a_container_may_change_its_definition(lab: StateLab) -> None:
    state = lab.state("shop")
    state.commit(ProjectRecord(a_project(), (a_record(ONE), a_record(TWO))))
    definition = a_record().definition
    assert definition is not None
    changed = replace(a_record(ONE), definition=replace(definition, image="sha256:2"))
    state.update(changed)
    again = lab.state("shop")
    record = again.load()
    assert record is not None
    assert _by_id(record) == {ONE: changed, TWO: a_record(TWO)}
    again.commit(record)
    assert _loaded(lab) == record


def what_is_forgotten_is_gone_and_the_rest_stays(lab: StateLab) -> None:
    state = lab.state("shop")
    state.commit(ProjectRecord(a_project(), (a_record(ONE), a_record(TWO))))
    state.update(a_record(ONE))
    state.forget(ONE)
    state.forget(ContainerId("never-there"))
    assert _loaded(lab) == ProjectRecord(a_project(), (a_record(TWO),))


def a_commit_replaces_everything(lab: StateLab) -> None:
    state = lab.state("shop")
    state.commit(ProjectRecord(a_project(), (a_record(ONE),)))
    state.update(replace(a_record(ONE), restarts=7))
    state.commit(ProjectRecord(replace(a_project(), working_dir="/else"), ()))
    assert _loaded(lab) == ProjectRecord(replace(a_project(), working_dir="/else"), ())


def what_is_due_is_kept_with_the_stack(lab: StateLab) -> None:
    state, project = lab.state("shop"), a_project()
    armed = Armed(project.services[ServiceName("db-main")], (Schedule("0 3 * * *"),), (1.5,))
    for jobs in ({ServiceName("db-main"): armed}, {ServiceName("db-main"): replace(armed, waiting=(2.5,))}, {}):
        state.commit(ProjectRecord(project, (a_record(ONE),), jobs=jobs))
        assert _loaded(lab).jobs == jobs


def projects_do_not_see_each_other(lab: StateLab) -> None:
    for name in ("shop", "shop-db"):
        lab.state(name).commit(ProjectRecord(a_project(name), (replace(a_record(), config_hash=name),)))
    lab.state("shop").clear()
    assert lab.state("shop").load() is None
    other = _loaded(lab, "shop-db")
    assert (other.project, other.containers[0].config_hash) == (a_project("shop-db"), "shop-db")


def a_volume_stays_the_same_until_it_is_removed(lab: StateLab) -> None:
    volumes = lab.volumes("shop")
    assert (volumes.identity(DATA), volumes.existing([DATA])) == (None, ())
    path = volumes.ensure(DATA)
    identity = volumes.identity(DATA)
    assert identity
    assert volumes.existing([DATA]) == (DATA,)
    assert (lab.volumes("shop").ensure(DATA), lab.volumes("shop").identity(DATA)) == (path, identity)
    assert volumes.remove(DATA)
    assert not volumes.remove(DATA)
    assert volumes.identity(DATA) is None
    volumes.ensure(DATA)
    assert volumes.identity(DATA) not in (None, identity)


def a_check_changes_nothing_and_refuses_what_ensure_would(lab: StateLab) -> None:
    volumes = lab.volumes("shop")
    external, other = replace(DATA, external=True), replace(DATA, options=(("type", "tmpfs"), ("device", "tmpfs")))
    volumes.check(DATA)
    assert volumes.existing([DATA]) == ()
    assert _refuses(volumes, external)
    volumes.ensure(DATA)
    volumes.check(DATA)
    volumes.check(external)
    assert _refuses(volumes, other)


def _refuses(volumes: Volumes, volume: Volume) -> bool:
    said = []
    for ask in (volumes.check, volumes.ensure):
        try:
            ask(volume)
        except OperationError as error:
            said.append(error.message)
    return len(said) == 2 and said[0] == said[1]


def external_volumes_are_used_and_neither_made_nor_removed(lab: StateLab) -> None:
    volumes, external = lab.volumes("shop-db"), replace(DATA, external=True)
    message = ""
    try:
        volumes.ensure(external)
    except OperationError as error:
        message = error.message
    assert DATA.full_name in message, "an external volume was made"
    path = lab.volumes("shop").ensure(DATA)
    assert volumes.ensure(external) == path
    assert volumes.remove(external) is False
    assert volumes.existing([external]) == (external,)
    assert volumes.owned() == ()


def a_project_finds_its_volumes_without_a_record(lab: StateLab) -> None:
    shop, other = lab.volumes("shop"), lab.volumes("shop-db")
    shop.ensure(DATA)
    shop.ensure_anonymous(ONE, "/var")
    other.ensure(replace(DATA, full_name="shop-db_data"))
    other.ensure(DATA)  # Of another project: used, and not its own.
    assert lab.volumes("shop").owned() == (DATA,)
    assert lab.volumes("shop-db").owned() == (replace(DATA, full_name="shop-db_data"),)


def anonymous_volumes_belong_to_one_container_of_one_project(lab: StateLab) -> None:
    shop, other = lab.volumes("shop"), lab.volumes("shop-db")
    paths = [
        shop.ensure_anonymous(ONE, "/a"),
        shop.ensure_anonymous(ONE, "/b"),
        shop.ensure_anonymous(TWO, "/a"),
        other.ensure_anonymous(ONE, "/a"),
    ]
    assert len(set(paths)) == 4
    assert lab.volumes("shop").ensure_anonymous(ONE, "/a") == paths[0]
    assert shop.with_anonymous([ONE, TWO]) == {ONE, TWO}
    assert other.with_anonymous([ONE, TWO]) == {ONE}
    shop.remove_anonymous(ONE)
    assert shop.with_anonymous([ONE, TWO]) == {TWO}
    # What is left of the two projects, told by removing it.
    assert (shop.remove_unclaimed(()), other.remove_unclaimed(())) == (1, 1)


def unclaimed_anonymous_volumes_are_those_of_no_container_of_the_project(lab: StateLab) -> None:
    shop, other = lab.volumes("shop"), lab.volumes("shop-db")
    for volumes in (shop, other):
        volumes.ensure_anonymous(ONE, "/a")
        volumes.ensure_anonymous(TWO, "/a")
    assert shop.remove_unclaimed([ONE]) == 1
    assert shop.remove_unclaimed([ONE, TWO]) == 0
    assert other.remove_unclaimed([ONE, TWO]) == 0
    assert other.remove_unclaimed(()) == 2


def there_is_nothing_old_to_take_over(lab: StateLab) -> None:
    path = lab.volumes("shop").ensure_anonymous(ONE, "/a")
    assert lab.volumes("shop").take_over([ONE]) == ()
    assert lab.volumes("shop").ensure_anonymous(ONE, "/a") == path


STATE_CHECKS: tuple[StateCheck, ...] = (
    a_project_that_was_never_committed_is_unknown,
    what_is_committed_is_what_the_next_supervisor_loads,
    an_update_replaces_or_adds_one_container,
    a_container_may_change_its_definition,
    what_is_forgotten_is_gone_and_the_rest_stays,
    a_commit_replaces_everything,
    what_is_due_is_kept_with_the_stack,
    projects_do_not_see_each_other,
)

VOLUME_CHECKS: tuple[StateCheck, ...] = (
    a_volume_stays_the_same_until_it_is_removed,
    external_volumes_are_used_and_neither_made_nor_removed,
    a_check_changes_nothing_and_refuses_what_ensure_would,
    a_project_finds_its_volumes_without_a_record,
    anonymous_volumes_belong_to_one_container_of_one_project,
    unclaimed_anonymous_volumes_are_those_of_no_container_of_the_project,
    there_is_nothing_old_to_take_over,
)
