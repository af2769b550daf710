"""Ids that may be any `container_name`: two of them are never taken for one, nor one for something else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.contracts.runtime import LogPolicy
from tests.kernel.place import place

pytestmark = pytest.mark.kernel
NAMES = ("memory.max", "tasks", "x", "x.log", "x.log.1", "x.idx", "spec.json", "A_b-c.D", "net.x", "a..b", "n" * 200)


async def test_containers_with_unusual_ids_run_side_by_side_and_leave_nothing(
    leaves_nothing_behind: None, busybox_rootfs: Path
) -> None:
    async with place(busybox_rootfs) as here:
        small = LogPolicy(max_bytes=8, max_files=3)
        runs = {
            name: await here.begin(["sh", "-c", f"for i in 1 2 3; do echo {number}; done; sleep 1000"], name, log=small)
            for number, name in enumerate(NAMES)
        }
        for name, run in runs.items():
            assert (await here.runtime.probe(run.container, ("echo", name), 10)).output.strip() == name
        await here.runtime.kill(runs["x"].container)
        await here.runtime.wait(runs["x"])
        await here.runtime.remove(runs["x"].container)
        states = {str(state.container): state for state in await here.runtime.containers()}
        assert sorted(states) == sorted(set(NAMES) - {"x"})
        assert all(state.run is not None for state in states.values())
        for number, name in enumerate(NAMES):
            if name != "x":
                await here.runtime.kill(runs[name].container)
                await here.runtime.wait(runs[name])
                assert set(here.log(name).split()) == {b"%d" % number}
                await here.runtime.remove(runs[name].container)
        assert os.listdir(f"{here.site.data_dir}/containers") == []
        assert os.listdir(f"{here.site.data_dir}/logs") == []
