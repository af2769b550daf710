"""Jobs that start by themselves: time zones, concurrency, missed fires, and supervisors that are killed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.contracts.control import Run, Selection, Stop, Up
from orchestrator.contracts.events import EventKind
from orchestrator.errors import InputError
from orchestrator.model.job import Concurrency, Job, MissedFires, Schedule
from orchestrator.model.names import Role, ServiceName
from orchestrator.model.phase import Phase
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.model.single_run import as_single_run
from orchestrator.plan.plan import Verb
from orchestrator.plan.reconcile import KEPT_RUNS
from orchestrator.scheduler.almanac import Almanac, last_due, next_due
from orchestrator.scheduler.engine import Engine
from orchestrator.testing import seeds
from orchestrator.testing.build import check, edge, project, service
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.testing.world import World
from orchestrator.values import replace
from tests.simulation.stage import do, simulate, two_lives, up

BACKUP = ServiceName("backup")
BERLIN = ZoneInfo("Europe/Berlin")
HOUR_S, DAY_S = 3600.0, 86400.0
QUICK = FakeService(exits_after_s=5)


def entry(cron: str, zone: str = "UTC", *, queue: bool = False, skip: bool = False) -> Schedule:
    concurrency = Concurrency.QUEUE if queue else Concurrency.FORBID
    return Schedule(cron, "", zone, concurrency, MissedFires.SKIP if skip else MissedFires.ONE)


def stack(*entries: Schedule, job: Service | None = None, services: Iterable[Service] = (), manual: bool = True) -> Project:
    """A job `backup`, beside `services`."""
    definition = replace(job or service("backup"), job=True)
    made = project(*services, definition)
    return replace(made, inactive=frozenset({BACKUP}), jobs={BACKUP: Job(manual, entries)})


def world(when: datetime, behaviour: FakeService = QUICK) -> Callable[[], World]:
    def make() -> World:
        here = World({"backup": behaviour})
        here.set_clock(when.timestamp())
        return here

    return make


def begun(here: World) -> list[str]:
    """When runs of the job were started, as the clock in Berlin said, to the minute (and the second, if that is not 0)."""
    found = []
    for act in here.runtime.acts:
        if act.what == "start" and here.service_of(act.container) == "backup":
            at = datetime.fromtimestamp(round(1_700_000_000.0 + act.at_s + here.clock_off_s), BERLIN)
            found.append(at.strftime("%d %H:%M:%S").removesuffix(":00"))
    return found


def told(here: World, kind: EventKind) -> list[str]:
    return [event.text for event in here.events if event.kind is kind]


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["30 2 * * *", "0 * * * *", "*/20 1-3 * * *", "15 3 * * 0"]),
    st.sampled_from(["Europe/Berlin", "UTC", ""]),
    st.sampled_from([datetime(2026, 3, 28, 22, tzinfo=BERLIN), datetime(2026, 10, 24, 22, tzinfo=BERLIN)]),
    st.lists(st.floats(-7200, 7200), min_size=1, max_size=60),
)
def test_what_an_almanac_remembers_is_what_it_would_find(
    cron: str, zone: str, begin: datetime, steps: list[float]
) -> None:
    """Around the changes of the clocks, and whichever way the machine's clock is set."""
    almanac, wanted, now = Almanac(), entry(cron, zone), begin.timestamp()
    for step in steps:
        now += step
        assert almanac.last_due(wanted, now) == last_due(wanted, now)
        assert almanac.next_due(wanted, now) == next_due(wanted, now)


def test_what_was_due_in_the_first_of_two_hours_is_known_in_the_second() -> None:
    wanted = entry("30 2 * * *", "Europe/Berlin")
    first = datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN).timestamp()
    for seconds in range(0, 7200, 90):
        assert last_due(wanted, first + seconds) == first
        assert next_due(wanted, first - 1 - seconds) == first


NOON = datetime(2026, 1, 15, 12, 0, 30, tzinfo=BERLIN)


def test_a_job_runs_at_each_time_of_its_schedule_and_no_up_starts_it() -> None:
    async def body(engine: Engine, here: World) -> None:
        assert (await up(engine, stack(entry("*/20 * * * *"), services=[service("web")]))).ok
        assert [status.service for status in engine.statuses()] == ["web"]
        await trio.sleep(HOUR_S)
        assert begun(here) == ["15 12:20", "15 12:40", "15 13:00"]
        rows = [status for status in engine.statuses() if status.service == "backup"]
        assert {(status.role, status.phase) for status in rows} == {(Role.JOB, Phase.EXITED)}
        assert told(here, EventKind.JOB_DUE)[0] == "backup is due (*/20 * * * *, UTC)"

    simulate(world(NOON), body)


