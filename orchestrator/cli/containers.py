"""What runs, for verbs that look at it themselves: its rows, and where its control group is."""

from __future__ import annotations

from orchestrator.cli.connection import connect
from orchestrator.cli.selection import check_named
from orchestrator.cli.settings import Settings
from orchestrator.contracts.site import Site
from orchestrator.kernel import cgroup
from orchestrator.model.names import ContainerId
from orchestrator.runtime.bundle import group_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orchestrator.cli.render.statuses import Status


class Containers:
    """Of one project, of some services (none: all). A context manager: it holds a connection to the supervisor, if there is
    one."""

    def __init__(self, settings: Settings, services: tuple[str, ...]) -> None:
        self.site: Site = settings.site()
        self.layout = cgroup.detect()
        self._settings, self._services = settings, services
        self._groups: dict[str, str] = {}
        self._client = connect(self.site)

    def __enter__(self) -> Containers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()

    def rows(self) -> list[Status]:
        """All, as they are now, whether they run or not. Raises InputError for a service that is not there."""
        found: list[Status] = self._client.request("ps") if self._client is not None else []
        if self._services:
            from orchestrator.state.services import recorded

            known = {row["service"] for row in found}
            if not known.issuperset(self._services):
                check_named(self._settings, self._services, {*known, *recorded(self.site).services})
        return [row for row in found if not self._services or row["service"] in self._services]

    @property
    def gone(self) -> bool:
        """Nothing runs, and nobody would say when that changes."""
        return self._client is None

    def group(self, row: Status) -> str:
        """Relative to each hierarchy."""
        container = ContainerId(row["container"])
        if container not in self._groups:
            self._groups[container] = group_path(self.site, container)
        return self._groups[container]
