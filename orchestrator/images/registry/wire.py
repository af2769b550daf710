"""One HTTP exchange, by httpx: who is trusted, how long it may take, where a redirect may lead.

Credentials go where the caller sends them and no further: a redirect to another origin loses them, cookies are never kept.
Bodies are taken as they are on the wire: digests are those of the bytes that a registry stores.
"""

from __future__ import annotations

import contextlib
import functools
import http.cookiejar
import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType

import httpx
import trio

import orchestrator
from orchestrator.errors import InputError
from orchestrator.images.registry.faults import Fault, Kind, fault_of
from orchestrator.images.registry.settings import Endpoint, Settings, is_loopback
from orchestrator.values import field, frozen, replace

MOST_REDIRECTS = 5
REDIRECTS = frozenset({301, 302, 303, 307, 308})
MOST_DRAINED_BYTES = 64 << 10
LONGEST_DRAIN_S = 1.0
Body = Callable[[], AsyncIterator[bytes]]
"""Makes a request's body, each time that it is sent."""


@frozen
class Request:
    """`body`: of `size` bytes. `authorization`: for the origin of `url` alone."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    authorization: str = field(default="", repr=False)
    body: Body | None = field(default=None, repr=False)
    size: int = 0


class Wire:
    """A context manager. Its connections are used again by whoever asks the same host."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._clients: dict[tuple[str, ...], httpx.AsyncClient] = {}
        self._making = trio.Lock()
        self._timeout = httpx.Timeout(settings.bounds.silence_s, connect=settings.bounds.connect_s, pool=None)

    async def __aenter__(self) -> Wire:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        with trio.CancelScope(shield=True):
            for client in self._clients.values():
                await client.aclose()

    @contextlib.asynccontextmanager
    async def exchange(self, endpoint: Endpoint, request: Request) -> AsyncIterator[httpx.Response]:
        """The answer, its body not read yet, redirects followed. Raises Fault, also for what httpx raises inside."""
        host = endpoint.host
        try:
            host = _host(httpx.URL(request.url))
            response = await self._follow(endpoint, request)
            host = _host(response.url)
            try:
                yield response
                await _drain(response)
            finally:
                with trio.CancelScope(shield=True):
                    await response.aclose()
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise fault_of(exc, endpoint.name, host) from exc

    async def read(self, endpoint: Endpoint, response: httpx.Response, most_bytes: int) -> bytes:
        """A small body. Raises Fault for one that is larger or takes too long."""
        data = bytearray()
        with trio.move_on_after(self.settings.bounds.answer_s) as scope:
            async with body_of(response) as body:
                async for piece in body:
                    data += piece
                    if len(data) > most_bytes:
                        raise Fault(Kind.TOO_LARGE, endpoint.name, f"more than {most_bytes} bytes of {response.url.path}")
        if scope.cancelled_caught:
            raise Fault(Kind.STALLED, endpoint.name, _host(response.url))
        return bytes(data)

    async def _follow(self, endpoint: Endpoint, request: Request) -> httpx.Response:
        for _ in range(MOST_REDIRECTS + 1):
            response = await self._send(endpoint, request)
            location = response.headers.get("location")
            if response.status_code not in REDIRECTS or not location:
                return response
            await response.aclose()
            request = _redirected(endpoint, request, response, location)
        raise Fault(Kind.REDIRECT, endpoint.name, f"more than {MOST_REDIRECTS}, at {_host(response.url)}")

    async def _send(self, endpoint: Endpoint, request: Request) -> httpx.Response:
        url = httpx.URL(request.url)
        client = await self._client(endpoint, url)
        headers = {**request.headers}
        if request.authorization:
            headers["Authorization"] = request.authorization
        if request.body is not None or request.method in ("POST", "PUT", "PATCH"):
            headers["Content-Length"] = str(request.size)
        content = request.body() if request.body is not None else None
        made = client.build_request(request.method, url, headers=headers, content=content)
        limit_s = self.settings.bounds.answer_s if request.body is None else float("inf")
        with trio.move_on_after(limit_s) as scope:
            return await client.send(made, stream=True)
        assert scope.cancelled_caught
        raise Fault(Kind.STALLED, endpoint.name, _host(url))

    async def _client(self, endpoint: Endpoint, url: httpx.URL) -> httpx.AsyncClient:
        host = _host(url)
        proxied = not is_loopback(host)
        own = host == endpoint.host
        insecure = own and self.settings.of(endpoint.name).insecure
        files = self.settings.authorities(host, endpoint.name if own else host) if url.scheme == "https" else ()
        anyone = url.scheme == "http" or insecure
        key = (str(proxied), *(("anyone",) if anyone else files))
        async with self._making:
            if (client := self._clients.get(key)) is not None:
                return client
            context = False if anyone else await trio.to_thread.run_sync(_trusting, _stamped(files))
            client = httpx.AsyncClient(
                verify=context,
                trust_env=proxied,
                timeout=self._timeout,
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=8),
                headers={"User-Agent": f"pystack/{orchestrator.__version__}", "Accept-Encoding": "identity"},
            )
            client.cookies.jar.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
            self._clients[key] = client
            return client


