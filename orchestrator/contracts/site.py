"""Where a project runs: what every adapter needs to derive the names of what it makes."""

from __future__ import annotations

from orchestrator.values import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orchestrator.model.keys import ProjectKey, ProjectName


@frozen
class IdMap:
    """Container ids ``0 .. count-1`` are host ids ``host_base .. host_base+count-1`` (user_namespaces(7))."""

    host_base: int
    count: int = 65536


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
