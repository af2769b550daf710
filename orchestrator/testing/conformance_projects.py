"""What every runtime must do with two projects in one data directory that have containers of the same ids."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from orchestrator.testing.conformance import DEADLINE_S, Lab, Workload, begin, state_of

ProjectCheck = Callable[[Lab, Lab], Awaitable[None]]


async def each_project_has_its_own_containers(one: Lab, other: Lab) -> None:
    mine, theirs = await begin(one, Workload()), await begin(other, Workload(seconds=0, exit_code=9))
    assert mine.container == theirs.container
    assert (await other.runtime.wait(theirs)).code == 9
    assert (await state_of(one, mine.container)).run == mine
    assert (await state_of(other, theirs.container)).last_exit == await other.runtime.wait(theirs)


async def a_kill_in_one_project_is_not_felt_in_the_other(one: Lab, other: Lab) -> None:
    mine, theirs = await begin(one, Workload()), await begin(other, Workload())
    await one.runtime.kill(mine.container)
    await one.runtime.wait(mine)
    assert (await state_of(other, theirs.container)).run == theirs
    assert (await other.runtime.probe(theirs.container, other.command(output="here"), 10.0)).ok


async def what_one_project_removes_the_other_keeps(one: Lab, other: Lab) -> None:
    mine, theirs = await begin(one, Workload(output="mine")), await begin(other, Workload(output="theirs"))
    await one.runtime.remove(mine.container)
    assert await one.runtime.containers() == ()
    assert (await state_of(other, theirs.container)).run == theirs
    await other.runtime.kill(theirs.container)
    await other.runtime.wait(theirs)
    assert (await other.runtime.start(theirs.container)).number == 2


async def each_project_has_its_own_log(one: Lab, other: Lab) -> None:
    mine = await begin(one, Workload(seconds=0, output="mine"))
    theirs = await begin(other, Workload(seconds=0, output="theirs"))
    await one.runtime.wait(mine)
    await other.runtime.wait(theirs)
    assert (await one.log(mine.container), await other.log(theirs.container)) == (b"mine", b"theirs")


PROJECT_CHECKS: tuple[ProjectCheck, ...] = (
    each_project_has_its_own_containers,
    a_kill_in_one_project_is_not_felt_in_the_other,
    what_one_project_removes_the_other_keeps,
    each_project_has_its_own_log,
)


async def run_project_check(check: ProjectCheck, one: Lab, other: Lab) -> None:
    """As `run_check`, for a check with two projects."""
    with trio.fail_after(DEADLINE_S):
        await check(one, other)
