"""``cascade``: of an entry of ``depends_on``, of a service, of the stack; and what is wrong with it."""

from __future__ import annotations

import pytest

from orchestrator.model.names import ServiceName
from orchestrator.model.service import Cascade
from tests.unit.compose.stacks import Stack


def after_crash(stack: Stack, entry: str, service: str = "", top: str = "") -> Cascade:
    text = f"services: {{a: {{image: host, depends_on: {entry}{service}}}, db: {{image: host}}}}\n{top}"
    return stack.load(text).project.services[ServiceName("a")].depends_on[ServiceName("db")].after_crash


ENTRY = "{db: {condition: service_started, %s}}"
WITH = ENTRY % "x-pystack: {cascade: freeze}"
SERVICE = ", x-pystack: {cascade: ignore}"
TOP = "x-pystack: {cascade: restart}"


@pytest.mark.parametrize(
    ("entry", "service", "top", "expected"),
    [
        ("[db]", "", "", Cascade.IGNORE),
        (ENTRY % "restart: true", "", "", Cascade.RESTART),
        (WITH, "", "", Cascade.FREEZE),
        (WITH, SERVICE, TOP, Cascade.FREEZE),
        ("[db]", ", x-pystack: {cascade: freeze}", TOP, Cascade.FREEZE),
        ("[db]", "", TOP, Cascade.RESTART),
        (ENTRY % "restart: true", SERVICE, "", Cascade.IGNORE),
        ("{db: {condition: service_completed_successfully, restart: true}}", "", TOP, Cascade.IGNORE),
    ],
)
def test_the_nearest_that_says_something_counts(
    stack: Stack, entry: str, service: str, top: str, expected: Cascade
) -> None:
    assert after_crash(stack, entry, service, top) is expected


@pytest.mark.parametrize("implied", ["links: [db]", "network_mode: 'service:db'", "ipc: 'service:db'"])
def test_what_a_link_or_a_shared_namespace_implies_follows_no_crash(stack: Stack, implied: str) -> None:
    for top in ("", TOP):
        text = f"services: {{a: {{image: host, {implied}}}, db: {{image: host}}}}\n{top}"
        edge = stack.load(text).project.services[ServiceName("a")].depends_on[ServiceName("db")]
        assert (edge.restart, edge.after_crash) == (True, Cascade.IGNORE)
    assert "cascade" not in str(stack.canonical(text)["services"])


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (f"  a: {{image: host, depends_on: {WITH.replace('freeze', 'melt')}}}", '"melt" is not one of'),
        ("  a: {image: host, x-pystack: {cascade: melt}}", '"melt" is not one of'),
        (f"  a: {{image: host, depends_on: {WITH.replace('cascade', 'on')}}}", '"on" is not an attribute'),
    ],
)
def test_what_is_wrong_with_it_is_told_where_it_stands(stack: Stack, line: str, complaint: str) -> None:
    messages = stack.messages(f"services:\n  db: {{image: host}}\n{line}\n")
    assert len(messages) == 1, messages
    assert complaint in messages[0]
    assert "compose.yaml:3:" in messages[0]
