"""A registry of the tests' own: plain sockets in threads, correct unless a test asks it for trouble.

`FakeRegistry` keeps blobs and manifests in memory, counts what it sends, and hands single requests to the `Trouble` that a
test planted for them: a function that gets the connection and does with it what a real registry never would.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from orchestrator.images.registry.settings import Settings
from orchestrator.values import replace

PIECE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came. `headers` by their lower-case names."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False, default=b"")

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return {key: values[0] for key, values in parse_qs(urlsplit(self.target).query).items()}


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


Trouble = Callable[["FakeRegistry", socket.socket, Seen], Answer | None]
"""Returns an answer to send, or None when it has done with the connection what it wanted, which is closed then."""


class FakeRegistry:
    """A context manager. `host` is ``127.0.0.1:PORT``. `challenge`: the WWW-Authenticate for whoever sends none of
    `accepted`, None for an open registry. `sent`: bytes of bodies by path."""

    def __init__(self, *, certificate: tuple[str, str] | None = None) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[bytes, str]] = {}
        self.uploads: dict[str, bytearray] = {}
        self.seen: list[Seen] = []
        self.sent: dict[str, int] = {}
        self.challenge: str | None = None
        self.accepted: frozenset[str] = frozenset()
        self.ranges = True
        self.released = threading.Event()
        """Set when the server ends: who stalls waits for it."""
        self._troubles: list[list[object]] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._context = None
        if certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(*certificate)
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> FakeRegistry:
        self._start(self._accept)
        return self

    def __exit__(self, *_exc: object) -> None:
        self.released.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in [*self._threads]:
            thread.join(10)
            assert not thread.is_alive()

    def plant(self, pattern: str, trouble: Trouble, *, times: int = 1) -> None:
        """The next `times` requests whose ``METHOD TARGET`` fits the pattern are its."""
        with self._lock:
            self._troubles.append([re.compile(pattern), trouble, times])

    def requests(self, pattern: str) -> list[Seen]:
        """Those that came, by ``METHOD TARGET``."""
        with self._lock:
            return [seen for seen in self.seen if re.match(pattern, f"{seen.method} {seen.target}")]

    # Content

    def add_blob(self, data: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blobs[digest] = data
        return digest

    def add_manifest(self, repository: str, tag: str, document: object, media_type: str | None = None) -> str:
        """Under its tag and its digest, which is returned. `document`: JSON, or bytes as they are."""
        raw = document if isinstance(document, bytes) else json.dumps(document).encode()
        if media_type is None:
            media_type = json.loads(raw)["mediaType"]
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        self.manifests[repository, tag] = self.manifests[repository, digest] = (raw, media_type)
        return digest

    # Serving

    def _start(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        wrapped = connection
        try:
            if self._context is not None:
                wrapped = self._context.wrap_socket(connection, server_side=True)
            with wrapped, wrapped.makefile("rb") as stream:
                while (seen := _read(stream)) is not None:
                    with self._lock:
                        self.seen.append(seen)
                    trouble = self._trouble(seen)
                    answer = self._answer(seen) if trouble is None else trouble(self, wrapped, seen)
                    if answer is None:
                        return
                    self._send(wrapped, seen, answer)
        except (OSError, ValueError):
            return
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _trouble(self, seen: Seen) -> Trouble | None:
        with self._lock:
            for planted in self._troubles:
                pattern, trouble, times = planted
                if times and pattern.match(f"{seen.method} {seen.target}"):  # type: ignore[attr-defined]
                    planted[2] = times - 1  # type: ignore[operator]
                    return trouble  # type: ignore[return-value]
        return None

    def _send(self, connection: socket.socket, seen: Seen, answer: Answer) -> None:
        headers = {"Content-Length": str(len(answer.body)), **answer.headers}
        head = f"HTTP/1.1 {answer.status} Status\r\n" + "".join(f"{key}: {value}\r\n" for key, value in headers.items())
        connection.sendall(head.encode() + b"\r\n")
        if seen.method != "HEAD":
            self.send_body(connection, seen, answer.body)

    def send_body(self, connection: socket.socket, seen: Seen, body: bytes) -> None:
        """In pieces, counted."""
        for at in range(0, len(body), PIECE):
            connection.sendall(body[at : at + PIECE])
            with self._lock:
                self.sent[seen.path] = self.sent.get(seen.path, 0) + len(body[at : at + PIECE])

    # The API

    def _answer(self, seen: Seen) -> Answer:
        if self.challenge is not None and seen.headers.get("authorization") not in self.accepted:
            return Answer(401, {"WWW-Authenticate": self.challenge}, _error("UNAUTHORIZED", "authentication required"))
        if seen.path in ("/v2", "/v2/"):
            return Answer(200, {"Content-Type": "application/json"}, b"{}")
        for pattern, serve in _ROUTES:
            if found := re.fullmatch(pattern, seen.path):
                return serve(self, seen, *found.groups())
        return Answer(404, {}, _error("NAME_UNKNOWN", "repository name not known to registry"))


def _manifest(registry: FakeRegistry, seen: Seen, repository: str, reference: str) -> Answer:
    if seen.method == "PUT":
        digest = registry.add_manifest(repository, reference, seen.body, seen.headers["content-type"])
        return Answer(201, {"Docker-Content-Digest": digest})
    found = registry.manifests.get((repository, reference))
    if found is None:
        return Answer(404, {}, _error("MANIFEST_UNKNOWN", "manifest unknown"))
    digest = f"sha256:{hashlib.sha256(found[0]).hexdigest()}"
    return Answer(200, {"Content-Type": found[1], "Docker-Content-Digest": digest}, found[0])


def _blob(registry: FakeRegistry, seen: Seen, repository: str, digest: str) -> Answer:
    data = registry.blobs.get(digest)
    if data is None:
        return Answer(404, {}, _error("BLOB_UNKNOWN", "blob unknown to registry"))
    asked = re.fullmatch(r"bytes=(\d+)-", seen.headers.get("range", "")) if registry.ranges else None
    if asked is None:
        return Answer(200, {}, data)
    begin = int(asked[1])
    if begin >= len(data):
        return Answer(416)
    return Answer(206, {"Content-Range": f"bytes {begin}-{len(data) - 1}/{len(data)}"}, data[begin:])


def _begin_upload(registry: FakeRegistry, seen: Seen, repository: str) -> Answer:
    if seen.query.get("mount") in registry.blobs:
        return Answer(201, {"Location": f"/v2/{repository}/blobs/{seen.query['mount']}"})
    name = f"upload{len(registry.uploads)}"
    registry.uploads[name] = bytearray()
    return Answer(202, {"Location": f"/v2/{repository}/blobs/uploads/{name}?_state=x%2By", "Range": "0-0"})


def _upload(registry: FakeRegistry, seen: Seen, repository: str, name: str) -> Answer:
    held = registry.uploads[name]
    here = {"Location": seen.target, "Range": f"0-{max(len(held) - 1, 0)}"}
    if seen.method == "GET":
        return Answer(204, here)
    if seen.method == "PATCH" and int(seen.headers["content-range"].partition("-")[0]) != len(held):
        return Answer(416, here)
    held += seen.body
    if seen.method == "PATCH":
        return Answer(202, {"Location": seen.target, "Range": f"0-{len(held) - 1}"})
    digest = f"sha256:{hashlib.sha256(held).hexdigest()}"
    if seen.query["digest"] != digest:
        return Answer(400, {}, _error("DIGEST_INVALID", "provided digest did not match uploaded content"))
    registry.blobs[digest] = bytes(held)
    return Answer(201, {"Location": f"/v2/{repository}/blobs/{digest}"})


def _tags(registry: FakeRegistry, seen: Seen, repository: str) -> Answer:
    names = sorted(tag for name, tag in registry.manifests if name == repository and ":" not in tag)
    left = [name for name in names if name > seen.query.get("last", "")]
    shown = left[:2]
    more = {"Link": f'</v2/{repository}/tags/list?last={shown[-1]}>; rel="next"'} if len(left) > 2 else {}
    return Answer(200, more, json.dumps({"name": repository, "tags": shown}).encode())


_ROUTES: list[tuple[str, Callable[..., Answer]]] = [
    (r"/v2/(.+)/manifests/([^/]+)", _manifest),
    (r"/v2/(.+)/blobs/uploads/", _begin_upload),
    (r"/v2/(.+)/blobs/uploads/([^/]+)", _upload),
    (r"/v2/(.+)/blobs/([^/]+)", _blob),
    (r"/v2/(.+)/tags/list", _tags),
]


def _error(code: str, message: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


def _read(stream: object) -> Seen | None:
    readline, read = stream.readline, stream.read  # type: ignore[attr-defined]
    line = readline().decode()
    if not line:
        return None
    method, target, _ = line.split(" ", 2)
    headers = {}
    while (line := readline().decode().rstrip("\r\n")) != "":
        key, _, value = line.partition(":")
        headers[key.lower()] = value.strip()
    return Seen(method, target, headers, read(int(headers.get("content-length", 0))))


# Trouble


def answers(status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Trouble:
    return lambda registry, connection, seen: Answer(status, headers or {}, body)


def cuts(registry: FakeRegistry, connection: socket.socket, seen: Seen) -> None:
    """Says nothing and hangs up."""


def cuts_after(count: int) -> Trouble:
    """The right answer to GET for a blob, of which `count` bytes come."""

    def trouble(registry: FakeRegistry, connection: socket.socket, seen: Seen) -> None:
        answer = registry._answer(seen)
        head = f"HTTP/1.1 {answer.status} OK\r\nContent-Length: {len(answer.body)}\r\n"
        head += "".join(f"{key}: {value}\r\n" for key, value in answer.headers.items())
        connection.sendall(head.encode() + b"\r\n")
        registry.send_body(connection, seen, answer.body[:count])

    return trouble


def stalls(registry: FakeRegistry, connection: socket.socket, seen: Seen) -> None:
    """Says nothing, and keeps the connection."""
    registry.released.wait()


def stalls_after(count: int) -> Trouble:
    """As `cuts_after`, but keeps the connection."""
    cut = cuts_after(count)

    def stalls_late(registry: FakeRegistry, connection: socket.socket, seen: Seen) -> None:
        cut(registry, connection, seen)
        registry.released.wait()

    return stalls_late


def drips(registry: FakeRegistry, connection: socket.socket, seen: Seen) -> None:
    """Header after header, without an end."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    with contextlib.suppress(OSError):
        while not registry.released.wait(0.01):
            connection.sendall(b"X: y\r\n")


def patience(settings: Settings, trouble: Trouble) -> Settings:
    """Little, where the trouble is silence."""
    if getattr(trouble, "__name__", "") not in ("stalls", "stalls_late", "drips"):
        return settings
    return replace(settings, bounds=replace(settings.bounds, silence_s=0.2, answer_s=0.3))


def writes(data: bytes) -> Trouble:
    """Exactly this, and hangs up."""

    def trouble(registry: FakeRegistry, connection: socket.socket, seen: Seen) -> None:
        connection.sendall(data)

    return trouble
