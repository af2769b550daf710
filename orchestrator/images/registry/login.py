"""``login`` and ``logout``: a credential is tried before it is stored."""

from __future__ import annotations

import trio

from orchestrator.errors import InputError
from orchestrator.images.registry.client import Client
from orchestrator.images.registry.credentials import Credential, Credentials
from orchestrator.images.registry.faults import Fault, error_of
from orchestrator.images.registry.settings import HUB, Settings, is_registry
from orchestrator.images.registry.wire import Wire

_HUB_ALIASES = frozenset({"", "docker.io", "index.docker.io", "registry-1.docker.io"})


def registry_name(text: str) -> str:
    """What credentials are kept under, of what people write: ``""``, ``https://index.docker.io/v1/``, ``HOST:PORT``. Raises
    InputError."""
    name = text.partition("://")[2] or text
    name = name.partition("/")[0]
    if name in _HUB_ALIASES:
        return HUB
    if not is_registry(name):
        raise InputError(f"{text!r} is no registry", hint="write HOST or HOST:PORT")
    return name


async def login(registry: str, user: str, password: str, *, settings: Settings, credentials: Credentials) -> str:
    """Check it against the registry and keep it as Docker does. Returns a warning, or "". Raises OperationError."""
    name = registry_name(registry)
    if not user or ":" in user:
        raise InputError(f"{user!r} is no user name", hint="a user name is not empty and has no colon")
    credential = Credential(user, password)
    try:
        async with Wire(settings) as wire:
            await Client(wire, settings.endpoint(name), "", credential).login()
    except Fault as exc:
        raise error_of(exc, f"cannot log in as {user}") from exc
    return await trio.to_thread.run_sync(credentials.store, name, credential)


async def logout(registry: str, *, credentials: Credentials) -> bool:
    """Forget what `login` stored. Whether there was something."""
    return await trio.to_thread.run_sync(credentials.erase, registry_name(registry))
