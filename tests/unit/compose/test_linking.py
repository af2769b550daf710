"""``links`` and ``external_links``: what they may say, and that a network must lead there."""

from __future__ import annotations

import pytest

from orchestrator.model.names import ServiceName
from orchestrator.model.network import Link
from orchestrator.model.service import Condition
from tests.unit.compose.stacks import Stack

WEB = ServiceName("web")


def test_a_link_is_a_name_and_a_dependency(stack: Stack) -> None:
    web = stack.load("services: {db: {image: host}, web: {image: host, links: [db, 'db:store']}}\n").project.services[WEB]
    assert [(link.alias, link.target, link.external) for link in web.links] == [("db", "db", False), ("store", "db", False)]
    edge = web.depends_on[ServiceName("db")]
    assert (edge.condition, edge.restart) == (Condition.STARTED, True)


def test_an_external_link_names_a_container_and_waits_for_nobody(stack: Stack) -> None:
    web = stack.load("services: {web: {image: host, external_links: [shop-db-1, 'cache-1:cache']}}\n").project.services[WEB]
    assert web.links == (
        Link("shop-db-1", "shop-db-1", True, "services.web.external_links[0]"),
        Link("cache", "cache-1", True, "services.web.external_links[1]"),
    )
    assert not web.depends_on


@pytest.mark.parametrize(
    ("attributes", "complaint"),
    [
        ("links: ['db:']", "is not a link"),
        ("links: ['db:a b']", "is not a link"),
        ("external_links: [':x']", "is not a link"),
        ("external_links: ['a/b:x']", "is not a container name"),
        ("links: [db], networks: [other]", 'no network leads to "db"'),
        ("links: [db], network_mode: none", 'no network leads to "db"'),
        ("external_links: [db-1], network_mode: none", "no network leads to the container"),
        ("external_links: [db-1], network_mode: host", "external_links and network_mode: host exclude each other"),
    ],
)
def test_what_cannot_be_linked_is_refused_where_it_stands(stack: Stack, attributes: str, complaint: str) -> None:
    (message,) = stack.messages(
        f"networks: {{other: {{}}}}\nservices:\n  db: {{image: host}}\n  web: {{image: host, {attributes}}}\n"
    )
    assert "compose.yaml:4:" in message
    assert complaint in message
