"""What is to be known and done when a run has ended: whether for want of memory, and whether something of it lives on."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Mapping

from orchestrator.contracts.site import Site
from orchestrator.errors import HostError, OperationError
from orchestrator.kernel.cgroup import Layout
from orchestrator.model.names import ContainerId
from orchestrator.runtime import bundle
from orchestrator.runtime.cgroups import open_existing
from orchestrator.runtime.sandbox import Sandbox, has_own_processes
from orchestrator.runtime.session import Session
from orchestrator.values import replace


class Ends:
    """Of one project's containers. `sandboxes`: those that are known, which others fill."""

    def __init__(self, site: Site, layout: Layout, session: Session, sandboxes: Mapping[ContainerId, Sandbox]) -> None:
        self._site = site
        self._layout = layout
        self._session = session
        self._sandboxes = sandboxes

    def oom_kills_of(self, container: ContainerId) -> int:
        sandbox = self._sandboxes.get(container)
        if sandbox is not None:
            return sandbox.cgroup.oom_kills()
        with open_existing(self._layout, bundle.group_path(self._site, container)) as group:
            return group.oom_kills()

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

    def find_oom_kills(self) -> None:
        """The journal cannot say that a last exit was an OOM kill; the cgroup, which is still there, can."""
        for container, history in self._session.history.items():
            last = history.last_exit
            if last is not None and last.signal == signal.SIGKILL:
                oom = self.oom_kills_of(container) > history.base_oom_kills
                history.exits[history.last_run] = replace(last, oom_killed=oom)
