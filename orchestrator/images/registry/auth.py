"""Answering a registry's challenge: Basic, or a token from its realm (distribution, "Token Authentication Specification").

One `Authenticator` belongs to one endpoint and one repository's credentials. Tokens are kept for each set of scopes until
they expire. A password is sent to the registry itself, or to the realm that the registry named over the same or a better
protection; a refresh token is sent to the realm alone.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import trio

from orchestrator.images.registry.challenges import Challenge, parse_challenges, preferred
from orchestrator.images.registry.credentials import Credential
from orchestrator.images.registry.faults import Fault, Kind
from orchestrator.images.registry.retry import persistently, retry_after_s
from orchestrator.images.registry.settings import Endpoint, is_registry
from orchestrator.images.registry.wire import Request, Wire
from orchestrator.values import frozen

MOST_TOKEN_BYTES = 1 << 20
DEFAULT_LIFE_S = 60.0
"""A token's, if the realm says nothing."""
EARLY_S = 10.0
"""Before it expires a token is not used any more; half of its life, if that is shorter."""
CLIENT_ID = "pystack"

Scopes = tuple[str, ...]


@frozen
class Token:
    """`until_s`: of trio's clock."""

    text: str
    until_s: float


class Authenticator:
    """`credential`: None for nobody in particular."""

    def __init__(self, wire: Wire, endpoint: Endpoint, credential: Credential | None) -> None:
        self._wire = wire
        self._endpoint = endpoint
        self._credential = credential
        self._challenge: Challenge | None = None
        self._tokens: dict[Scopes, Token] = {}
        self._asking = trio.Lock()

    async def authorization(self, scopes: Scopes) -> str:
        """What to send along, as far as the registry has said that it wants something. Raises Fault."""
        challenge = self._challenge
        if challenge is None:
            return ""
        if challenge.scheme == "basic":
            return basic(self._credential) if self._credential is not None and self._credential.user else ""
        async with self._asking:
            token = self._tokens.get(scopes)
            if token is None or token.until_s <= trio.current_time():
                token = self._tokens[scopes] = await persistently(
                    self._wire.settings.bounds, lambda: self._ask(challenge, scopes)
                )
        return f"Bearer {token.text}"

    def challenged(self, headers: httpx.Headers, over: str, scopes: Scopes, sent: str) -> None:
        """A 401 came over `over` (http or https) for `sent`. Returns if another attempt has something else to send."""
        challenge = preferred(parse_challenges(headers.get_list("www-authenticate")))
        if challenge is None:
            raise Fault(Kind.UNEXPECTED, self._endpoint.name, "HTTP 401 without a challenge that is known", status=401)
        if challenge.scheme == "bearer":
            self._check_realm(challenge.parameters["realm"], over)
        known, self._challenge = self._challenge, challenge
        stale = self._tokens.get(scopes)
        if stale is not None and sent == f"Bearer {stale.text}":
            del self._tokens[scopes]
        if known is not None and known.scheme == "basic" == challenge.scheme:
            self.refused()

    def refused(self) -> None:
        """Raise what it means that the answer to a challenge was not taken."""
        kind = Kind.LOGIN_NEEDED if self._credential is None else Kind.LOGIN_REFUSED
        raise Fault(kind, self._endpoint.name, "HTTP 401", status=401)

    def _check_realm(self, realm: str, over: str) -> None:
        try:
            url = httpx.URL(realm)
        except httpx.InvalidURL:
            url = httpx.URL("")
        address = is_registry(url.netloc.decode("ascii", "replace")) and not url.userinfo
        if url.scheme not in ("http", "https") or not address:
            raise Fault(Kind.UNEXPECTED, self._endpoint.name, f"its realm is no address: {realm}")
        if url.scheme == "http" and over == "https":
            raise Fault(Kind.UNEXPECTED, self._endpoint.name, f"its realm would have the password without TLS: {realm}")

    async def _ask(self, challenge: Challenge, scopes: Scopes) -> Token:
        """One request to the realm: a refresh token is posted (OAuth2), a password goes as Basic with a GET."""
        realm, credential = challenge.parameters["realm"], self._credential
        query = [("service", challenge.parameters["service"])] if challenge.parameters.get("service") else []
        wanted = list(scopes) or challenge.parameters.get("scope", "").split()
        if credential is not None and credential.identity_token:
            form = [("grant_type", "refresh_token"), *query, ("client_id", CLIENT_ID), ("scope", " ".join(wanted))]
            body = urlencode([*form, ("refresh_token", credential.identity_token)]).encode()
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            request = Request("POST", realm, headers, body=_once(body), size=len(body))
        else:
            query += [("scope", scope) for scope in wanted]
            if credential is not None:
                query += [("account", credential.user)]
            asked = urlencode(query, quote_via=quote, safe=":,/")
            url = f"{realm}{'&' if '?' in realm else '?'}{asked}" if asked else realm
            request = Request("GET", url, authorization=basic(credential) if credential is not None else "")
        async with self._wire.exchange(self._endpoint, request) as response:
            status = response.status_code
            if status in (400, 401, 403):
                self.refused()
            if status != 200:
                kind = Kind.THROTTLED if status == 429 else Kind.BROKEN if status >= 500 else Kind.UNEXPECTED
                wait_s = retry_after_s(response.headers.get("retry-after"))
                told = f"HTTP {status} from its realm {response.url.host}"
                raise Fault(kind, self._endpoint.name, told, status=status, retry_after_s=wait_s)
            return self._token(await self._wire.read(self._endpoint, response, MOST_TOKEN_BYTES))

    def _token(self, raw: bytes) -> Token:
        try:
            answer: Any = json.loads(raw)
        except (ValueError, RecursionError):
            answer = None
        given = answer if isinstance(answer, Mapping) else {}
        text = given.get("token") or given.get("access_token")
        if not isinstance(text, str) or not text.isascii() or not text.isprintable() or " " in text:
            raise Fault(Kind.UNEXPECTED, self._endpoint.name, "its realm gave no token")
        life = given.get("expires_in")
        life_s = float(life) if isinstance(life, int | float) and life > 0 else DEFAULT_LIFE_S
        return Token(text, trio.current_time() + life_s - min(EARLY_S, life_s / 2))


def basic(credential: Credential) -> str:
    """RFC 7617, in UTF-8."""
    return "Basic " + base64.b64encode(f"{credential.user}:{credential.password}".encode()).decode()


def _once(data: bytes) -> Any:
    async def body() -> Any:
        yield data

    return body
