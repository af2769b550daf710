"""An older supervisor makes way for one of ours: nothing that runs is touched.

It is asked in its own protocol to end, which leaves the containers to their monitor; whoever starts the next one adopts
them. Version 1 has no question whether an operation is under way, but its answer to an operation that cannot be carried out
tells: with the exit code of bad input when it was looked at, with another when the project is busy.
"""

from __future__ import annotations

import time

from orchestrator.client.connection import Client
from orchestrator.client.messages import SupervisorGone
from orchestrator.contracts.site import Site
from orchestrator.errors import EXIT_USAGE, BusyError, HostError, PystackError

PATIENCE_S = 10.0
"""For an operation of the old one, and for its end."""
_PAUSE_S = 0.2
_NO_SERVICE = "?"
"""A name that no service can have."""


def hand_over(site: Site, version: int, *, patience_s: float = PATIENCE_S) -> None:
    """Returns when the supervisor that speaks `version` has ended.

    Raises BusyError when an operation does not end in `patience_s`, HostError when the supervisor does not.
    """
    deadline = time.monotonic() + patience_s
    client = Client.connect(site, version=version)
    if client is None:
        return
    with client:
        try:
            while (busy := _refusal(client, version)) is not None:
                if time.monotonic() > deadline:
                    raise BusyError(
                        f"project {site.project} was brought up by an older version of pystack, which cannot hand over "
                        f"now: {busy.message}",
                        hint="wait for it, or press Ctrl-C there; then run this again",
                    )
                time.sleep(_PAUSE_S)
        except SupervisorGone:
            return
        if not client.close_and_wait_end(patience_s):
            raise HostError(
                f"the supervisor of project {site.project}, of an older version of pystack, has not ended",
                hint=f"`kill -9 {client.pid}` ends it: its containers go on, and the next command takes them over",
            )


def _refusal(client: Client, version: int) -> PystackError | None:
    """Ask for the end; why it is refused, or None."""
    try:
        if version == 1:
            try:
                client.request("kill", {"services": [_NO_SERVICE], "signal": "SIGCONT"})
            except SupervisorGone:
                raise
            except PystackError as error:
                if error.exit_code != EXIT_USAGE:
                    return error
        client.request("shutdown", {"hand_over": True})
    except BusyError as error:
        return error
    return None
