"""What can go wrong with a registry: one kind each, and for each kind the sentence, the hint, and whether to try again.

Inside this package a `Fault` is raised; `error_of` makes it the one OperationError that the user sees, with the reference.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Mapping
from enum import Enum, auto

import httpx

from orchestrator.errors import OperationError
from orchestrator.values import frozen

LONGEST_DETAIL = 300
"""Characters of what a registry says that are shown."""


FEW, MANY = 3, 100


class Kind(Enum):
    """What happened."""

    UNKNOWN_HOST = auto()
    REFUSED = auto()
    UNREACHABLE = auto()
    NO_TLS = auto()
    NOT_TRUSTED = auto()
    STALLED = auto()
    CUT = auto()
    PROTOCOL = auto()
    NOT_A_REGISTRY = auto()
    LOGIN_NEEDED = auto()
    LOGIN_REFUSED = auto()
    DENIED = auto()
    NOT_FOUND = auto()
    THROTTLED = auto()
    BROKEN = auto()
    UNEXPECTED = auto()
    REDIRECT = auto()
    TOO_LARGE = auto()
    WRONG_SIZE = auto()
    WRONG_DIGEST = auto()
    BAD_CONTENT = auto()


@frozen
class Row:
    """`sentence` follows the registry's name. `attempts`: how many make sense, within `Bounds.attempts`."""

    sentence: str
    hint: str
    attempts: int = 1


_NETWORK = "is the name right, and does this machine reach it? a proxy is taken from HTTPS_PROXY and NO_PROXY"
_LYING = "the registry or a proxy before it changes what passes; pull from another mirror, or tell its operator"

ROWS: Mapping[Kind, Row] = {
    Kind.UNKNOWN_HOST: Row("its host name is not known", _NETWORK),
    Kind.REFUSED: Row("it refuses the connection", "does a registry listen there? check host and port", FEW),
    Kind.UNREACHABLE: Row("it cannot be reached", _NETWORK, FEW),
    Kind.NO_TLS: Row(
        "it does not speak TLS",
        "if it is meant to be without TLS, write `insecure = true` for it in registries.toml",
    ),
    Kind.NOT_TRUSTED: Row(
        "its certificate is not trusted",
        "name its CA as `ca` in registries.toml, or put it into /etc/docker/certs.d/HOST/ca.crt",
    ),
    Kind.STALLED: Row("it stopped answering", "try again; the time limits are in registries.toml", MANY),
    Kind.CUT: Row("it cut the connection", "try again: what came already is kept", MANY),
    Kind.PROTOCOL: Row("it does not speak HTTP as it should", "is this a registry? check host and port"),
    Kind.NOT_A_REGISTRY: Row("it is not a registry", "check the host, and the path of a mirror in registries.toml"),
    Kind.LOGIN_NEEDED: Row("it wants a login", "run `pystack login {registry}`; is the name of the image right?"),
    Kind.LOGIN_REFUSED: Row("it refuses the login", "run `pystack login {registry}` with what it knows"),
    Kind.DENIED: Row("it denies access", "the account needs a right that it has not; is the name of the image right?"),
    Kind.NOT_FOUND: Row("it has no such image", "check the name and the tag"),
    Kind.THROTTLED: Row("too many requests", "wait, log in with `pystack login {registry}`, or use a mirror", MANY),
    Kind.BROKEN: Row("it failed", "try again later: the fault is the registry's", MANY),
    Kind.UNEXPECTED: Row("it gave an unexpected answer", "is this a registry? check host and port"),
    Kind.REDIRECT: Row("it redirects to where nobody should go", "name the registry, or a mirror, by its final address"),
    Kind.TOO_LARGE: Row("its answer is too large", _LYING),
    Kind.WRONG_SIZE: Row("what it sent has not the size that it should have", _LYING),
    Kind.WRONG_DIGEST: Row("what it sent has not the digest that it should have", _LYING),
    Kind.BAD_CONTENT: Row("what it sent cannot be used", "tell whoever made the image, or the registry's operator"),
}


class Fault(Exception):
    """`registry`: as the user names it. `detail`: what is known beyond the kind. `status`: of the answer, if there was one.
    `retry_after_s`: what the registry asked for. `hint`: in place of the kind's. `final`: set once nobody should try again.
    """

    def __init__(
        self,
        kind: Kind,
        registry: str,
        detail: str = "",
        *,
        status: int = 0,
        retry_after_s: float | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(f"registry {registry}: {ROWS[kind].sentence}" + (f" ({_short(detail)})" if detail else ""))
        self.kind = kind
        self.registry = registry
        self.detail = detail
        self.status = status
        self.retry_after_s = retry_after_s
        self.final = False
        self.hint = hint or ROWS[kind].hint.format(registry=registry)

    @property
    def attempts(self) -> int:
        return 1 if self.final else ROWS[self.kind].attempts


def error_of(fault: Fault, doing: str) -> OperationError:
    """`doing`: ``cannot pull NAME``."""
    return OperationError(f"{doing}: {fault}", hint=fault.hint)


def fault_of(exc: Exception, registry: str, host: str) -> Fault:
    """What an exception of httpx (or of what is below it) means; `host` was asked."""
    causes = list(_causes(exc))
    for kind, kinds in _BY_CAUSE:
        found = next((cause for cause in causes if isinstance(cause, kinds)), None)
        if isinstance(found, socket.gaierror) and found.errno != socket.EAI_NONAME:
            kind = Kind.UNREACHABLE
        if found is not None:
            return Fault(kind, registry, _detail(kind, found, host))
    return Fault(Kind.CUT, registry, f"{host}: {exc or type(exc).__name__}")


_BY_CAUSE: tuple[tuple[Kind, tuple[type[BaseException], ...]], ...] = (
    (Kind.NOT_TRUSTED, (ssl.SSLCertVerificationError,)),
    (Kind.UNKNOWN_HOST, (socket.gaierror,)),
    (Kind.REFUSED, (ConnectionRefusedError,)),
    (Kind.UNREACHABLE, (httpx.ConnectTimeout, httpx.ProxyError)),
    (Kind.STALLED, (httpx.TimeoutException,)),
    (Kind.NO_TLS, (ssl.SSLError,)),
    (Kind.UNREACHABLE, (httpx.ConnectError,)),
    (Kind.REDIRECT, (httpx.InvalidURL, httpx.UnsupportedProtocol)),
    (Kind.CUT, (httpx.NetworkError,)),
    (Kind.CUT, (httpx.RemoteProtocolError,)),
    (Kind.PROTOCOL, (httpx.ProtocolError,)),
)
"""The first row that fits. The exception itself and all that it was raised from are looked at, by class alone."""


def _detail(kind: Kind, cause: BaseException, host: str) -> str:
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"{host}: {cause.verify_message}"
    return host if kind in (Kind.REFUSED, Kind.UNKNOWN_HOST, Kind.STALLED) else f"{host}: {cause or type(cause).__name__}"


def _causes(exc: BaseException) -> Iterator[BaseException]:
    ahead, seen = [exc], set[int]()
    while ahead:
        cause = ahead.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        if isinstance(cause, BaseExceptionGroup):
            ahead += cause.exceptions
        ahead += [each for each in (cause.__cause__, cause.__context__) if each is not None]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_DETAIL else line[: LONGEST_DETAIL - 3] + "..."
