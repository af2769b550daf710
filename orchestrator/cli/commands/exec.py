"""``pystack exec``."""

from __future__ import annotations

import os
import sys

from orchestrator.cli.connection import explain_unknown, require
from orchestrator.client.messages import SupervisorGone
from orchestrator.errors import EXIT_RUNTIME, InputError, OperationError, PystackError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from orchestrator.cli.settings import Settings


def exec_(
    settings: Settings,
    service: str,
    command: tuple[str, ...],
    detach: bool,
    no_tty: bool,
    variables: tuple[str, ...],
    user: str | None,
    working_dir: str | None,
    index: int,
    privileged: bool,
    interactive: bool,
    tty: bool,
    detach_keys: str | None,
) -> int:
    """Run COMMAND in SERVICE's running container. Ends with the command's exit code."""
    site = settings.site()
    tty = wants_terminal(tty, no_tty) and interactive and not detach
    # `contracts.control.Exec` as it goes over the wire: its class takes longer to import than the command to run.
    request: dict[str, Any] = {"service": service, "argv": command, "environment": _environment(settings, variables, tty)}
    if working_dir is not None:
        request["working_dir"] = working_dir
    if user is not None:
        request["user"] = user
    if index:
        request["index"] = index
    if privileged:
        request["privileged"] = True
    if settings.dry_run:
        from orchestrator.cli.dryrun import told_instead

        with require(site) as client:
            there = any(row["service"] == service for row in client.request("ps"))
        if not there:
            raise explain_unknown(settings, InputError(f"no such service: {service}"), (service,))
        told_instead(settings, f"execute in {service}: {' '.join(command)}")
        return 0
    sys.stdout.flush()
    with require(site) as client:
        try:
            if tty:
                from orchestrator.cli.console import run_on_terminal
                from orchestrator.cli.detaching import Keys

                return run_on_terminal(client, {**request, "tty": True}, Keys(detach_keys))
            if detach:
                return int(client.request("exec", {**request, "detach": True})["status"])
            from orchestrator.cli.piping import run_piped

            return run_piped(client, request, stdin=interactive)
        except SupervisorGone as error:
            raise OperationError(
                f"the supervisor of project {site.project} has ended while the command ran",
                hint="the next command starts another one; the command may go on in its container",
                exit_code=EXIT_RUNTIME,
            ) from error
        except PystackError as error:
            raise explain_unknown(settings, error, (service,)) from None


def wants_terminal(tty: bool, no_tty: bool) -> bool:
    """Whether the process gets one: where stdin and stdout are one, unless it is not wanted."""
    return tty and not no_tty and os.isatty(0) and os.isatty(1)


def _environment(settings: Settings, variables: tuple[str, ...], tty: bool) -> dict[str, str]:
    """TERM comes along with a terminal."""
    environment = {"TERM": settings.environ["TERM"]} if tty and settings.environ.get("TERM") else {}
    return {**environment, **variables_of(variables, settings.environ)}


def variables_of(texts: tuple[str, ...], environ: Mapping[str, str]) -> dict[str, str]:
    """``NAME=VALUE``, or ``NAME`` for its value in `environ`, if it has one. Raises InputError."""
    environment = {}
    for text in texts:
        name, given, value = text.partition("=")
        if not name:
            raise InputError(f'"{text}" is not an environment variable', hint="write NAME=VALUE or NAME")
        if given:
            environment[name] = value
        elif name in environ:
            environment[name] = environ[name]
    return environment
