"""A supervisor that is started before the compose file is loaded, and before the verb that will need it is imported."""

from __future__ import annotations

from orchestrator import launch
from orchestrator.cli.identity import certain_name
from orchestrator.client import Client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orchestrator.cli.settings import Settings


def begin(settings: Settings) -> launch.Launch | None:
    """One that waits for its word; None when one runs already, or the project's name is not certain yet.

    Raises HostError when there is a socket that cannot be used.
    """
    name = certain_name(settings)
    if name is None:
        return None
    site = settings.site_named(name)
    client = Client.connect(site)
    if client is not None:
        client.close()
        return None
    try:
        return launch.begin(site)
    except OSError:
        return None  # The one who needs it tries again, and tells.
