"""The real runtime, with real processes, keeps the contract that the fake one keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.contracts.runtime import Runtime, SandboxSpec
from orchestrator.model.names import ContainerId
from orchestrator.testing.conformance import (
    RUNTIME_CHECKS,
    Check,
    Workload,
    run_check,
    shell_command,
)
from orchestrator.testing.conformance_limits import LIMITS_CHECKS
from orchestrator.testing.conformance_looks import LOOK_CHECKS
from orchestrator.testing.conformance_paused import PAUSE_CHECKS
from orchestrator.testing.conformance_prepared import PREPARED_CHECKS
from orchestrator.testing.conformance_projects import PROJECT_CHECKS, ProjectCheck, run_project_check
from orchestrator.testing.conformance_shared import SHARED_CHECKS
from tests.kernel.place import Place, place, two_places

pytestmark = pytest.mark.kernel


class RealLab:
    """`conformance.Lab` on a monitor and busybox containers."""

    def __init__(self, here: Place) -> None:
        self._here = here
        self.runtime: Runtime = here.runtime

    async def make(self, name: str, workload: Workload) -> SandboxSpec:
        return self._here.spec(workload.argv(), f"rt-{name}-1")

    def command(
        self, *, exit_code: int = 0, output: str = "", hangs: bool = False, missing: bool = False
    ) -> tuple[str, ...]:
        return shell_command(exit_code=exit_code, output=output, hangs=hangs, missing=missing)

    async def log(self, container: ContainerId) -> bytes:
        return self._here.log(container)


CHECKS = RUNTIME_CHECKS + LIMITS_CHECKS + SHARED_CHECKS + PAUSE_CHECKS + PREPARED_CHECKS + LOOK_CHECKS


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_the_real_runtime(check: Check, leaves_nothing_behind: None, busybox_rootfs: Path) -> None:
    async with place(busybox_rootfs) as here:
        await run_check(check, RealLab(here))


@pytest.mark.parametrize("check", PROJECT_CHECKS, ids=lambda check: check.__name__)
async def test_two_real_runtimes_on_one_data_directory(
    check: ProjectCheck, leaves_nothing_behind: None, busybox_rootfs: Path
) -> None:
    async with two_places(busybox_rootfs) as (one, other):
        await run_project_check(check, RealLab(one), RealLab(other))
