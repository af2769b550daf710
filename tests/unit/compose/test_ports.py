"""``ports`` of one service that stand in each other's way, told when the stack is loaded."""

from __future__ import annotations

import json

import pytest

from orchestrator.contracts.control import Up
from orchestrator.contracts.protocol import MAX_MESSAGE_BYTES
from orchestrator.model.codec import to_json
from tests.unit.compose.stacks import Stack


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("8000:80", "8000:81", "services.a.ports[1]: the host port 8000/tcp leads to 80 already"),
        ("8000:80", "127.0.0.1:8000:81", "the host port 8000/tcp leads to 80 already"),
        ("127.0.0.1:8000:80/udp", "0.0.0.0:8000:81/udp", "the host port 8000/udp leads to 80 already"),
        ("[::1]:8000:80", "[::]:8000:81", "the host port 8000/tcp leads to 80 already"),
        ("8000-8002:80-82", "8002:90", "the host port 8002/tcp leads to 82 already"),
    ],
)
def test_a_host_port_leads_to_one_port(stack: Stack, first: str, second: str, message: str) -> None:
    (found,) = stack.messages(f"services:\n  a:\n    image: i\n    ports:\n    - '{first}'\n    - '{second}'\n")
    assert found.startswith("compose.yaml:6:7:")
    assert message in found


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("8000:80", "8000:80/udp"),
        ("127.0.0.1:8000:80", "127.0.0.2:8000:81"),
        ("127.0.0.1:8000:80", "[::1]:8000:81"),
        ("8000:80", "8000:80"),
        ("80", "80-81"),
        ("8000-8005:80", "8003:81"),
    ],
)
def test_what_can_stand_side_by_side_does(stack: Stack, first: str, second: str) -> None:
    stack.load(f"services: {{a: {{image: i, ports: ['{first}', '{second}']}}}}\n")


def test_a_request_has_room_for_all_ports_that_a_stack_may_publish(stack: Stack) -> None:
    name = "a-service-with-a-name-that-is-longer-than-most-of-them"
    text = f"services:\n  {name}:\n    image: i\n    ports: ['40000-59999:40000-59999']\n  b: {{image: i}}\n"
    loaded = stack.load(text)
    assert len(json.dumps(to_json(Up(loaded.project)))) < MAX_MESSAGE_BYTES * 3 / 4
    (found,) = stack.messages(text.replace("b: {image: i}", "b: {image: i, ports: ['8080:80']}"))
    assert found.startswith("compose.yaml:5:24: services.b.ports: with these 1 the stack publishes 20001 ports"), found
    (found,) = stack.messages("services:\n  a:\n    image: i\n    ports:\n    - '1-65535:1-65535/udp'\n")
    assert found.startswith("compose.yaml:5:5: services.a.ports: with these 65535 the stack publishes 65535"), found