def test_a_fixed_time_that_is_left_out_in_spring_is_made_up_for_at_once_and_comes_once_in_autumn() -> None:
    spring, autumn = datetime(2026, 3, 28, 23, tzinfo=BERLIN), datetime(2026, 10, 24, 23, tzinfo=BERLIN)
    for when, expected in ((spring, ["29 03:00", "30 02:30"]), (autumn, ["25 02:30", "26 02:30"])):

        async def body(engine: Engine, here: World, expected: list[str] = expected) -> None:
            await up(engine, stack(entry("30 2 * * *", "Europe/Berlin")))
            await trio.sleep(30 * HOUR_S)
            assert begun(here) == expected

        simulate(world(when), body, range(2))


def test_what_goes_by_the_clock_runs_in_both_of_the_autumns_hours() -> None:
    async def body(engine: Engine, here: World) -> None:
        await up(engine, stack(entry("0 * * * *", "Europe/Berlin")))
        await trio.sleep(5 * HOUR_S)
        assert begun(here) == ["25 01:00", "25 02:00", "25 02:00", "25 03:00", "25 04:00"]

    simulate(world(datetime(2026, 10, 25, 0, 30, tzinfo=BERLIN)), body, range(2))


def test_a_run_that_is_due_while_the_last_one_runs_is_left_out() -> None:
    async def body(engine: Engine, here: World) -> None:
        await up(engine, stack(entry("*/5 * * * *")))
        await trio.sleep(21 * 60)
        assert begun(here) == ["15 12:05", "15 12:15"]
        left_out = told(here, EventKind.JOB_LEFT_OUT)
        assert len(left_out) == 2
        assert left_out[0].startswith("backup is due, and demo-backup-job-")
        assert left_out[0].endswith(" has not ended: left out")

    simulate(world(NOON, FakeService(exits_after_s=7 * 60)), body)


def test_or_waits_for_it_when_the_schedule_says_so() -> None:
    async def body(engine: Engine, here: World) -> None:
        await up(engine, stack(entry("*/5 * * * *", queue=True)))
        await trio.sleep(21 * 60)
        assert begun(here) == ["15 12:05", "15 12:12", "15 12:19"]
        await do(engine, Verb.STOP)
        await trio.sleep(HOUR_S)
        assert len(begun(here)) == 3, "what waited went with the schedule"
        assert not engine.running()

    simulate(world(NOON, FakeService(exits_after_s=7 * 60)), body)


def test_runs_do_not_pile_up_without_an_end() -> None:
    async def body(engine: Engine, here: World) -> None:
        await up(engine, stack(entry("* * * * *", queue=True)))
        await trio.sleep(HOUR_S)
        assert len(begun(here)) == 1
        assert told(here, EventKind.JOB_LEFT_OUT)[0] == "backup is due, and 10 runs of it wait already: left out"

    simulate(world(NOON, FakeService()), body, range(2))


@pytest.mark.parametrize(("skip", "expected"), [(False, ["15 14:30:30", "15 15:00"]), (True, ["15 15:00"])])
def test_what_was_missed_is_made_up_for_by_one_run_or_left_out(skip: bool, expected: list[str]) -> None:
    async def first(engine: Engine, here: World) -> None:
        await up(engine, stack(entry("0,20 * * * *", skip=skip)))

    async def away(here: World) -> None:
        await trio.sleep(2.5 * HOUR_S)

    async def second(engine: Engine, here: World) -> None:
        assert engine.running(), "a schedule needs a supervisor"
        await trio.sleep(45 * 60)
        assert begun(here) == expected
        kind, text = (EventKind.JOB_LEFT_OUT, "left out") if skip else (EventKind.JOB_DUE, "missed at 2026-01-15 13:20 UTC")
        assert text in told(here, kind)[0]

    two_lives(world(NOON), first, second, away)


def test_a_reboot_is_a_time_when_nobody_was_there_and_what_it_depends_on_comes_first() -> None:
    services = [service("db", restart="always")]
    jobs = stack(entry("0 * * * *"), job=service("backup", edge("db")), services=services)

    async def first(engine: Engine, here: World) -> None:
        await up(engine, jobs)

    async def away(here: World) -> None:
        here.reboot()
        await trio.sleep(3 * HOUR_S)

    async def second(engine: Engine, here: World) -> None:
        await trio.sleep(60)
        assert begun(here) == ["15 15:00:30"]
        starts = [here.service_of(act.container) for act in here.runtime.acts if act.what == "start"]
        assert starts == ["db", "db", "backup"]

    two_lives(world(NOON), first, second, away)


