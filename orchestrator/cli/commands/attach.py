"""``pystack attach``."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

from orchestrator.cli.connection import explain_unknown, require
from orchestrator.cli.console import DETACHED, Reply, Terminated, on_terminal, relay
from orchestrator.cli.copying import Output
from orchestrator.cli.detaching import Keys
from orchestrator.cli.failures import note
from orchestrator.cli.logfiles import log_path
from orchestrator.client import EventMessage, SupervisorGone
from orchestrator.contracts.control import Attached
from orchestrator.errors import HostError, OperationError, PystackError
from orchestrator.model.codec import from_json
from orchestrator.units import format_bytes

if TYPE_CHECKING:
    from orchestrator.cli.settings import Settings
    from orchestrator.client import Client
    from orchestrator.contracts.site import Site

_PASSED_ON = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2
)  # fmt: skip


def attach(
    settings: Settings, service: str, index: int, detach_keys: str | None, no_stdin: bool, sig_proxy: bool
) -> int:
    """Watch SERVICE's running container, and type to it. Ends with the container's exit code, or 0 when it was left."""
    site = settings.site()
    keys = Keys(detach_keys)
    sys.stdout.flush()
    with require(site) as client:
        try:
            client.send("attach", {"service": service, "index": index})
            first = client.receive()
            if not isinstance(first, EventMessage):
                raise HostError("the supervisor did not say what to attach to")
            attached = from_json(Attached, first.value)
            return _attend(client, site, attached, *first.fds[:1], keys=keys, stdin=not no_stdin, sig_proxy=sig_proxy)
        except SupervisorGone as error:
            raise OperationError(
                f"the supervisor of project {site.project} has ended; the container goes on without it",
                hint="`pystack attach` again starts another one",
            ) from error
        except PystackError as error:
            raise explain_unknown(settings, error, (service,)) from None


def _attend(
    client: Client, site: Site, attached: Attached, sink: int = -1, *, keys: Keys, stdin: bool, sig_proxy: bool
) -> int:
    def lost(count: int, why: str) -> None:
        note(f"{format_bytes(count)} that {attached.container} wrote are missing here: {why}")

    output = Output(log_path(site, attached.container), lost)
    try:
        output.skip()
        stdin = stdin and attached.stdin
        with contextlib.ExitStack() as stack:
            if attached.tty and sink >= 0:
                if stdin:  # Who only looks keeps the keys: Ctrl-C leaves.
                    stack.enter_context(on_terminal(sink, redraw=True))
            elif sig_proxy:
                stack.enter_context(_passing_signals_on(client))
            # Of a file or a pipe every byte is meant.
            status = relay(Reply(client), output, sink, keys if os.isatty(0) else None, stdin=stdin)
    except Terminated as ended:
        return 128 + ended.number
    finally:
        output.close()
        if sink >= 0:
            os.close(sink)
    if status is None:
        print(DETACHED.format(attached.container), file=sys.stderr)
        return 0
    return status


@contextlib.contextmanager
def _passing_signals_on(client: Client) -> Iterator[None]:
    """To the container's program."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        client.say({"signal": number})

    before = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)
