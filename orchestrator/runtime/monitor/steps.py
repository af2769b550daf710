"""What a child does between its birth and execve: the steps of a program (docs/monitor-protocol.md), one method each.

Two processes run one list: stage 1 (`stage1`) and the final child (`final`). A failure is two numbers in a pipe.
"""

from __future__ import annotations

import os

from orchestrator.runtime.monitor.final import FinalChild
from orchestrator.runtime.monitor.stage1 import BROKEN

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself would cost the monitor a megabyte
    from collections.abc import Callable
    from typing import Any, NoReturn


class Child(FinalChild):
    def run(self, program: list[list[Any]]) -> NoReturn:
        """Execute all steps; the last one is ``exec``. Never returns, never raises."""
        try:
            if (before := self.fds.get("before")) is not None:
                self.wait_to_begin(before)
            for number, (name, *arguments) in enumerate(program):
                self.step = number
                STEPS[name](self, *arguments)
            self.fail(BROKEN, 0)
        except OSError as exc:
            self.fail(self.step, exc.errno or 0)
        except BaseException:
            self.fail(BROKEN, self.step)
        finally:
            os._exit(127)


STEPS: dict[str, Callable[..., Any]] = {
    "rlimit": Child.rlimit,
    "default_limits": Child.default_limits,
    "oom_score": Child.oom_score,
    "overlay": Child.overlay,
    "devices": Child.devices,
    "nodes": Child.nodes,
    "node_at": Child.node_at,
    "root_devices": Child.root_devices,
    "to_host": Child.to_host,
    "to_home": Child.to_home,
    "ids": Child.ids,
    "bind": Child.bind,
    "bind_below": Child.bind_below,
    "image": Child.image,
    "shared_memory": Child.shared_memory,
    "outer_filesystem": Child.outer_filesystem,
    "top_attributes": Child.top_attributes,
    "propagate": Child.propagate,
    "enter": Child.enter,
    "enter_some": Child.enter_some,
    "join": Child.join,
    "join_some": Child.join_some,
    "joined": Child.joined,
    "take_root": Child.take_root,
    "attach": Child.attach,
    "filesystem": Child.filesystem,
    "files_read_only": Child.files_read_only,
    "files": Child.files,
    "owned_files": Child.owned_files,
    "sysctl": Child.sysctl,
    "mask": Child.mask,
    "read_only": Child.read_only,
    "make_read_only": Child.make_read_only,
    "root_read_only": Child.root_read_only,
    "hostname": Child.hostname,
    "pivot": Child.pivot,
    "session": Child.session,
    "stdio": Child.stdio,
    "terminal": Child.terminal,
    "window": Child.window,
    "console": Child.console,
    "working_directory": Child.working_directory,
    "change_directory": Child.change_directory,
    "bounding": Child.bounding,
    "identity": Child.identity,
    "capabilities": Child.capabilities,
    "no_new_privileges": Child.no_new_privileges,
    "seccomp": Child.seccomp,
    "seccomp_flags": Child.seccomp_flags,
    "init": Child.init,
    "mind": Child.mind,
    "execute": Child.execute,
}
