"""What every runtime must do with a run that stands still, as `conformance` has it."""

from __future__ import annotations

from signal import SIGTERM

import trio

from orchestrator.errors import OperationError
from orchestrator.model.names import ContainerId
from orchestrator.testing.conformance import Check, Lab, Workload, heeds


async def what_is_paused_heeds_a_signal_when_it_goes_on(lab: Lab) -> None:
    spec = await lab.make("one", Workload())
    await lab.runtime.create(spec)
    run = await lab.runtime.start(spec.container)
    await heeds(lab, run)
    for _ in range(2):
        await lab.runtime.pause(spec.container)
    await lab.runtime.signal(spec.container, SIGTERM)
    with trio.move_on_after(0.2) as scope:
        await lab.runtime.wait(run)
    assert scope.cancelled_caught, "it was to stand still"
    for _ in range(2):
        await lab.runtime.resume(spec.container)
    assert (await lab.runtime.wait(run)).status == 128 + SIGTERM


async def what_is_paused_can_be_killed_and_started_anew(lab: Lab) -> None:
    spec = await lab.make("one", Workload())
    await lab.runtime.create(spec)
    run = await lab.runtime.start(spec.container)
    await lab.runtime.pause(spec.container)
    await lab.runtime.kill(spec.container)
    assert (await lab.runtime.wait(run)).status == 137
    await lab.runtime.resume(spec.container)
    again = await lab.runtime.start(spec.container)
    assert again.number == 2
    await lab.runtime.pause(spec.container)
    await lab.runtime.remove(spec.container)
    assert await lab.runtime.containers() == ()


async def what_does_not_run_cannot_be_paused(lab: Lab) -> None:
    spec = await lab.make("one", Workload())
    await lab.runtime.create(spec)
    for name in (spec.container, ContainerId("nobody")):
        try:
            await lab.runtime.pause(name)
        except OperationError:
            continue
        raise AssertionError("no OperationError")


PAUSE_CHECKS: tuple[Check, ...] = (
    what_is_paused_heeds_a_signal_when_it_goes_on,
    what_is_paused_can_be_killed_and_started_anew,
    what_does_not_run_cannot_be_paused,
)
