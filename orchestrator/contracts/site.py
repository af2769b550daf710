"""Where a project runs: what every adapter needs to derive the names of what it makes."""

from __future__ import annotations

from orchestrator.values import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orchestrator.model.keys import ProjectKey, ProjectName


MOST_ID = 2**31 - 2
"""The highest id in a container."""
FAR_BASE = 2**31


@frozen
class IdMap:
    """Container ids ``0 .. count-1`` are host ids ``host_base .. host_base+count-1``, which no other project has
    (user_namespaces(7)). Those above are the same in all projects: host id ``FAR_BASE + id``. They are rare, there are not
    enough host ids to give each project its own, and what tells one container from another are its namespaces."""

    host_base: int
    count: int = 65536

    def extents(self) -> tuple[tuple[int, int, int], ...]:
        """First id in a container, first id on the host, and how many: the lines of uid_map and gid_map."""
        near, far = (0, self.host_base, self.count), (self.count, FAR_BASE + self.count, MOST_ID + 1 - self.count)
        return (near, far) if self.count <= MOST_ID else (near,)

    def outside(self, number: int) -> int:
        """The host id of a container's `number`."""
        return (self.host_base if number < self.count else FAR_BASE) + number

    def inside(self, number: int) -> int | None:
        """The container's id of the host id `number`; None when it has none."""
        for inner, outer, count in self.extents():
            if outer <= number < outer + count:
                return number - outer + inner
        return None


@frozen
class Site:
    """One project on one machine.

    `data_dir` and `run_dir` are the project's own (``/var/lib/pystack/projects/NAME``, ``/run/pystack/KEY``); containers'
    bundles are ``data_dir/containers/ID``. `key` stands for the project in the names of kernel objects.
    """

    project: ProjectName
    key: ProjectKey
    data_dir: str
    run_dir: str
    ids: IdMap
