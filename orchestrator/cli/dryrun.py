"""``--dry-run``: what a verb would do is printed, and nothing is done.

What changes containers is planned by the supervisor, as `pystack plan` has it: the very value that the verb would carry
out. Other verbs say what they would do in a line for each thing.
"""

from __future__ import annotations

from orchestrator.cli.render.escape import escape_text
from orchestrator.values import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orchestrator.cli.settings import Settings
    from orchestrator.client import Client
    from orchestrator.contracts.control import Operation
    from orchestrator.contracts.site import Site

_FIELDS = {"rm": "remove"}
"""Of `PlanOf`, where they are not named like the verb."""


def shown_instead(settings: Settings, request: Operation, site: Site, client: Client | None = None) -> bool:
    """Whether this is a dry run; then the plan of `request` has been printed. `client`: who is asked, None: the project's
    supervisor, which is started for it if need be. Raises what planning does."""
    if not settings.dry_run:
        return False
    from orchestrator.cli.wire import encoded
    from orchestrator.client import ensure_supervisor
    from orchestrator.contracts.control import NAMES, PlanOf

    verb = NAMES[type(request)]
    # One that is started for the question alone has nothing to supervise, and ends by itself.
    if client is None:
        client, _ = ensure_supervisor(site, settings.begun)
    with client:
        result = client.request(*encoded(replace(PlanOf(), **{_FIELDS.get(verb, verb): request})))
    print(escape_text(result["text"].rstrip("\n")))
    return True


def told_instead(settings: Settings, *sentences: str) -> bool:
    """As `shown_instead`, for what no supervisor is asked about."""
    if settings.dry_run and sentences:
        print(escape_text("\n".join(sentences) ))
    return settings.dry_run
