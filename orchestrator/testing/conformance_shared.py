"""What every runtime must do with containers that are in namespaces of others, as `conformance` has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIGKILL

from orchestrator.contracts.runtime import Run
from orchestrator.errors import OperationError
from orchestrator.model.names import ContainerId
from orchestrator.testing.conformance import Check, Lab, Workload
from orchestrator.values import replace


@contextmanager
def _not_done() -> Iterator[None]:
    """The block has to raise OperationError."""
    try:
        yield
    except OperationError:
        return
    raise AssertionError("no OperationError")


async def _run_of(lab: Lab, container: ContainerId) -> Run | None:
    return next(state.run for state in await lab.runtime.containers() if state.container == container)


async def who_shares_with_nobody_that_is_there_is_not_made(lab: Lab) -> None:
    spec = replace(await lab.make("one", Workload()), shares={"network": ContainerId("nobody-of-that-name")})
    with _not_done():
        await lab.runtime.create(spec)
    assert await lab.runtime.containers() == ()


async def who_shares_a_network_needs_the_other_to_be_and_not_to_run(lab: Lab) -> None:
    owner = await lab.make("owner", Workload())
    namespace = await lab.runtime.create(owner)
    guest = replace(await lab.make("guest", Workload()), shares={"network": owner.container})
    assert await lab.runtime.create(guest) == namespace
    run = await lab.runtime.start(guest.container)
    first = await lab.runtime.start(owner.container)
    await lab.runtime.kill(owner.container)
    await lab.runtime.wait(first)
    assert (await _run_of(lab, guest.container)) == run


async def who_is_in_the_pid_namespace_of_a_run_ends_with_it(lab: Lab) -> None:
    owner = await lab.make("owner", Workload())
    await lab.runtime.create(owner)
    guest = replace(await lab.make("guest", Workload()), shares={"pid": owner.container})
    await lab.runtime.create(guest)
    with _not_done():
        await lab.runtime.start(guest.container)
    for _ in range(2):
        first = await lab.runtime.start(owner.container)
        run = await lab.runtime.start(guest.container)
        await lab.runtime.kill(owner.container)
        assert (await lab.runtime.wait(run)).signal == SIGKILL
        await lab.runtime.wait(first)


SHARED_CHECKS: tuple[Check, ...] = (
    who_shares_with_nobody_that_is_there_is_not_made,
    who_shares_a_network_needs_the_other_to_be_and_not_to_run,
    who_is_in_the_pid_namespace_of_a_run_ends_with_it,
)
