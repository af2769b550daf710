"""A blob, from the store into a registry (distribution-spec, "Pushing Blobs"): mounted, in one piece, or in chunks.

An upload that was cut goes on from what the registry says it has; where it says nothing, a new one is begun.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import BinaryIO
from urllib.parse import urlencode

import httpx
import trio

from orchestrator.images.registry.client import Client
from orchestrator.images.registry.faults import Fault, Kind
from orchestrator.images.registry.retry import pause
from orchestrator.images.registry.wire import Request
from orchestrator.images.spec.descriptor import Descriptor
from orchestrator.values import entity

PIECE = 1 << 20
CHUNK = 32 << 20
"""Of a chunked upload; a blob that is no larger goes in one piece."""


@entity
class _Upload:
    """`url`: where the registry wants the next request, "" if there is no session. `offset`: bytes that it has. `chunk`:
    bytes of a request, at least what the registry wants (OCI-Chunk-Min-Length)."""

    url: str = ""
    offset: int = 0
    chunk: int = CHUNK


async def upload(
    client: Client, blob: Descriptor, path: str, on_bytes: Callable[[int], None], *, mount_from: str = ""
) -> bool:
    """Send the file `path`, or have the registry take it over from its repository `mount_from`; whether it was sent.
    `on_bytes` hears how much is there. Raises Fault."""
    state, number = _Upload(), 0
    with await trio.to_thread.run_sync(open, path, "rb") as file:
        while True:
            before = state.offset
            try:
                if not state.url and await _begin(client, blob, state, mount_from):
                    return False
                await _send(client, blob, file, state, on_bytes)
                return True
            except Fault as exc:
                fault = exc
            number = 1 if state.offset > before else number + 1
            await pause(client.bounds, fault, number)
            mount_from = ""
            await _ask_offset(client, blob, state)


async def _begin(client: Client, blob: Descriptor, state: _Upload, mount_from: str) -> bool:
    """Open a session. Whether there is no need for one: the blob was mounted."""
    query = f"?{urlencode({'mount': blob.digest, 'from': client.endpoint.prefix + mount_from})}" if mount_from else ""
    async with client.attempt(Request("POST", await client.url(f"blobs/uploads/{query}"))) as response:
        if response.status_code == 201:
            return True
        if response.status_code != 202:
            raise await client.refusal(response)
        least = response.headers.get("oci-chunk-min-length", "")
        state.chunk = max(CHUNK, int(least)) if least.isdecimal() and len(least) < 12 else CHUNK
        state.url, state.offset = _location(client, response), 0
    return False


async def _send(client: Client, blob: Descriptor, file: BinaryIO, state: _Upload, on_bytes: Callable[[int], None]) -> None:
    while blob.size - state.offset > state.chunk:
        size = state.chunk
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"{state.offset}-{state.offset + size - 1}",
        }
        request = Request("PATCH", state.url, headers, body=_body(file, state.offset, size, on_bytes), size=size)
        async with client.attempt(request) as response:
            if response.status_code not in (201, 202, 204):
                raise await client.refusal(response)
            state.url, state.offset = _location(client, response), state.offset + size
    size = blob.size - state.offset
    url = str(httpx.URL(state.url).copy_merge_params({"digest": blob.digest}))
    headers = {"Content-Type": "application/octet-stream"}
    async with client.attempt(
        Request("PUT", url, headers, body=_body(file, state.offset, size, on_bytes), size=size)
    ) as response:
        if response.status_code not in (201, 202, 204):
            raise await client.refusal(response)


async def _ask_offset(client: Client, blob: Descriptor, state: _Upload) -> None:
    """How much the registry has of a session; the session is given up if it does not say."""
    url, state.url = state.url, ""
    if not url:
        return
    try:
        async with client.attempt(Request("GET", url)) as response:
            _, _, last = response.headers.get("range", "").partition("-")
            if response.status_code == 204 and last.isdecimal() and int(last) < blob.size:
                state.url = _location(client, response) if "location" in response.headers else url
                state.offset = int(last) + 1 if int(last) else 0
    except Fault:
        return


def _location(client: Client, response: httpx.Response) -> str:
    """Where to go on. It may be another host (which gets no credentials), but not without TLS what began with it."""
    location = response.headers.get("location", "")
    target = response.url.join(location)
    if not location or target.scheme not in ("http", "https") or target.userinfo:
        raise client.fault(Kind.UNEXPECTED, "it does not say where the upload goes on")
    if response.url.scheme == "https" and target.scheme == "http":
        raise client.fault(Kind.REDIRECT, f"an upload from https to {target.scheme}://{target.host}")
    return str(target)


def _body(file: BinaryIO, offset: int, size: int, on_bytes: Callable[[int], None]) -> Callable[[], AsyncIterator[bytes]]:
    def piece(at: int, most: int) -> bytes:
        file.seek(at)
        return file.read(most)

    async def body() -> AsyncIterator[bytes]:
        done = 0
        while done < size:
            data = await trio.to_thread.run_sync(piece, offset + done, min(PIECE, size - done))
            if not data:
                raise AssertionError(f"a verified blob became shorter: {offset + done} bytes")
            yield data
            done += len(data)
            on_bytes(offset + done)

    return body
