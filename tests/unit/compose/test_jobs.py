"""`jobs:` as the runtime takes them."""

from __future__ import annotations

import pytest

from orchestrator.compose.model.choice import select
from orchestrator.model.job import Concurrency, Job, MissedFires, Schedule
from orchestrator.model.names import ServiceName
from tests.unit.compose.stacks import Stack

SERVICES = "services: {web: {image: i}, db: {image: d}, cold: {image: c, profiles: [p]}}\n"
BACKUP = ServiceName("backup")


def schedule(text: str) -> str:
    return f"{SERVICES}jobs: {{backup: {{image: b, triggers: {{schedule: [{text}]}}}}}}"


def test_a_job_is_a_service_that_no_up_takes_with_what_starts_it(stack: Stack) -> None:
    text = SERVICES + "jobs: {backup: {image: b, depends_on: [db], triggers: {schedule: ['@Weekly', {cron: 0  3 * * *," \
        " timezone: Europe/Berlin, concurrency: queue, missed_fires: skip}]}}}"  # fmt: skip
    project = stack.load(text).project
    weekly = Schedule("0 0 * * 0", "@Weekly")
    nightly = Schedule("0 3 * * *", "0  3 * * *", "Europe/Berlin", Concurrency.QUEUE, MissedFires.SKIP)
    assert project.jobs == {BACKUP: Job(True, (weekly, nightly))}
    assert project.services[BACKUP].place == "jobs.backup"
    assert project.services[BACKUP].networks.keys() == {"default"}
    assert project.inactive == {"backup", "cold"}
    assert project.scheduled == (BACKUP,)
    assert select(project) == ("web", "db")
    assert select(project, ("backup",)) == ("db", "backup")


def test_manual_is_true_unless_it_is_said_not_to_be(stack: Stack) -> None:
    text = "jobs: {a: {image: i, triggers: {manual: true}}, b: {image: i, triggers: {manual: 'no', schedule: ['@daily']}}}"
    jobs = stack.load(SERVICES + text).project.jobs
    assert [job.manual for job in jobs.values()] == [True, False]


def test_a_job_of_a_profile_that_is_off_is_known_and_not_put_on_its_schedule(stack: Stack) -> None:
    text = SERVICES + "jobs: {backup: {image: b, profiles: [nights], triggers: {schedule: ['@daily']}}}"
    assert stack.load(text).project.scheduled == ()
    assert stack.load(text, profiles=("nights",)).project.scheduled == (BACKUP,)


def test_who_names_a_job_needs_what_it_depends_on_also_of_a_profile_that_is_off(stack: Stack) -> None:
    text = SERVICES + "jobs: {backup: {image: b, depends_on: [cold], triggers: {manual: true}}}"
    assert "backup" in stack.load(text, services=("backup",)).project.services


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("'* * * *'", '"* * * *" has 4 fields, and needs five'),
        ("'0 * * * * *'", '"0 * * * * *" has 6 fields'),
        ("'61 * * * *'", '"61 * * * *" is not a time as crontab(5) has it: bad minute'),
        ("'0 0 31 2 *'", "bad day-of-month"),
        ("'@reboot'", '"@reboot" is not one of @yearly'),
        ("{cron: '@daily', timezone: Nowhere/City}", '"Nowhere/City" is not a time zone that this machine knows'),
        ("{cron: '@daily', timezone: ../passwd}", "is not a time zone"),
    ],
)
def test_what_is_no_time_is_an_error_at_its_place(stack: Stack, written: str, message: str) -> None:
    (found,) = stack.errors(schedule(written)).diagnostics
    assert message in found.message
    assert found.path.startswith("jobs.backup.triggers.schedule[0].")
    assert (found.line, found.column > 0) == (2, True)


def test_what_a_job_refers_to_must_be_there(stack: Stack) -> None:
    text = SERVICES + "jobs: {backup: {image: b, depends_on: [nobody], networks: [nowhere], triggers: {manual: true}}}"
    paths = {found.path for found in stack.errors(text).diagnostics}
    assert paths == {"jobs.backup.depends_on", "jobs.backup.networks.nowhere"}


def test_a_name_is_one_of_a_service_or_of_a_job(stack: Stack) -> None:
    (found,) = stack.errors(SERVICES + "jobs: {web: {image: b, triggers: {manual: true}}}").diagnostics
    assert (found.path, found.message) == ("jobs.web", '"web" is a service already')
    assert len(found.related) == 1


def test_a_job_that_cannot_be_read_is_not_said_to_be_none(stack: Stack) -> None:
    text = SERVICES + "jobs: {backup: {image: b, schedule: '@daily'}}"
    told = {found.message for found in stack.errors(text, services=("backup",)).diagnostics}
    assert told == {'"schedule" is not an attribute of a job', '"triggers" is missing from a job'}


def test_env_files_of_a_job_are_read(stack: Stack) -> None:
    stack.write("job.env", "A=1\n")
    text = SERVICES + "jobs: {backup: {image: b, env_file: job.env, triggers: {manual: true}}}"
    assert stack.load(text).project.services[BACKUP].environment == {"A": "1"}
