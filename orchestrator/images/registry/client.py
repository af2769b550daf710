"""A registry's API: OCI distribution-spec 1.1, which Docker Registry v2 has become. One repository of one endpoint.

Small answers are retried as a whole (`persistently`); blobs go in and out as streams, one attempt at a time (`download`,
`upload`). Addresses that a descriptor names (``urls``) are never asked.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import trio

from orchestrator.images.registry.auth import Authenticator, Scopes
from orchestrator.images.registry.credentials import Credential
from orchestrator.images.registry.faults import Fault, Kind
from orchestrator.images.registry.retry import persistently, retry_after_s
from orchestrator.images.registry.settings import Bounds, Endpoint
from orchestrator.images.registry.wire import Request, Wire, origin
from orchestrator.images.spec.descriptor import Descriptor
from orchestrator.images.spec.digest import Digest, digest, digest_of
from orchestrator.images.spec.media_types import ACCEPTED
from orchestrator.values import frozen, replace

MOST_MANIFEST_BYTES = 4 << 20
"""distribution-spec, "Pushing Manifests"."""
MOST_CONFIG_BYTES = 16 << 20
MOST_ANSWER_BYTES = 4 << 20
MOST_ERROR_BYTES = 64 << 10
MOST_PAGES = 10_000
ACCEPT = ", ".join(ACCEPTED)
SCHEME_FAULTS = frozenset({Kind.NO_TLS, Kind.REFUSED, Kind.UNREACHABLE, Kind.CUT, Kind.PROTOCOL})
"""After these, over HTTPS, a registry that may be without TLS is asked over HTTP."""


@frozen
class Raw:
    """A manifest or index as it came. `media_type`: the answer's Content-Type, without parameters."""

    raw: bytes
    media_type: str
    digest: Digest


