"""``pystack login`` and ``logout``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from orchestrator.cli.imagework import carry_out
from orchestrator.errors import InputError

if TYPE_CHECKING:
    from orchestrator.cli.render.transfers import Transfers
    from orchestrator.cli.settings import Settings


def login(settings: Settings, registry: str, user: str | None, password: str | None, from_stdin: bool) -> int:
    """Log in to a registry. Raises InputError when user or password can be had from nowhere."""
    from orchestrator.images.registry.credentials import Credentials
    from orchestrator.images.registry.login import login as log_in
    from orchestrator.images.registry.settings import load_settings

    if from_stdin and password is not None:
        raise InputError("--password and --password-stdin cannot be combined")
    if from_stdin and not user:
        raise InputError("--password-stdin needs --username")
    name = user or _asked("Username: ")
    secret = sys.stdin.read().rstrip("\r\n") if from_stdin else password if password is not None else _secret()

    async def work(transfers: Transfers) -> str:
        return await log_in(
            registry, name, secret, settings=load_settings(settings.environ), credentials=Credentials(settings.environ)
        )

    warning = carry_out(settings, work)
    if warning:
        print(f"warning: {warning}", file=sys.stderr)
    print("Login Succeeded")
    return 0


def logout(settings: Settings, registry: str) -> int:
    """Forget a credential."""
    from orchestrator.images.registry.credentials import Credentials
    from orchestrator.images.registry.login import logout as log_out
    from orchestrator.images.registry.login import registry_name

    async def work(transfers: Transfers) -> bool:
        return await log_out(registry, credentials=Credentials(settings.environ))

    name = registry_name(registry)
    print(f"Removed the credential for {name}" if carry_out(settings, work) else f"Not logged in to {name}")
    return 0


def _asked(question: str) -> str:
    if not sys.stdin.isatty():
        raise InputError("there is no terminal to ask for a user name on", hint="use --username and --password-stdin")
    return input(question).strip()


def _secret() -> str:
    import getpass

    if not sys.stdin.isatty():
        raise InputError("there is no terminal to ask for a password on", hint="use --password-stdin")
    return getpass.getpass("Password: ")
