"""What every runtime must do when limits or files of a container change, as `conformance` has it."""

from __future__ import annotations

from orchestrator.contracts.runtime import GeneratedFile
from orchestrator.errors import OperationError
from orchestrator.model.names import ContainerId
from orchestrator.testing.conformance import Check, Lab, Workload, begin, refused, state_of
from orchestrator.values import replace


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


async def files_change_under_a_run_that_goes_on(lab: Lab) -> None:
    spec = await lab.make("one", Workload())
    made = replace(spec, files=(*spec.files, GeneratedFile("/etc/renewed", b"old"), GeneratedFile("/etc/kept", b"old")))
    await lab.runtime.create(made)
    run = await lab.runtime.start(spec.container)
    new = (GeneratedFile("/etc/renewed", b"new"), GeneratedFile("/etc/unknown", b"new"))
    for _ in range(2):
        await lab.runtime.renew_files(spec.container, new)
    assert (await state_of(lab, spec.container)).run == run
    await lab.runtime.kill(spec.container)
    await lab.runtime.wait(run)
    await lab.runtime.renew_files(spec.container, new)
    assert (await lab.runtime.start(spec.container)).number == 2
    with refused(OperationError):
        await lab.runtime.renew_files(ContainerId("nobody"), new)


async def what_runs_out_of_memory_was_killed_for_that_and_starts_anew(lab: Lab) -> None:
    run = await begin(lab, Workload())
    await lab.runtime.exhaust(run.container)
    ended = await lab.runtime.wait(run)
    assert (ended.signal, ended.oom_killed) == (9, True)
    await lab.runtime.update(run.container, {"memory": {"limit": 64 << 20, "swap": 64 << 20}})
    again = await lab.runtime.start(run.container)
    assert (await state_of(lab, run.container)).run == again
    await lab.runtime.pause(run.container)
    await lab.runtime.exhaust(run.container)
    assert (await lab.runtime.wait(again)).oom_killed
    for name in (run.container, ContainerId("nobody")):
        with refused(OperationError):
            await lab.runtime.exhaust(name)


LIMITS_CHECKS: tuple[Check, ...] = (
    limits_change_under_a_run_that_goes_on,
    limits_of_what_does_not_exist_cannot_change,
    files_change_under_a_run_that_goes_on,
    what_runs_out_of_memory_was_killed_for_that_and_starts_anew,
)
