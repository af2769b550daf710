"""A supervisor for tests to kill: ``python -m tests.kernel.stand_in ROOT ROOTFS RESPAWN NAME SCRIPT``.

Opens the runtime of the place ROOT, starts the container NAME with a shell script, writes its own pid and the monitor's
to ROOT/supervisors (a line each), and stays until it is killed. One that finds the container running waits for its end,
writes the exit status to ROOT/exits, removes the container and ends.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import trio

from orchestrator.contracts.runtime import SandboxSpec
from orchestrator.model.names import ContainerId
from orchestrator.runtime.client import open_runtime
from orchestrator.runtime.host_check import find_host
from tests.kernel.place import config_of, site_at


async def main(root: Path, rootfs: str, respawn: str, name: str, script: str) -> None:
    argv = (sys.executable, "-c", f"import sys; sys.path.insert(0, {os.getcwd()!r})\n" + _AGAIN, *sys.argv[1:])
    async with open_runtime(site_at(root), find_host(), respawn_argv=argv if respawn == "yes" else None) as runtime:
        container = ContainerId(name)
        found = [state.run for state in await runtime.containers() if state.run is not None]
        if not found:
            await runtime.create(SandboxSpec(container, (rootfs,), config_of(["sh", "-c", script])))
            await runtime.start(container)
            await runtime.keep("socket:dns", [0])
        with open(root / "supervisors", "a") as file:
            file.write(f"{os.getpid()} {runtime.monitor_pid}\n")
        if not found:
            await trio.sleep_forever()
        exit_ = await runtime.wait(found[0])
        await runtime.remove(container)
    (root / "exits").write_text(f"{exit_.status}")


_AGAIN = "from tests.kernel import stand_in; stand_in.run()"


def run() -> None:
    root, rootfs, respawn, name, script = sys.argv[1:]
    trio.run(main, Path(root), rootfs, respawn, name, script)


if __name__ == "__main__":
    run()
