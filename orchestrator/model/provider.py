"""A service that is no container: a program of the machine provides it (compose-spec, ``provider``)."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.model.names import ServiceName
from orchestrator.values import field, frozen


@frozen
class Provider:
    """`program`: its type. `users`: the services that depend on it, and get its variables. `needs`: providers that come
    before it. `enabled`: its profiles are active. `config`: the service as JSON, for the program. `variables`: what it
    answered last, under the names that its users get."""

    name: ServiceName
    program: str
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    users: tuple[ServiceName, ...] = ()
    needs: tuple[ServiceName, ...] = ()
    enabled: bool = True
    config: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        return f"services.{self.name}.provider"
