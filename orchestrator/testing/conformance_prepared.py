"""What every runtime must do with `prepare`: of a next run, and during a run of the one after it."""

from __future__ import annotations

from signal import SIGKILL

from orchestrator.contracts.runtime import Run
from orchestrator.errors import OperationError
from orchestrator.testing.conformance import Check, Lab, Workload, begin, refused, state_of


async def prepared(lab: Lab) -> Run:
    """A run that has ended, and the next one is prepared."""
    first = await begin(lab, Workload(seconds=0, exit_code=3))
    await lab.runtime.wait(first)
    await lab.runtime.prepare(first.container)
    return first


async def a_start_that_was_prepared_is_a_start(lab: Lab) -> None:
    first = await prepared(lab)
    await lab.runtime.prepare(first.container)
    assert (await state_of(lab, first.container)).run is None
    second = await lab.runtime.start(first.container)
    assert second.number == 2
    assert (await lab.runtime.wait(second)).code == 3


async def what_was_prepared_can_be_given_up(lab: Lab) -> None:
    first = await prepared(lab)
    await lab.runtime.unprepare(first.container)
    await lab.runtime.unprepare(first.container)
    second = await lab.runtime.start(first.container)
    assert (await lab.runtime.wait(second)).code == 3
    await lab.runtime.prepare(first.container)
    await lab.runtime.remove(first.container)
    assert first.container not in {state.container for state in await lab.runtime.containers()}


async def what_was_prepared_for_another_spec_is_not_what_runs(lab: Lab) -> None:
    first = await prepared(lab)
    await lab.runtime.create(await lab.make("one", Workload(seconds=0, exit_code=4)))
    assert (await lab.runtime.wait(await lab.runtime.start(first.container))).code == 4


async def what_is_prepared_during_a_run_waits_for_its_end(lab: Lab) -> None:
    first = await begin(lab, Workload())
    await lab.runtime.prepare(first.container)
    await lab.runtime.prepare(first.container)
    assert (await state_of(lab, first.container)).run == first
    with refused(OperationError):
        await lab.runtime.start(first.container)
    await lab.runtime.signal(first.container, SIGKILL)
    assert (await lab.runtime.wait(first)).signal == SIGKILL
    second = await lab.runtime.start(first.container)
    assert second.number == 2
    await lab.runtime.prepare(first.container)
    await lab.runtime.unprepare(first.container)
    await lab.runtime.prepare(first.container)
    await lab.runtime.kill(first.container)
    await lab.runtime.wait(second)
    state = await state_of(lab, first.container)
    assert (state.run, state.last_run) == (None, 2)
    await lab.runtime.unprepare(first.container)
    assert (await lab.runtime.start(first.container)).number == 3
    await lab.runtime.prepare(first.container)
    await lab.runtime.remove(first.container)
    assert first.container not in {state.container for state in await lab.runtime.containers()}


PREPARED_CHECKS: tuple[Check, ...] = (
    a_start_that_was_prepared_is_a_start,
    what_was_prepared_can_be_given_up,
    what_was_prepared_for_another_spec_is_not_what_runs,
    what_is_prepared_during_a_run_waits_for_its_end,
)
