"""``pystack exec``."""

from __future__ import annotations

import os
import sys

import click

from orchestrator.cli.connection import explain_unknown, require
from orchestrator.cli.settings import Settings
from orchestrator.cli.wire import encoded
from orchestrator.client import EventMessage
from orchestrator.contracts.control import Exec
from orchestrator.errors import InputError, PystackError
from orchestrator.model.names import ServiceName


@click.command(name="exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("-T", "--no-tty", is_flag=True, help="No terminal, even if stdin and stdout are one.")
@click.option("-e", "--env", "variables", multiple=True, metavar="NAME[=VALUE]", help="Environment variable.")
@click.option("-u", "--user", metavar="USER[:GROUP]", help="Run as this user.")
@click.option("-w", "--workdir", "working_dir", metavar="DIR", help="Working directory in the container.")
@click.argument("service")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def exec_(
    settings: Settings,
    service: str,
    command: tuple[str, ...],
    no_tty: bool,
    variables: tuple[str, ...],
    user: str | None,
    working_dir: str | None,
) -> int:
    """Run COMMAND in SERVICE's running container. Ends with the command's exit code."""
    site = settings.site()
    tty = not no_tty and os.isatty(0) and os.isatty(1)
    request = Exec(
        ServiceName(service),
        command,
        environment=_environment(settings, variables, tty),
        working_dir=working_dir,
        user=user,
        tty=tty,
    )
    sys.stdout.flush()
    with require(site) as client:
        try:
            if tty:
                from orchestrator.cli.console import run_on_terminal

                return run_on_terminal(client, request)
            result = client.request(*encoded(request), _no_event, fds=(0, 1, 2))
        except PystackError as error:
            raise explain_unknown(site, error, (service,)) from None
    return int(result["status"])


def _no_event(message: EventMessage) -> None:
    """Without a terminal the process has our descriptors: there is nothing to hand over."""
    for fd in message.fds:
        os.close(fd)


def _environment(settings: Settings, variables: tuple[str, ...], tty: bool) -> dict[str, str]:
    """``NAME=VALUE``, or ``NAME`` for the caller's own value. TERM comes along with a terminal."""
    environment = {}
    if tty and settings.environ.get("TERM"):
        environment["TERM"] = settings.environ["TERM"]
    for text in variables:
        name, given, value = text.partition("=")
        if not name:
            raise InputError(f'"{text}" is not an environment variable', hint="write NAME=VALUE or NAME")
        if given:
            environment[name] = value
        elif name in settings.environ:
            environment[name] = settings.environ[name]
    return environment
