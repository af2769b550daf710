"""How a container finds others by name, beyond the names of its networks."""

from __future__ import annotations

from orchestrator.values import frozen

HOST_GATEWAY = "host-gateway"
"""As an address: the host, as the container's first network sees it."""


@frozen
class Resolving:
    """`servers`: whom to ask for what is no name of the stack, instead of the host's resolvers. `search`, `options`: of
    resolv.conf(5), instead of the host's; a search list of ``.`` is none at all. `hosts`: name and address, for
    /etc/hosts; the address may be `HOST_GATEWAY`."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    hosts: tuple[tuple[str, str], ...] = ()
