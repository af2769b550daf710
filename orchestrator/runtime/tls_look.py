"""TLS for looks from outside: as a client that believes every certificate (``curl --insecure``), since the connection is to
the container itself, whose certificate is for whatever name it is reached by from elsewhere, and signed by anybody.

`ssl` costs nothing: trio imports it. The context is made with the first such look.
"""

from __future__ import annotations

import functools
import ssl

import trio


def encrypted(stream: trio.abc.Stream, host: str) -> trio.SSLStream[trio.abc.Stream]:
    """Before its handshake. `host`: for whom the request is, with a port or without; said to the server (SNI, RFC 6066)
    unless it is an address. HTTP's answers say themselves where they end, so one that is cut off is noticed anyway, and
    many servers close without TLS's own farewell."""
    return trio.SSLStream(stream, _context(), server_hostname=name_in(host), https_compatible=True)


def name_in(host: str) -> str:
    """``shop.example`` of ``shop.example:8443``, ``::1`` of ``[::1]:8443``."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def reason(error: BaseException | None) -> str:
    """What OpenSSL says: ``wrong version number``, when it is no TLS that the server speaks. An end is an end, wherever it
    is noticed."""
    ended = isinstance(error, ssl.SSLEOFError) or not isinstance(error, ssl.SSLError)
    said = None if ended else getattr(error, "reason", None)
    return said.lower().replace("_", " ") if isinstance(said, str) else "it broke the connection off"


@functools.cache
def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
