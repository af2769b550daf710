"""The lab of the fakes, for `conformance`."""

from __future__ import annotations

import math

import trio

from orchestrator.contracts.runtime import OciConfig, SandboxSpec
from orchestrator.errors import EXIT_CANNOT_EXECUTE, EXIT_NOT_FOUND, CommandError
from orchestrator.model.names import ContainerId
from orchestrator.testing.conformance import Workload
from orchestrator.testing.fake_runtime import FakeRuntime, FakeService


class FakeLab:
    """`conformance.Lab` on a FakeRuntime."""

    def __init__(self) -> None:
        self.runtime = FakeRuntime({})
        self._logs: dict[ContainerId, bytes] = {}

    async def make(self, name: str, workload: Workload) -> SandboxSpec:
        await trio.lowlevel.checkpoint()
        container = ContainerId(f"lab-{name}-1")
        self.runtime.behaviours[container] = _behaviour(workload)
        self._logs[container] = workload.output.encode()
        return SandboxSpec(container, (), OciConfig({}))

    def command(
        self, *, exit_code: int = 0, output: str = "", hangs: bool = False, missing: bool = False
    ) -> tuple[str, ...]:
        if missing:
            return ("missing",)
        return ("hang",) if hangs else ("exit", str(exit_code), output)

    async def log(self, container: ContainerId) -> bytes:
        """What one run wrote: fake programs write nothing, the lab knows what they would have written."""
        await trio.lowlevel.checkpoint()
        return self._logs[container]


def _behaviour(workload: Workload) -> FakeService:
    error = None
    if workload.missing:
        error = CommandError("the program was not found", exit_code=EXIT_NOT_FOUND)
    elif workload.forbidden:
        error = CommandError("the program may not be executed", exit_code=EXIT_CANNOT_EXECUTE)
    return FakeService(
        exits_after_s=None if math.isinf(workload.seconds) else workload.seconds,
        exit_code=workload.exit_code,
        healthy_after_s=workload.listens_after_s or 0.0,
        reads_stdin=workload.reads_stdin,
        ignores_sigterm=workload.ignores_sigterm,
        start_error=error,
    )
