"""``dns``, ``dns_search``, ``dns_opt`` and ``extra_hosts`` of a service, as the runtime takes them."""

from __future__ import annotations

import ipaddress
import re

from orchestrator.compose.kinds import expand, long_forms
from orchestrator.compose.kinds.values import go_text
from orchestrator.compose.model.reader import Reader
from orchestrator.compose.text.tree import Node
from orchestrator.model.resolving import HOST_GATEWAY, Resolving

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252})")
_BREAKS = re.compile(r"[\s/#\x00-\x1f\x7f]")
"""What a line of /etc/hosts ends a name at."""
_WORD = re.compile(r"[!-~]{1,255}")
_MOST_SEARCHED = 256
"""Of resolv.conf(5): glibc reads no more name servers, and no longer search lists than 256 names since 2.26."""


def resolving(read: Reader, node: Node, path: str) -> Resolving:
    return Resolving(
        _servers(read, node, path),
        _words(read, node, path, "dns_search", _HOST),
        _words(read, node, path, "dns_opt", _WORD),
        hosts(read, node, path),
    )


def _servers(read: Reader, node: Node, path: str) -> tuple[str, ...]:
    found = []
    for number, item in enumerate(read.each(node, "dns")):
        text = go_text(item.value)
        if not text:
            continue
        try:
            found.append(str(ipaddress.ip_address(text)))
        except ValueError:
            read.error(item, f"{path}.dns[{number}]", f'"{text}" is not an IP address', "a name server has no name yet")
    return tuple(dict.fromkeys(found))


def _words(read: Reader, node: Node, path: str, key: str, pattern: re.Pattern[str]) -> tuple[str, ...]:
    found = []
    for number, item in enumerate(read.each(node, key)):
        text = go_text(item.value)
        if text and text != "." and not pattern.fullmatch(text):
            kind = "a domain" if key == "dns_search" else "an option of the resolver"
            read.error(item, f"{path}.{key}[{number}]", f'"{text}" is not {kind}')
        elif text:
            found.append(text)
    if len(found) > _MOST_SEARCHED:
        read.error(node.get(key) or node, f"{path}.{key}", f"more than {_MOST_SEARCHED}")
    return tuple(found)


def hosts(read: Reader, node: Node, path: str) -> tuple[tuple[str, str], ...]:
    item = node.get("extra_hosts")
    if item is None:
        return ()
    try:
        pairs = long_forms.host_pairs(item)
    except expand.ExpandError:
        return ()  # The canonical model says so.
    found = []
    for host, text in pairs:
        if not _HOST.fullmatch(host):
            read.error(item, f"{path}.extra_hosts", f'"{host}" is not the name of a host')
        elif (address := _address(text)) is None:
            hint = f"write NAME=ADDRESS, or NAME={HOST_GATEWAY} for this machine"
            read.error(item, f"{path}.extra_hosts", f'"{text}" is not an IP address', hint)
        else:
            found.append((host, address))
    return tuple(found)


def _address(text: str) -> str | None:
    if text == HOST_GATEWAY:
        return text
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def own_name(read: Reader, node: Node, path: str, key: str) -> str | None:
    """``hostname`` and ``domainname``: whatever is one name in /etc/hosts. The kernel's length is looked at by who makes
    them."""
    item, text = node.get(key), read.text(node, key)
    if item is not None and text and _BREAKS.search(text):
        read.error(item, f"{path}.{key}", f'"{text}" is not the name of a {"host" if key == "hostname" else "domain"}')
        return None
    return text
