"""When one end ends all, and the exit code."""

from __future__ import annotations

import pytest

from orchestrator.cli.cascade import Cascade
from orchestrator.contracts.events import ContainerStatus, Event, EventKind
from orchestrator.contracts.runtime import Exit
from orchestrator.model.health import Health
from orchestrator.model.names import ContainerId, ServiceName
from orchestrator.model.phase import Phase
from orchestrator.values import replace

ALL = ("db", "migrate", "tests")


def exited(service: str, code: int, *, restarts: bool = False, kind: EventKind = EventKind.CONTAINER_EXITED) -> Event:
    detail = {"exit_status": code, "restarts": restarts}
    return Event(kind, "", 1.0, ServiceName(service), ContainerId(f"demo-{service}-1"), detail)


def stopped(service: str, code: int) -> Event:
    return exited(service, code, kind=EventKind.CONTAINER_STOPPED)


def status(service: str, phase: Phase, code: int | None) -> ContainerStatus:
    exit = Exit(code=code) if code is not None else None
    container = ContainerId(f"demo-{service}-1")
    return ContainerStatus(ServiceName(service), container, "host", phase, Health.NONE, exit=exit)


def test_the_first_end_stops_all_once_and_gives_the_code() -> None:
    cascade = Cascade(ALL)
    assert cascade.exit_code == 0
    assert cascade.see(exited("db", 3)) == "stopping: db has ended with 3"
    assert cascade.see(exited("tests", 4)) is None
    assert cascade.see(stopped("migrate", 143)) is None
    assert cascade.exit_code == 3


def test_a_stop_by_somebody_is_an_end() -> None:
    cascade = Cascade(ALL)
    assert cascade.see(stopped("db", 143)) is not None
    assert cascade.exit_code == 143


def test_what_will_be_started_again_has_not_ended() -> None:
    cascade = Cascade(ALL)
    assert cascade.see(exited("db", 1, restarts=True)) is None
    assert cascade.see(exited("elsewhere", 1)) is None
    assert cascade.see(Event(EventKind.CONTAINER_STARTED, "", 1.0, ServiceName("db"))) is None
    assert cascade.exit_code == 0


def test_only_failures_count_when_that_is_asked_for() -> None:
    cascade = Cascade(ALL, only_failures=True)
    assert cascade.see(exited("migrate", 0)) is None
    assert cascade.see(exited("db", 111)) == "stopping: db has ended with 111"
    assert cascade.exit_code == 111


def test_the_code_is_that_of_the_named_service_also_when_another_ends_first_and_it_is_stopped_for_it() -> None:
    cascade = Cascade(ALL, code_from="tests")
    assert cascade.see(exited("db", 0)) is not None
    assert cascade.see(stopped("tests", 143)) is None
    assert cascade.see(exited("tests", 9)) is None
    assert cascade.exit_code == 143


def test_a_job_that_others_wait_for_does_not_end_the_tests() -> None:
    cascade = Cascade(ALL, code_from="tests", completing={"migrate"})
    assert cascade.see(exited("migrate", 0)) is None
    assert cascade.see(exited("tests", 5)) == "stopping: tests has ended with 5"
    assert cascade.exit_code == 5
    failing = Cascade(ALL, code_from="tests", completing={"migrate"})
    assert failing.see(exited("migrate", 2)) is not None
    strict = Cascade(ALL, completing={"migrate"})
    assert strict.see(exited("migrate", 0)) is not None


@pytest.mark.parametrize(("code", "expected"), [(0, 1), (7, 7)])
def test_tests_that_never_ran_have_not_passed(code: int, expected: int) -> None:
    cascade = Cascade(ALL, code_from="tests")
    cascade.see(exited("db", code))
    assert cascade.found([status("tests", Phase.BLOCKED, None)]) is None
    assert cascade.exit_code == expected


def test_a_look_finds_how_the_named_service_ended_and_no_other() -> None:
    cascade = Cascade(ALL, code_from="tests")
    assert cascade.found([status("db", Phase.EXITED, 1), status("tests", Phase.RUNNING, 3)]) is None
    assert cascade.found([status("tests", Phase.FAILED, 3)]) == "stopping: tests has ended with 3"
    assert cascade.exit_code == 3
    assert Cascade(ALL).found([status("db", Phase.EXITED, 1)]) is None


def test_an_end_whose_status_was_lost_is_a_failure() -> None:
    cascade = Cascade(ALL, only_failures=True)
    lost = Event(EventKind.CONTAINER_EXITED, "", 1.0, ServiceName("db"), ContainerId("demo-db-1"))
    assert cascade.see(lost) is not None
    assert cascade.exit_code == 255


def test_what_was_found_refused_has_ended_with_that() -> None:
    cascade = Cascade(ALL, code_from="tests")
    refused = replace(status("tests", Phase.FAILED, None), exit=None, refused=127)
    assert cascade.found([refused]) is not None
    assert cascade.exit_code == 127
