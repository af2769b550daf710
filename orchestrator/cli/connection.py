"""How a verb gets to the project's supervisor, or does without one."""

from __future__ import annotations

import os

from orchestrator import client as supervisors
from orchestrator.client import Client, ensure_supervisor
from orchestrator.errors import InputError, OperationError, PystackError

TYPE_CHECKING = False
if TYPE_CHECKING:
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


def explain_unknown(site: Site, error: PystackError, services: tuple[str, ...]) -> PystackError:
    """`error`, or a better one when the reason is a misspelt service."""
    if not isinstance(error, InputError | OperationError) or not services:
        return error
    from orchestrator.cli.selection import check_services
    from orchestrator.state.services import recorded

    try:
        with require(site) as client:
            known = [*recorded(site).services, *(status["service"] for status in client.request("ps"))]
        check_services(services, known, site.project)
    except InputError as better:
        return better
    except PystackError:
        return error
    return error
