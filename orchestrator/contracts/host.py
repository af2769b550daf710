"""The machine as a value: found once by `runtime.host_check`, and passed down to whoever needs to know."""

from __future__ import annotations

from orchestrator.kernel.cgroup import Layout
from orchestrator.values import frozen


@frozen
class Host:
    """`uid`: who we are (effective). `lacking`: capabilities that containers need made and we do not have. `machine`:
    ``os.uname().machine``. `processors`: how many there are. `cgroups`: which hierarchies there are, and where.
    `last_capability`: the highest bit that the kernel knows. `lowered`: a sentence for each limit that whoever started us
    lowered for good (`kernel.limits.lowered`): containers get what is left of it. `held`: a mask of the capabilities
    that we have ourselves, and can give to a container in the host's user namespace."""

    uid: int
    lacking: tuple[str, ...]
    machine: str
    processors: int
    cgroups: Layout
    last_capability: int
    lowered: tuple[str, ...] = ()
    held: int = -1

    @property
    def privileged(self) -> bool:
        """Root with everything that is needed, as far as capabilities tell."""
        return self.uid == 0 and not self.lacking
