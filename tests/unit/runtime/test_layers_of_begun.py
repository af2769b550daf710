"""Image layers that a container is about to use, while another one that goes lets go of what nobody uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from orchestrator.contracts.runtime import SandboxSpec
from orchestrator.model.names import ContainerId
from orchestrator.runtime.client import MonitorRuntime


async def test_layers_of_a_container_that_is_being_made_are_in_use() -> None:
    runtime = cast(Any, MonitorRuntime.__new__(MonitorRuntime))
    seen: list[bool] = []

    class Session:
        async def layers(self, paths: Sequence[str], *, plain: bool) -> tuple[int, ...]:
            seen.extend(runtime._uses_layer(plain, path) for path in paths)
            return tuple(range(len(paths)))

    runtime._session, runtime._sandboxes, runtime._begun = Session(), {}, []
    spec = SandboxSpec(ContainerId("a"), ("/layer/2", "/layer/1"), cast(Any, {}))
    assert await runtime._layers(spec) == (0, 1)
    assert seen == [True, True]
    assert not runtime._uses_layer(True, "/layer/1")