def test_a_supervisor_that_is_killed_at_any_moment_makes_each_run_once() -> None:
    """Killed soon after the job is due: before, amid and after the making of its container."""

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 40), st.integers(0, 11), st.booleans())
    def check(steps: int, seed: int, queue: bool) -> None:
        async def main() -> None:
            here = world(NOON, FakeService(exits_after_s=90))()
            async with here.engine() as engine:
                await up(engine, stack(entry("* * * * *", queue=queue)))
                await trio.sleep(29.9)
                while not told(here, EventKind.JOB_DUE):
                    await trio.sleep(0.01)
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
            async with here.engine() as engine:
                await trio.sleep(50)
                assert len(begun(here)) == 1
                await trio.sleep(200)
                runs = begun(here)
                assert len(runs) == len(set(runs)) == 3
                assert here.runtime.alive() != ()
                await do(engine, Verb.DOWN)
                assert here.runtime.existing() == ()

        seeds.run(main, seed=seed)

    check()


def test_a_scheduled_run_waits_for_what_it_depends_on_and_starts_nothing_else() -> None:
    jobs = stack(entry("0 * * * *"), job=service("backup", edge("db")), services=[service("db")])

    async def body(engine: Engine, here: World) -> None:
        await up(engine, jobs)
        await do(engine, Verb.STOP, "db")
        await trio.sleep(HOUR_S)
        assert begun(here) == []
        assert here.runtime.alive() == ()
        (text,) = told(here, EventKind.JOB_LEFT_OUT)
        assert text.endswith(", and db, which it depends on, does not run: left out")
        await do(engine, Verb.START, "db")
        await trio.sleep(HOUR_S)
        assert begun(here) == ["15 14:00"]

    simulate(world(NOON), body)


def test_a_job_that_is_due_meanwhile_does_not_make_an_up_wait_for_ever() -> None:
    """Each run of the job is an operation. The patience of `up` with what never becomes healthy is its own."""

    def sick() -> World:
        here = world(NOON)()
        here.behave("db", FakeService(healthy_after_s=1e9, exits_after_s=25, exit_code=1))
        return here

    async def body(engine: Engine, here: World) -> None:
        db = service("db", restart="always", healthcheck=check(10, retries=9))
        await up(engine, stack(entry("* * * * *")))
        with trio.fail_after(HOUR_S):
            outcome = await up(engine, stack(entry("* * * * *"), services=[db]), wait=True)
        assert [failure.what for failure in outcome.failures] == ["db"]
        assert len(begun(here)) > 1

    simulate(sick, body)


def test_stop_ends_a_schedule_start_begins_it_and_what_came_between_was_never_missed() -> None:
    jobs = stack(entry("0 * * * *"), services=[service("web")])

    async def body(engine: Engine, here: World) -> None:
        await up(engine, jobs)
        await do(engine, Verb.STOP)
        assert not engine.running()
        await trio.sleep(3 * HOUR_S)
        await do(engine, Verb.START)
        await trio.sleep(HOUR_S)
        assert begun(here) == ["15 16:00"]
        await do(engine, Verb.STOP, "backup")
        await trio.sleep(HOUR_S)
        await do(engine, Verb.START, "backup")
        await up(engine, jobs, "web")
        await trio.sleep(HOUR_S)
        assert begun(here) == ["15 16:00", "15 18:00"]

    simulate(world(NOON), body, range(4))


def test_stop_ends_a_run_that_is_under_way() -> None:
    async def body(engine: Engine, here: World) -> None:
        await up(engine, stack(entry("0 * * * *")))
        await trio.sleep(HOUR_S)
        assert len(here.runtime.alive()) == 1
        assert (await engine.operate(Stop(Selection((BACKUP,))))).ok
        assert here.runtime.alive() == ()

    simulate(world(NOON, FakeService()), body, range(4))


def test_an_edited_schedule_begins_anew_and_one_that_is_gone_ends() -> None:
    async def body(engine: Engine, here: World) -> None:
        await up(engine, stack(entry("0 3 * * *")))
        await trio.sleep(5 * HOUR_S)
        await up(engine, stack(entry("30 * * * *")))
        await trio.sleep(HOUR_S)
        assert begun(here) == ["15 17:30"]
        await up(engine, project(service("web")))
        await trio.sleep(HOUR_S)
        assert len(begun(here)) == 1

    simulate(world(NOON), body, range(4))


