"""What every runtime must do when limits of a container change, as `conformance` has it."""

from __future__ import annotations

from orchestrator.errors import OperationError
from orchestrator.model.names import ContainerId
from orchestrator.testing.conformance import Check, Lab, Workload, begin, refused, state_of


async def limits_change_under_a_run_that_goes_on(lab: Lab) -> None:
    run = await begin(lab, Workload())
    for limits in ({"pids": {"limit": 64}, "memory": {"limit": 64 << 20, "swap": 64 << 20}}, {"pids": {"limit": 100}}):
        await lab.runtime.update(run.container, limits)
        assert (await state_of(lab, run.container)).run == run
    await lab.runtime.kill(run.container)
    await lab.runtime.wait(run)
    await lab.runtime.update(run.container, {"pids": {"limit": 50}})
    assert (await lab.runtime.start(run.container)).number == 2


async def limits_of_what_does_not_exist_cannot_change(lab: Lab) -> None:
    with refused(OperationError):
        await lab.runtime.update(ContainerId("nobody"), {"pids": {"limit": 64}})


LIMITS_CHECKS: tuple[Check, ...] = (
    limits_change_under_a_run_that_goes_on,
    limits_of_what_does_not_exist_cannot_change,
)
