"""How a verb gets to the project's supervisor, or does without one."""

from __future__ import annotations

import os

from orchestrator import client as supervisors
from orchestrator.client import Client, ensure_supervisor
from orchestrator.errors import InputError, OperationError, PystackError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orchestrator.cli.settings import Settings
    from orchestrator.contracts.site import Site


def connect(site: Site) -> Client | None:
    """The supervisor that runs; one is started when containers may run without theirs (it was killed): their monitor's
    socket is there. None when nothing of the project runs. Raises Unanswered, or what starting one raises."""
    if (client := supervisors.connect(site)) is not None:
        return client
    if os.path.exists(os.path.join(site.run_dir, "monitor.sock")):
        return ensure_supervisor(site)[0]
    return None


def require(site: Site) -> Client:
    """As `connect`; raises OperationError when nothing of the project runs."""
    client = connect(site)
    if client is None:
        raise OperationError(f"project {site.project} is not running", hint="`pystack up -d` brings it up")
    return client


def manage(site: Site) -> Client | None:
    """For verbs that change what exists: a supervisor whenever anything of the project is on this machine, else None."""
    client = connect(site)
    if client is None and (os.path.isdir(site.data_dir) or os.path.isdir(site.run_dir)):
        client = ensure_supervisor(site)[0]
    return client


def explain_unknown(settings: Settings, error: PystackError, services: tuple[str, ...]) -> PystackError:
    """`error`, or a better one when the reason is a misspelt service, or one that is in the compose files alone."""
    if not isinstance(error, InputError | OperationError) or not services:
        return error
    from orchestrator.cli.selection import check_named
    from orchestrator.state.services import recorded

    try:
        site = settings.site()
        known = set(recorded(site).services)
        if (client := connect(site)) is not None:
            with client:
                known.update(status["service"] for status in client.request("ps"))
        if not known:
            return error  # Nothing is there at all, whatever the name.
        check_named(settings, services, known)
        if new := [name for name in services if name not in known]:
            return OperationError(f'service "{new[0]}" has no container', hint=f"create it with: pystack up {new[0]}")
    except InputError as better:
        return better
    except PystackError:
        return error
    return error