def test_run_makes_one_by_hand_also_of_a_stack_that_is_not_up_and_begins_no_schedule() -> None:
    jobs = stack(entry("0 * * * *"), job=service("backup", edge("db")), services=[service("db")])

    async def body(engine: Engine, here: World) -> None:
        outcome = await engine.operate(Run(jobs, as_single_run(jobs.services[BACKUP])))
        assert outcome.container is not None
        assert outcome.container.startswith("demo-backup-job-")
        assert {status.service for status in engine.statuses()} == {"backup", "db"}
        await trio.sleep(2 * HOUR_S)
        assert len(begun(here)) == 1

    simulate(world(NOON), body, range(4))


def test_only_its_schedule_runs_a_job_that_is_not_to_be_run_by_hand_and_up_takes_no_job() -> None:
    jobs = stack(entry("0 * * * *"), manual=False)

    async def body(engine: Engine, here: World) -> None:
        with pytest.raises(InputError, match='job "backup" is not to be run by hand'):
            await engine.operate(Run(jobs, as_single_run(jobs.services[BACKUP])))
        with pytest.raises(InputError, match='"backup" is a job'):
            await engine.operate(Up(jobs, Selection((BACKUP,))))
        await up(engine, jobs)
        await trio.sleep(HOUR_S)
        assert begun(here) == ["15 13:00"]

    simulate(world(NOON), body, range(2))


def test_the_last_few_runs_stay_and_are_no_orphans() -> None:
    jobs = stack(entry("0 * * * *"))

    async def body(engine: Engine, here: World) -> None:
        await up(engine, jobs)
        await trio.sleep(9 * HOUR_S)
        assert len(begun(here)) == 9
        assert len(engine.statuses()) == KEPT_RUNS
        assert (await engine.plan(Up(jobs, remove_orphans=True))).empty
        assert not told(here, EventKind.WARNING)
        await do(engine, Verb.DOWN)
        assert engine.statuses() == ()
        assert not engine.running()
        await trio.sleep(3 * HOUR_S)
        assert len(begun(here)) == 9

    simulate(world(NOON), body, range(4))


def test_a_clock_that_is_set_forward_makes_up_for_what_it_left_out_and_one_set_back_repeats_nothing() -> None:
    async def body(engine: Engine, here: World) -> None:
        await up(engine, stack(entry("30 14 * * *", "Europe/Berlin")))
        here.clock_off_s += 2.9 * HOUR_S
        await trio.sleep(60)
        assert len(begun(here)) == 1
        here.clock_off_s -= 2 * HOUR_S
        await trio.sleep(4 * HOUR_S)
        assert len(begun(here)) == 1
        here.clock_off_s -= 12 * HOUR_S
        await trio.sleep(12 * HOUR_S)
        assert len(begun(here)) == 2, "that was a correction: the new time counts"

    simulate(world(NOON), body, range(2))


def test_a_run_that_cannot_be_made_is_told_and_the_next_one_is_tried() -> None:
    async def body(engine: Engine, here: World) -> None:
        await up(engine, stack(entry("0 * * * *"), job=service("backup", image="nowhere")))
        await trio.sleep(2 * HOUR_S)
        failed = [text for text in told(here, EventKind.WARNING) if text.startswith("the run of backup that was due at")]
        assert len(failed) == 2
        assert engine.running()

    simulate(lambda: _without_image(), body, range(2))


def _without_image() -> World:
    here = World({"backup": QUICK}, missing_images=("nowhere",))
    here.set_clock(NOON.timestamp())
    return here





def test_a_schedule_keeps_to_what_up_was_given_whatever_is_run_by_hand_meanwhile() -> None:
    given = stack(entry("0 * * * *"), job=service("backup", environment={"TO": "safe"}))
    other = stack(entry("30 * * * *"), job=service("backup", environment={"TO": "elsewhere"}))

    async def body(engine: Engine, here: World) -> None:
        await up(engine, given)
        await engine.operate(Run(other, as_single_run(other.services[BACKUP])))
        await trio.sleep(HOUR_S)
        assert begun(here) == ["15 12:00:30", "15 13:00"]
        record = here.state.load()
        assert record is not None
        assert [item.definition.service.environment["TO"] for item in record.containers] == ["elsewhere", "safe"]
        await up(engine, other)
        await trio.sleep(HOUR_S)
        assert begun(here)[2:] == ["15 13:30"]

    simulate(world(NOON), body, range(4))