async def _drain(response: httpx.Response) -> None:
    """Read what is left of a small body that nobody wanted, so that the connection can be used again."""
    size = response.headers.get("content-length", "")
    if not response.is_stream_consumed and size.isdecimal() and int(size) <= MOST_DRAINED_BYTES:
        with trio.move_on_after(LONGEST_DRAIN_S), contextlib.suppress(httpx.HTTPError):
            async with body_of(response) as body:
                async for _ in body:
                    pass


@contextlib.asynccontextmanager
async def body_of(response: httpx.Response) -> AsyncIterator[AsyncIterator[bytes]]:
    """The body, which may be left before its end: the response is closed then, and httpx's generators, each of which reads
    from the next, are run until they notice. Nothing else ends them but the garbage collector, about which trio complains.
    """
    body = response.aiter_raw()
    try:
        yield body
    finally:
        with trio.CancelScope(shield=True), contextlib.suppress(httpx.HTTPError, httpx.StreamError):
            await response.aclose()
            async for _ in body:
                pass


def origin(url: httpx.URL) -> tuple[str, str, int | None]:
    """What has to be the same for a credential to be the same's."""
    return url.scheme, url.host, url.port or {"https": 443, "http": 80}.get(url.scheme)


def _redirected(endpoint: Endpoint, request: Request, response: httpx.Response, location: str) -> Request:
    """Raises Fault for where nobody should go: out of TLS, or elsewhere with something that is being written."""
    here = response.url
    target = here.join(location)
    same = origin(target) == origin(here)
    if target.scheme not in ("http", "https") or not target.host or target.userinfo:
        raise Fault(Kind.REDIRECT, endpoint.name, f"{_host(here)} names no address")
    if here.scheme == "https" and target.scheme == "http":
        raise Fault(Kind.REDIRECT, endpoint.name, f"from https://{_host(here)} to http://{_host(target)}")
    if request.method not in ("GET", "HEAD") and not same:
        raise Fault(Kind.REDIRECT, endpoint.name, f"{request.method} from {_host(here)} to {_host(target)}")
    return replace(request, url=str(target), authorization=request.authorization if same else "")


def _host(url: httpx.URL) -> str:
    return url.netloc.decode("ascii", "replace")


def _stamped(files: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    """With the time of each file's last change, so that a replaced one is read again."""
    try:
        return tuple((file, os.stat(file).st_mtime_ns) for file in files)
    except OSError as exc:
        raise InputError(f"is no CA certificate: {exc.strerror}", place=str(exc.filename), hint="it must be PEM") from exc


@functools.cache
def _trusting(files: tuple[tuple[str, int], ...]) -> ssl.SSLContext:
    """The machine's CAs, or SSL_CERT_FILE's (OpenSSL reads it), or, where there are none, those that come with httpx; made
    once, since that reads all of them. Raises InputError."""
    paths = ssl.get_default_verify_paths()
    there = paths.cafile or (paths.capath and os.listdir(paths.capath))
    context = ssl.create_default_context() if there else httpx.create_ssl_context(trust_env=False)
    for file, _ in files:
        try:
            context.load_verify_locations(file)
        except (OSError, ssl.SSLError) as exc:
            reason = getattr(exc, "reason", None) or exc.strerror or str(exc)
            raise InputError(f"is no CA certificate: {reason}", place=file, hint="it must be PEM") from exc
    return context
