"""Published ports as people read them: ``HOST:PORT``, ranges, URLs that a terminal makes clickable.

Items are ports as the supervisor sends them (`contracts.network.Published` as JSON). Nothing is imported: `ps` and `port`
are to end at once.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    Port = Mapping[str, Any]

_SCHEMES = {
    22: "ssh", 389: "ldap", 443: "https", 636: "ldaps", 1883: "mqtt", 3306: "mysql", 4222: "nats", 5432: "postgresql",
    5672: "amqp", 6379: "redis", 6443: "https", 8443: "https", 9092: "", 9443: "https", 11211: "memcached", 25: "smtp",
    27017: "mongodb", 1025: "smtp", 587: "smtp", 143: "imap", 993: "imaps", 1433: "sqlserver", 3389: "rdp", 5671: "amqps",
}  # fmt: skip
"""By the container's port; "": no URL is known. What is not here is taken for HTTP."""
_CLICKED = ("http", "https")


def protocol_of(port: Port) -> str:
    return str(port.get("protocol", "tcp"))


def at(host: str, port: object) -> str:
    """``HOST:PORT``, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reachable(host: str) -> str:
    """An address of this machine by which a port that is published on `host` is reached from here."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def url_of(port: Port) -> str:
    """``http://127.0.0.1:8080``; "" for UDP, and for what has no URLs."""
    scheme = _SCHEMES.get(port["target"], "http")
    if protocol_of(port) != "tcp" or not scheme:
        return ""
    return f"{scheme}://{at(reachable(port['host_ip']), port['host_port'])}"


def links_text(ports: Iterable[Port], most: int = 3) -> str:
    """What a browser opens."""
    urls = dict.fromkeys(url for port in ports if (url := url_of(port)).partition(":")[0] in _CLICKED)
    shown = list(urls)[:most]
    return " ".join([*shown, "..."] if len(urls) > most else shown)


def ports_text(ports: Iterable[Port]) -> list[str]:
    """``0.0.0.0:8080->80/tcp``; those that follow each other are one: ``0.0.0.0:9000-9010->9000-9010/udp``."""
    runs: list[tuple[Port, Port]] = []
    for port in ports:
        if runs and _follows(runs[-1][1], port):
            runs[-1] = (runs[-1][0], port)
        else:
            runs.append((port, port))
    return [
        f"{at(first['host_ip'], _range(first, last, 'host_port'))}->{_range(first, last, 'target')}/{protocol_of(first)}"
        for first, last in runs
    ]


def _follows(last: Port, port: Port) -> bool:
    return (port["host_ip"], protocol_of(port), port["host_port"], port["target"]) == (
        last["host_ip"], protocol_of(last), last["host_port"] + 1, last["target"] + 1,
    )  # fmt: skip


def _range(first: Port, last: Port, name: str) -> str:
    return str(first[name]) if first is last else f"{first[name]}-{last[name]}"
