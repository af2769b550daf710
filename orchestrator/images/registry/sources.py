"""Where an image is had from: the mirrors of its registry in their order, and then the registry itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from orchestrator.contracts.images import Progress
from orchestrator.errors import OperationError
from orchestrator.images.reference import Named
from orchestrator.images.registry.client import Client
from orchestrator.images.registry.credentials import Credentials
from orchestrator.images.registry.faults import Fault, Kind
from orchestrator.images.registry.settings import Settings
from orchestrator.images.registry.wire import Wire
from orchestrator.images.spec.digest import Digest
from orchestrator.images.spec.manifest import Index, Manifest, parse_manifest

T = TypeVar("T")


class Sources:
    """`answered`: the one that knew the image; it is asked first from then on."""

    def __init__(self, wire: Wire, clients: list[Client], progress: Progress) -> None:
        self.wire = wire
        self._clients = clients
        self._progress = progress

    @property
    def answered(self) -> Client:
        return self._clients[0]

    async def ask(self, question: Callable[[Client], Awaitable[T]]) -> T:
        """The first answer. Raises the Fault of the last one: of the registry itself, if no mirror took its place."""
        fault: Fault | None = None
        for client in [*self._clients]:
            if fault is not None:
                self._progress(f"{fault}; going on with {client.endpoint.name}")
            try:
                answer = await question(client)
            except Fault as exc:
                fault = exc
                continue
            self._clients.remove(client)
            self._clients.insert(0, client)
            return answer
        assert fault is not None, "there is always the registry itself"
        raise fault

    async def manifest(self, reference: str, size: int | None = None) -> tuple[Digest, Manifest | Index]:
        """What a tag or digest means, with the digest of the bytes; `size`: what they must have. One that cannot be read is
        as good as none: the next source is asked."""

        async def read(client: Client) -> tuple[Digest, Manifest | Index]:
            raw = await client.manifest(reference)
            if size is not None and len(raw.raw) != size:
                raise client.fault(Kind.WRONG_SIZE, f"manifest {reference} has {len(raw.raw)} bytes, not {size}")
            try:
                return raw.digest, parse_manifest(raw.raw, raw.media_type)
            except OperationError as exc:
                raise client.fault(Kind.BAD_CONTENT, exc.message, hint=exc.hint) from exc

        return await self.ask(read)

    async def head(self, reference: str) -> Digest | None:
        """None if the one that would be asked for the manifest does not say."""
        try:
            return await self._clients[0].head_manifest(reference)
        except Fault as exc:
            if exc.kind in (Kind.LOGIN_NEEDED, Kind.LOGIN_REFUSED) and len(self._clients) == 1:
                raise
            return None


async def sources_of(wire: Wire, settings: Settings, named: Named, credentials: Credentials, progress: Progress) -> Sources:
    """Raises InputError and OperationError for credentials that cannot be read."""
    clients = []
    for endpoint in settings.endpoints(named.registry):
        repository = endpoint.prefix + named.repository
        credential = await trio.to_thread.run_sync(credentials.find, endpoint.name, repository)
        clients.append(Client(wire, endpoint, named.repository, credential))
    return Sources(wire, clients, progress)
