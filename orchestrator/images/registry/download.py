"""A blob, from a registry into the store: resumed where it was cut, its size checked as it comes, its digest at the end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

import httpx
import trio

from orchestrator.images.registry.client import Client
from orchestrator.images.registry.faults import Fault, Kind
from orchestrator.images.registry.retry import pause
from orchestrator.images.registry.wire import Request, body_of
from orchestrator.images.spec.descriptor import Descriptor
from orchestrator.images.store.blobs import Ingest

CHUNK = 1 << 20
HELD_S = 0.5
"""What comes slowly is written after this time: it is what a killed process leaves."""
GOOD_PROGRESS = 1 << 20
"""After an attempt that brought this much, attempts are counted anew."""


async def fetch(client: Client, blob: Descriptor, ingest: Ingest, on_bytes: Callable[[int], None]) -> None:
    """Bring `ingest` to the blob's size; `on_bytes` hears how much is there. Raises Fault; what came is kept."""
    number = 0
    on_bytes(ingest.offset)
    while ingest.offset < blob.size:
        before = ingest.offset
        try:
            await _some(client, blob, ingest, on_bytes)
            continue
        except Fault as exc:
            fault = exc
        number = 1 if ingest.offset - before >= GOOD_PROGRESS else number + 1
        await pause(client.bounds, fault, number)


async def _some(client: Client, blob: Descriptor, ingest: Ingest, on_bytes: Callable[[int], None]) -> None:
    """One request: all that is missing, or a Fault."""
    offset = ingest.offset
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    request = Request("GET", await client.url(f"blobs/{blob.digest}"), headers)
    async with client.attempt(request) as response:
        begin = _begin(response, offset)
        if begin is None and response.status_code not in (200, 206, 416):
            raise await client.refusal(response)
        if offset and begin != offset:
            await trio.to_thread.run_sync(ingest.restart)
            on_bytes(0)
        if begin is None or begin not in (0, offset):
            raise client.fault(Kind.CUT, f"HTTP {response.status_code} for bytes from {offset} of {blob.digest}")
        announced = response.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) != blob.size - begin:
            raise client.fault(Kind.WRONG_SIZE, f"{blob.digest} has {begin + int(announced)} bytes, not {blob.size}")
        async with body_of(response) as body, aclosing(_chunks(body)) as chunks:
            async for chunk in chunks:
                if ingest.offset + len(chunk) > blob.size:
                    raise client.fault(Kind.WRONG_SIZE, f"{blob.digest} has more than {blob.size} bytes")
                await trio.to_thread.run_sync(ingest.write, chunk)
                on_bytes(ingest.offset)
    if ingest.offset < blob.size:
        raise client.fault(Kind.CUT, f"{ingest.offset} of {blob.size} bytes of {blob.digest}")


def _begin(response: httpx.Response, offset: int) -> int | None:
    """Where the body begins in the blob (RFC 9110, 14.4), None if it is no part of it."""
    if response.status_code == 200:
        return 0
    unit, _, rest = response.headers.get("content-range", "").partition(" ")
    first = rest.partition("-")[0]
    return int(first) if response.status_code == 206 and unit == "bytes" and first.isdecimal() else None


async def _chunks(body: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The body in pieces of about `CHUNK`; what came before a cut is given before its exception is raised."""
    pieces, held, since = list[bytes](), 0, trio.current_time()
    while True:
        broken: httpx.HTTPError | None = None
        piece = b""
        try:
            piece = await anext(body, b"")
        except httpx.HTTPError as exc:
            broken = exc
        pieces.append(piece)
        held += len(piece)
        if held and (held >= CHUNK or not piece or trio.current_time() - since >= HELD_S):
            yield b"".join(pieces)
            pieces, held, since = [], 0, trio.current_time()
        if broken is not None:
            raise broken
        if not piece:
            return