class Client:
    """`repository`: without the registry, as the user has it. `actions`: ``pull`` or ``pull,push``; `also`: further
    repositories that are read (to mount blobs of)."""

    def __init__(
        self,
        wire: Wire,
        endpoint: Endpoint,
        repository: str,
        credential: Credential | None,
        *,
        actions: str = "pull",
        also: tuple[str, ...] = (),
    ) -> None:
        self.wire = wire
        self.endpoint = endpoint
        self.repository = endpoint.prefix + repository
        self.scopes: Scopes = ()
        if repository:
            self.scopes = (f"repository:{self.repository}:{actions}",)
            self.scopes += tuple(sorted(f"repository:{endpoint.prefix}{other}:pull" for other in also))
        self._auth = Authenticator(wire, endpoint, credential)
        self._base = ""
        self._finding = trio.Lock()

    @property
    def bounds(self) -> Bounds:
        return self.wire.settings.bounds

    def fault(self, kind: Kind, detail: str = "", **more: Any) -> Fault:
        """Of this registry."""
        return Fault(kind, self.endpoint.name, detail, **more)

    # Requests

    async def url(self, path: str) -> str:
        """Of something of this repository: ``manifests/latest``. Asks the registry how it is spoken to, once."""
        await self.ping()
        return f"{self._base}/v2/{self.repository}/{path}"

    async def ping(self) -> None:
        """Whether it is a registry, by HTTPS or else by HTTP; then what it wants from us is known, too. Raises Fault."""
        async with self._finding:
            if not self._base:
                self._base = await persistently(self.bounds, self._find_base)

    async def _find_base(self) -> str:
        endpoint = self.endpoint
        if endpoint.scheme:
            return await self._base_by(endpoint.scheme)
        try:
            return await self._base_by("https")
        except Fault as exc:
            if not endpoint.plain or exc.kind not in SCHEME_FAULTS:
                raise
        return await self._base_by("http")

    async def _base_by(self, scheme: str) -> str:
        base = f"{scheme}://{self.endpoint.host}"
        async with self.wire.exchange(self.endpoint, Request("GET", f"{base}/v2/")) as response:
            if response.status_code == 401:
                self._auth.challenged(response.headers, response.url.scheme, self.scopes, "")
            elif response.status_code == 429 or response.status_code >= 500:
                raise await self.refusal(response)
            elif response.status_code not in (200, 403):
                raise self.fault(Kind.NOT_A_REGISTRY, f"HTTP {response.status_code} from {base}/v2/")
        return base

    async def login(self) -> None:
        """Whether the registry takes our credential. Raises Fault."""
        await self.ping()
        await persistently(self.bounds, self._check_login)

    async def _check_login(self) -> None:
        async with self.attempt(Request("GET", f"{self._base}/v2/")) as response:
            if response.status_code != 200:
                raise await self.refusal(response)

    @contextlib.asynccontextmanager
    async def attempt(self, request: Request) -> AsyncIterator[httpx.Response]:
        """One exchange, with what the registry wants to know of us; a challenge is answered twice at most (a token that
        expired, then a new one). 401 and what may be tried again raise Fault; other statuses are the caller's."""
        for last in (False, False, True):
            sent = await self._auth.authorization(self.scopes) if self._is_own(request.url) else ""
            async with self.wire.exchange(self.endpoint, replace(request, authorization=sent)) as response:
                if response.status_code == 401 and not last and self._is_own(str(response.url)):
                    self._auth.challenged(response.headers, response.url.scheme, self.scopes, sent)
                    continue
                if response.status_code == 401:
                    self._auth.refused()
                if response.status_code in (408, 429) or response.status_code >= 500:
                    raise await self.refusal(response)
                yield response
                return

    def _is_own(self, url: str) -> bool:
        """Whether it is the registry's own address, and not one that it sent us to."""
        return origin(httpx.URL(url)) == origin(httpx.URL(self._base))

    async def refusal(self, response: httpx.Response) -> Fault:
        """What a status that is no success means, with what the registry says (distribution-spec, "Error Codes")."""
        status = response.status_code
        kind = _BY_STATUS.get(status, Kind.BROKEN if status >= 500 else Kind.UNEXPECTED)
        detail = f"HTTP {status}"
        if response.request.method != "HEAD":
            with contextlib.suppress(Fault, httpx.HTTPError):
                detail += _told(await self.wire.read(self.endpoint, response, MOST_ERROR_BYTES))
        wait_s = retry_after_s(response.headers.get("retry-after"))
        if wait_s is not None and wait_s > self.bounds.wait_s:
            detail += f"; it asks us to wait {wait_s:.0f} s"
        return self.fault(kind, detail, status=status, retry_after_s=wait_s)

    # Manifests

    async def manifest(self, reference: str) -> Raw:
        """By tag or digest; for a digest it is verified. Raises Fault."""
        url = await self.url(f"manifests/{reference}")
        return await persistently(self.bounds, lambda: self._manifest(url, reference))

    async def _manifest(self, url: str, reference: str) -> Raw:
        async with self.attempt(Request("GET", url, {"Accept": ACCEPT})) as response:
            if response.status_code != 200:
                raise await self.refusal(response)
            media_type = _media_type(response)
            if media_type == "text/html":
                raise self.fault(Kind.NOT_A_REGISTRY, f"a web page from {url}")
            raw = await self.wire.read(self.endpoint, response, MOST_MANIFEST_BYTES)
            wanted = reference if ":" in reference else _said_digest(response)
        long = wanted is not None and wanted.startswith("sha512:")
        found = Digest(f"sha512:{hashlib.sha512(raw).hexdigest()}") if long else digest_of(raw)
        if wanted and wanted != found:
            raise self.fault(Kind.WRONG_DIGEST, f"manifest {reference} has {found}, not {wanted}")
        return Raw(raw, media_type, found)

    async def head_manifest(self, reference: str) -> Digest | None:
        """The digest of what a tag means now; None if there is nothing, or the registry does not say."""
        url = await self.url(f"manifests/{reference}")

        async def ask() -> Digest | None:
            async with self.attempt(Request("HEAD", url, {"Accept": ACCEPT})) as response:
                if response.status_code not in (200, 404):
                    raise await self.refusal(response)
                return _said_digest(response) if response.status_code == 200 else None

        return await persistently(self.bounds, ask)

    async def put_manifest(self, reference: str, raw: bytes, media_type: str) -> None:
        """Under a tag or its digest. Raises Fault."""
        url = await self.url(f"manifests/{reference}")

        async def body() -> AsyncIterator[bytes]:
            yield raw

        async def put() -> None:
            request = Request("PUT", url, {"Content-Type": media_type}, body=body, size=len(raw))
            async with self.attempt(request) as response:
                if response.status_code not in (200, 201, 202):
                    raise await self.refusal(response)

        await persistently(self.bounds, put)

    async def tags(self) -> list[str]:
        """All of the repository, sorted, over all pages (``Link``, RFC 8288). Raises Fault."""
        url, found = await self.url("tags/list"), list[str]()
        for _ in range(MOST_PAGES):
            page, following = await persistently(self.bounds, lambda url=url: self._tags(url))  # type: ignore[misc]
            found += page
            if not following:
                return sorted(found)
            url = following
        raise self.fault(Kind.TOO_LARGE, f"more than {MOST_PAGES} pages of tags")

    async def _tags(self, url: str) -> tuple[list[str], str]:
        async with self.attempt(Request("GET", url)) as response:
            if response.status_code != 200:
                raise await self.refusal(response)
            answer = _object(await self.wire.read(self.endpoint, response, MOST_ANSWER_BYTES))
            following = response.links.get("next", {}).get("url", "")
            following = str(response.url.join(following)) if following else ""
        names = answer.get("tags") or []
        if not isinstance(names, list) or (following and not self._is_own(following)):
            raise self.fault(Kind.UNEXPECTED, "its list of tags is none")
        return [str(name) for name in names], following

    # Blobs

    async def has_blob(self, blob: Digest) -> bool:
        """Raises Fault."""
        url = await self.url(f"blobs/{blob}")

        async def ask() -> bool:
            async with self.attempt(Request("HEAD", url)) as response:
                if response.status_code not in (200, 404):
                    raise await self.refusal(response)
                return response.status_code == 200

        return await persistently(self.bounds, ask)

    async def small_blob(self, blob: Descriptor) -> bytes:
        """A configuration: into memory, verified. Raises Fault."""
        if blob.size > MOST_CONFIG_BYTES:
            raise self.fault(Kind.TOO_LARGE, f"its configuration has {blob.size} bytes, more than {MOST_CONFIG_BYTES}")
        url = await self.url(f"blobs/{blob.digest}")

        async def ask() -> bytes:
            async with self.attempt(Request("GET", url)) as response:
                if response.status_code != 200:
                    raise await self.refusal(response)
                raw = await self.wire.read(self.endpoint, response, MOST_CONFIG_BYTES)
            if len(raw) != blob.size:
                raise self.fault(Kind.WRONG_SIZE, f"configuration {blob.digest} has {len(raw)} bytes, not {blob.size}")
            if hashlib.new(blob.digest.partition(":")[0], raw).hexdigest() != blob.digest.partition(":")[2]:
                raise self.fault(Kind.WRONG_DIGEST, f"configuration {blob.digest}")
            return raw

        return await persistently(self.bounds, ask)


def _said_digest(response: httpx.Response) -> Digest | None:
    """``Docker-Content-Digest``, where it is a digest that is known."""
    try:
        return digest(response.headers.get("docker-content-digest", ""))
    except ValueError:
        return None


def _media_type(response: httpx.Response) -> str:
    return str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()


def _object(raw: bytes) -> Mapping[str, Any]:
    try:
        given = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return given if isinstance(given, dict) else {}


def _told(raw: bytes) -> str:
    """``: CODE: message`` of the first error that an answer lists, or ""."""
    errors = _object(raw).get("errors")
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    return "".join(f": {first[key]}" for key in ("code", "message") if isinstance(first.get(key), str) and first[key])


_BY_STATUS: Mapping[int, Kind] = {
    401: Kind.LOGIN_NEEDED,
    403: Kind.DENIED,
    404: Kind.NOT_FOUND,
    408: Kind.BROKEN,
    429: Kind.THROTTLED,
}
