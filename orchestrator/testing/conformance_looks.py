"""What every runtime must do when it looks at a container from outside, as `conformance` has it."""

from __future__ import annotations

import math

import trio

from orchestrator.errors import OperationError
from orchestrator.model.health import DeclaredPort, Look, LookKind
from orchestrator.model.names import ContainerId
from orchestrator.testing.conformance import Check, Lab, Workload

LISTENS = Look(LookKind.LISTENING, (DeclaredPort(8080),))


async def a_look_for_a_listener_ends_when_there_is_one(lab: Lab) -> None:
    spec = await lab.make("one", Workload(listens_after_s=0.3))
    await lab.runtime.create(spec)
    await lab.runtime.start(spec.container)
    began_s = trio.current_time()
    assert (await lab.runtime.look(spec.container, LISTENS, math.inf)).ok
    assert trio.current_time() - began_s > 0.2
    with trio.fail_after(1):
        assert (await lab.runtime.look(spec.container, LISTENS, math.inf)).ok


async def a_look_that_sees_nothing_ends_with_its_time(lab: Lab) -> None:
    spec = await lab.make("one", Workload(listens_after_s=1000))
    await lab.runtime.create(spec)
    await lab.runtime.start(spec.container)
    began_s = trio.current_time()
    result = await lab.runtime.look(spec.container, LISTENS, 0.2)
    assert (result.exit_code, result.output) == (None, "does not listen on 8080")
    assert trio.current_time() - began_s > 0.15


async def a_file_that_is_there_is_seen(lab: Lab) -> None:
    spec = await lab.make("one", Workload())
    await lab.runtime.create(spec)
    await lab.runtime.start(spec.container)
    assert (await lab.runtime.look(spec.container, Look(LookKind.FILE, path="/bin/sh"), 5)).ok


async def there_is_nothing_to_look_at_where_nothing_runs(lab: Lab) -> None:
    spec = await lab.make("one", Workload())
    await lab.runtime.create(spec)
    for name in (spec.container, ContainerId("nobody")):
        try:
            await lab.runtime.look(name, LISTENS, 5)
        except OperationError:
            continue
        raise AssertionError("no OperationError")


LOOK_CHECKS: tuple[Check, ...] = (
    a_look_for_a_listener_ends_when_there_is_one,
    a_look_that_sees_nothing_ends_with_its_time,
    a_file_that_is_there_is_seen,
    there_is_nothing_to_look_at_where_nothing_runs,
)
