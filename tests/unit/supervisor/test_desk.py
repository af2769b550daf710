"""One operation at a time, and it belongs to the project, not to the client that asked."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from orchestrator.errors import BugReport, BusyError, OperationError
from orchestrator.model.names import ProjectName
from orchestrator.supervisor.desk import Desk


def desk(nursery: trio.Nursery) -> Desk:
    return Desk(ProjectName("demo"), nursery)


async def test_the_result_of_an_operation_reaches_its_client(nursery: trio.Nursery) -> None:
    async def work() -> int:
        return 7

    assert await desk(nursery).perform("up", 1, work) == 7


async def test_a_second_operation_is_refused_with_who_is_at_it(nursery: trio.Nursery, mock_clock: MockClock) -> None:
    subject = desk(nursery)
    gate = trio.Event()
    nursery.start_soon(partial(subject.perform, "up", 1234, gate.wait))
    await wait_all_tasks_blocked()
    mock_clock.jump(3)
    with pytest.raises(BusyError, match=r'project demo is busy: "up" \(by process 1234\) has been running for 3'):
        await subject.perform("down", 1, gate.wait)
    gate.set()
    await wait_all_tasks_blocked()
    assert not subject.busy


async def test_an_operation_goes_on_when_its_client_leaves(nursery: trio.Nursery) -> None:
    subject = desk(nursery)
    gate, finished = trio.Event(), trio.Event()

    async def work() -> None:
        await gate.wait()
        finished.set()

    with trio.CancelScope() as client:
        nursery.start_soon(wait_then_cancel, client)
        await subject.perform("up", 1, work)
    assert subject.busy
    gate.set()
    await finished.wait()


async def test_an_operation_that_nobody_waits_for_gives_way(nursery: trio.Nursery) -> None:
    subject = desk(nursery)
    with trio.CancelScope() as client:
        nursery.start_soon(wait_then_cancel, client)
        await subject.perform("up", 1, trio.sleep_forever, gone=lambda: client.cancel_called)

    async def down() -> str:
        return "removed"

    assert await subject.perform("down", 2, down) == "removed"


async def wait_then_cancel(scope: trio.CancelScope) -> None:
    await wait_all_tasks_blocked()
    scope.cancel()


async def test_stop_may_interrupt_and_the_interrupted_client_is_told(nursery: trio.Nursery) -> None:
    subject = desk(nursery)
    errors: list[OperationError] = []

    async def up() -> None:
        with pytest.raises(OperationError) as caught:
            await subject.perform("up", 1, trio.sleep_forever)
        errors.append(caught.value)

    async def stop() -> str:
        return "stopped"

    nursery.start_soon(up)
    await wait_all_tasks_blocked()
    assert await subject.perform("stop", 2, stop, interrupt=True) == "stopped"
    await wait_all_tasks_blocked()
    assert errors[0].exit_code == 130
    assert errors[0].message == '"up" was interrupted'


async def test_a_bug_in_an_operation_is_told_and_does_not_end_the_supervisor(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    async def work() -> None:
        raise ZeroDivisionError("oops")

    subject = desk(nursery)
    with pytest.raises(BugReport, match=r'"up" failed: ZeroDivisionError: oops') as caught:
        await subject.perform("up", 1, work)
    assert caught.value.exit_code == 125
    assert "Traceback" in capsys.readouterr().err
    assert not subject.busy
