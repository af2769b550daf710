"""``links`` and ``external_links``: names that one service alone has for others."""

from __future__ import annotations

import re

from orchestrator.compose.kinds.values import go_text
from orchestrator.compose.model import namespaces
from orchestrator.compose.model.reader import Reader
from orchestrator.compose.model.selection import services_of
from orchestrator.compose.text.tree import Node, place_of
from orchestrator.model.names import CONTAINER_NAME
from orchestrator.model.namespaces import Namespaces, Sharing
from orchestrator.model.network import Link

_ALIAS = re.compile(r"[^\s:/]+")


def links(read: Reader, node: Node, path: str, shared: Namespaces) -> tuple[Link, ...]:
    """``SERVICE[:ALIAS]`` and, of external ones, ``CONTAINER[:ALIAS]``. Whose network is another's has no names of its own:
    that is said elsewhere."""
    if shared.network.sharing not in (Sharing.PRIVATE, Sharing.NONE):
        return ()
    own = _networks(node)
    found = []
    for key in ("links", "external_links"):
        for number, item in enumerate(read.each(node, key)):
            link = _link(read, item, f"{path}.{key}[{number}]", external=key == "external_links")
            if link is not None and _on_one_network(read, item, link, own):
                found.append(link)
    return tuple(found)


def _link(read: Reader, item: Node, place: str, *, external: bool) -> Link | None:
    text = go_text(item.value)
    target, colon, alias = text.partition(":")
    kind = "CONTAINER" if external else "SERVICE"
    if not target or (colon and _ALIAS.fullmatch(alias) is None):
        read.error(item, place, f'"{text}" is not a link', f"write {kind} or {kind}:ALIAS")
        return None
    if external and re.fullmatch(CONTAINER_NAME, target) is None:
        read.error(item, place, f'"{target}" is not a container name', "letters, digits, and then also . _ -")
        return None
    if not external and target not in services_of(read.model):
        return None  # `service_rules` says so.
    return Link(alias or target, target, external, place)


def _on_one_network(read: Reader, item: Node, link: Link, own: frozenset[str]) -> bool:
    other = None if link.external else services_of(read.model)[link.target]
    if own if other is None else own & _networks(other):
        return True
    if other is None:
        read.error(item, link.place, f'no network leads to the container "{link.target}"', "add networks:")
        return False
    message = f'no network leads to "{link.target}": it is on none of those of this service'
    related = (place_of(other, f"services.{link.target}", key=True),)
    read.error(item, link.place, message, "give both a network in common, below networks:", related=related)
    return False


def _networks(node: Node) -> frozenset[str]:
    item = node.get("networks")
    default = (namespaces.DEFAULT,) if namespaces.is_on_default(node) else ()
    return frozenset((*default, *(name for name, _ in (item.items() if item is not None else ()))))
