"""What is to be known and done when a run has ended: whether for want of memory, what it used, and whether something of it
lives on."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from orchestrator.contracts.runtime import Exit
from orchestrator.contracts.site import Site
from orchestrator.errors import HostError, OperationError
from orchestrator.kernel.cgroup import Layout
from orchestrator.model.names import ContainerId
from orchestrator.runtime import bundle
from orchestrator.runtime.cgroups import ContainerCgroup, open_existing
from orchestrator.runtime.sandbox import ActiveRun, Sandbox, has_own_processes
from orchestrator.runtime.session import Session
from orchestrator.runtime.usage import peak_memory_bytes, stalled_us
from orchestrator.values import replace

_BY_SIGKILL = 137


class Ends:
    """Of one project's containers. `sandboxes`: those that are known, which others fill."""

    def __init__(self, site: Site, layout: Layout, session: Session, sandboxes: Mapping[ContainerId, Sandbox]) -> None:
        self._site = site
        self._layout = layout
        self._session = session
        self._sandboxes = sandboxes
        self._last: dict[ContainerId, dict[str, Any]] = {}
        """What was counted at the end of the last run; nothing has run since."""

    def base_of(self, container: ContainerId, group: ContainerCgroup, number: int) -> dict[str, Any]:
        """What is counted already when run `number` begins: kept with the run, and given to `completed` at its end."""
        if number == 1 and group.fresh:
            return {"oom_kills": 0}
        if (last := self._last.pop(container, None)) is not None:
            return last
        stalled = stalled_us(group.layout, group.relative_path)
        return {"oom_kills": group.oom_kills(), **({"stalled_us": stalled} if stalled else {})}

    def forget(self, container: ContainerId) -> None:
        self._last.pop(container, None)

    def completed(self, active: ActiveRun, exit_: Exit) -> Exit:
        """`exit_` of a run that has just ended, with what its control group says of it."""
        return self._completed(active.run.container, active.echo, exit_, killed=active.killed)

    def complete_last(self) -> None:
        """The journal has no more than the status; the control group, which is still there, has the rest."""
        for container, history in self._session.history.items():
            if (last := history.last_exit) is not None:
                history.exits[history.last_run] = self._completed(container, history.base, last)

    def _completed(self, container: ContainerId, base: Mapping[str, Any], exit_: Exit, *, killed: bool = False) -> Exit:
        """`killed`: its SIGKILL was ours. The counter does not tell whom the kernel has killed; but who ends in another
        way, or by us, was not among them, though others may have been."""
        kills, group = self._counted(container)
        now = stalled_us(self._layout, group)
        self._last[container] = {"oom_kills": kills, **({"stalled_us": now} if now else {})}
        kills = max(0, kills - int(base.get("oom_kills") or 0))
        before = base.get("stalled_us") or {}
        stalled = {name: max(0, us - int(before.get(name) or 0)) / 1e6 for name, us in now.items()}
        return replace(
            exit_,
            # 137: an init, or a shell, whose program was killed says so by its code.
            oom_killed=kills > 0 and exit_.status == _BY_SIGKILL and not killed,
            oom_kills=kills,
            peak_bytes=peak_memory_bytes(self._layout, group),
            cpu_stalled_s=stalled.get("cpu", 0.0),
            memory_stalled_s=stalled.get("memory", 0.0),
            io_stalled_s=stalled.get("io", 0.0),
        )

    def _counted(self, container: ContainerId) -> tuple[int, str]:
        """How often the kernel has killed something of it for want of memory, and its group."""
        if (sandbox := self._sandboxes.get(container)) is not None:
            return sandbox.cgroup.oom_kills(), sandbox.cgroup.relative_path
        with open_existing(self._layout, bundle.group_path(self._site, container)) as group:
            return group.oom_kills(), group.relative_path

    def kill_outliving(self, container: ContainerId) -> bool:
        """A run has ended. Without a pid namespace of its own that is not the end of what it has started: kill that. True
        if it was so."""
        sandbox = self._sandboxes.get(container)
        with contextlib.suppress(HostError, OperationError):
            spec = sandbox.spec if sandbox is not None else bundle.read_bundle(self._site, container)
            if has_own_processes(spec):
                return False
            if sandbox is not None:
                sandbox.kill(sandbox.cgroup)
            else:
                with open_existing(self._layout, bundle.group_path(self._site, container)) as group:
                    group.kill()
            return True
        return False
