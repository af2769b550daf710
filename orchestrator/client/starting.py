"""The project's supervisor: the one that runs, or a new one.

`orchestrator.launch` starts a new one, and hears whether it is ready or why it cannot be. One of an older version hands
over first (`handover`).
"""

from __future__ import annotations

import os
import time

from orchestrator.client.connection import Client
from orchestrator.client.messages import OtherProtocol, SupervisorGone, error_from
from orchestrator.contracts.protocol import VERSION
from orchestrator.errors import BusyError, HostError
from orchestrator.kernel import jsontext
from orchestrator.kernel.plain import opener

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orchestrator.contracts.site import Site
    from orchestrator.launch import Launch

READY_TIMEOUT_S = 60.0
"""For a new supervisor: adopting a hundred containers takes a second or two."""
_RACE_PAUSE_S = 0.05


def connect(site: Site) -> Client | None:
    """A connection to the supervisor that runs, which has answered on it; None if none does, or it was about to end.

    One of an older version has handed over, and is none. Raises Unanswered, or OtherProtocol for one of a newer version.
    """
    client = Client.connect(site)
    if client is None:
        return None
    try:
        client.request("hello")
        return client
    except SupervisorGone:
        client.close()
        return None
    except OtherProtocol as other:
        client.close()
        if other.version > VERSION:
            raise
        from orchestrator.client.handover import hand_over

        hand_over(site, other.version)
        return None
    except BaseException:
        client.close()
        raise


def ensure_supervisor(
    site: Site, begun: Launch | None = None, *, timeout_s: float = READY_TIMEOUT_S
) -> tuple[Client, bool]:
    """A connection to the project's supervisor, started if none runs; True when this call started it. `begun`: one that was
    started early (orchestrator.launch) and waits; it is used, or ended.

    Two commands may race: the supervisor's lock decides, the loser exits with a BusyError and we connect to the winner.
    Raises what the supervisor reports (no root, no overlayfs), or HostError when it does not come up in `timeout_s`.
    """
    from orchestrator import launch

    deadline = time.monotonic() + timeout_s
    started = False
    lost: BusyError | None = None
    if begun is not None and begun.site != site:
        begun.abandon()
        begun = None
    try:
        while (client := connect(site)) is None:
            if time.monotonic() > deadline:
                message = f"the supervisor of project {site.project} does not stay"
                raise lost or HostError(message, hint=_log_hint(site))
            if begun is None:
                begun = launch.begin(site)
            begun.go()
            try:
                _await_ready(begun, timeout_s)
                started = True
            except BusyError as error:
                # The winner is not listening yet, or a supervisor that ends (`down`) still holds the lock. Nothing tells
                # when that is over, so look again: rare, short, and with a deadline.
                lost = error
                time.sleep(_RACE_PAUSE_S)
            begun = None
    except OSError as exc:
        raise HostError(f"cannot start a supervisor: {exc.strerror or exc}") from exc
    finally:
        if begun is not None:
            begun.abandon()
    return client, started


def _await_ready(begun: Launch, timeout_s: float) -> None:
    """Raises the error that the new supervisor reports, or HostError."""
    site = begun.site
    text, status = begun.answer(timeout_s)
    if text == "ready":
        return
    if status is None:
        raise HostError(f"the supervisor of project {site.project} was not ready in time", hint=_log_hint(site))
    try:
        error = jsontext.loads(text)
        error = error.get("error", error)
    except (ValueError, AttributeError):
        ended = f"with code {status}" if status >= 0 else f"by signal {-status}"
        hint = f"it said: {text}" if text else _log_hint(site)
        raise HostError(f"the supervisor of project {site.project} ended {ended} before it was ready", hint=hint) from None
    raise error_from(error)


def _log_hint(site: Site) -> str:
    """Where its log is, and the last line of it."""
    path = os.path.join(site.data_dir, "supervisor.log")
    try:
        with open(path, "rb", opener=opener) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            lines = [line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    return f"its log is {path}" + (f"; the last line: {lines[-1].strip()}" if lines else "")
