"""``x-pystack.ready`` and ``x-pystack.probe``: what is read, and what is wrong with it, with its place."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.model.health import DeclaredPort, HealthCheck, Look, LookKind
from tests.unit.compose.stacks import Stack

WEB = DeclaredPort(80)
DNS = DeclaredPort(53, "udp")


def health(stack: Stack, extension: str, more: str = "") -> HealthCheck | None:
    text = f"services: {{a: {{image: host, {more} x-pystack: {{{extension}}}}}}}\n"
    return next(iter(stack.load(text).project.services.values())).healthcheck


@pytest.mark.parametrize(
    ("written", "look", "timeout_s"),
    [
        ("listening", Look(LookKind.LISTENING, (WEB, DNS)), 0),
        ("{listening: all, timeout: 30s}", Look(LookKind.LISTENING, (WEB, DNS)), 30),
        ("{listening: any}", Look(LookKind.LISTENING, (WEB, DNS), any=True), 0),
        ("{listening: [8000-8001, 9/udp]}",
         Look(LookKind.LISTENING, (DeclaredPort(8000), DeclaredPort(8001), DeclaredPort(9, "udp"))), 0),
    ],
)  # fmt: skip
def test_ready_is_about_declared_ports_or_those_that_it_names(
    stack: Stack, written: str, look: Look, timeout_s: float
) -> None:
    found = health(stack, f"ready: {written}", "ports: ['80'], expose: [80, 53/udp],")
    assert found == HealthCheck(look=look, timeout_s=timeout_s)


def test_where_no_port_is_declared_any_will_do(stack: Stack) -> None:
    assert health(stack, "ready: listening") == HealthCheck(look=Look(LookKind.LISTENING, any=True))


@pytest.mark.parametrize(
    ("written", "look"),
    [
        ("http: /health", Look(LookKind.HTTP, (WEB,), path="/health", host="localhost")),
        ("http: ':8080/x?y=1'", Look(LookKind.HTTP, (DeclaredPort(8080),), path="/x?y=1", host="localhost:8080")),
        ("http: 'http://shop.example'", Look(LookKind.HTTP, (WEB,), path="/", host="shop.example")),
        ("http: 'https://a.example'", Look(LookKind.HTTP, (DeclaredPort(443),), path="/", host="a.example", tls=True)),
        ("http: 'https://[::1]:80/x'", Look(LookKind.HTTP, (WEB,), path="/x", host="[::1]:80", tls=True)),
        ("tcp: 5432", Look(LookKind.TCP, (DeclaredPort(5432),))),
        ("file: /run/ready", Look(LookKind.FILE, path="/run/ready")),
        ("log: 'ready in [0-9]+ ms'", Look(LookKind.LOG, pattern="ready in [0-9]+ ms")),
    ],
)
def test_a_probe_is_one_of_four(stack: Stack, written: str, look: Look) -> None:
    assert health(stack, f"probe: {{{written}}}", "expose: [53/udp, 80],") == HealthCheck(look=look)


def test_a_probe_has_the_times_of_a_health_check(stack: Stack) -> None:
    text = "probe: {tcp: '80', interval: 1s, timeout: 2s, retries: 4, start_period: 5s, start_interval: 6ms}"
    found = health(stack, text)
    assert found == HealthCheck(None, 1, 2, 4, 5, 0.006, look=Look(LookKind.TCP, (WEB,)))
    assert HealthCheck(look=Look(LookKind.TCP, (WEB,))).with_defaults() == HealthCheck(
        None, 10, 5, 3, 30, 0.1, look=Look(LookKind.TCP, (WEB,))
    )


def test_a_health_check_that_is_disabled_may_stand_beside_it(stack: Stack) -> None:
    assert health(stack, "ready: listening", "healthcheck: {disable: true},") is not None


@pytest.mark.parametrize(
    ("attributes", "at", "complaint"),
    [
        ("x-pystack: {ready: listning}", "listning", '"listning" is not one of listening'),
        ("x-pystack: {ready: {timeout: 3s}}", "ready", '"listening" is missing from ready'),
        ("x-pystack: {ready: {listening: [http]}}", "http", '"http" is not a port, such as 80, 53/udp or 8000-8005'),
        ("x-pystack: {ready: {listening: []}}", "[]", "names no port"),
        ("x-pystack: {ready: {listening: [1-999]}}", "{listening", "more than 256 ports"),
        ("x-pystack: {ready: {listening: all, timeout: -1s}}", "-1s", "at least 1ms"),
        ("x-pystack: {ready: listening, probe: {tcp: 80}}", "{tcp", "exclude each other"),
        ("x-pystack: {ready: listening}, healthcheck: {test: 'true'}", "listening", "it has a healthcheck, too"),
        ("x-pystack: {probe: {}}", "{}", "a probe is one of http, tcp, log, file"),
        ("x-pystack: {probe: {tcp: 80, file: /a}}", "{tcp", "and not tcp and file"),
        ("x-pystack: {probe: {tcp: 99999}}", "99999", '"99999" is not a port from 1 to 65535'),
        ("x-pystack: {probe: {tcp: 53/udp}}", "53/udp", '"53/udp" is not a port'),
        ("x-pystack: {probe: {file: run/x}}", "run/x", '"run/x" is not an absolute path'),
        ("x-pystack: {probe: {http: /x}}", "/x", "the service declares no tcp port"),
        ("x-pystack: {probe: {http: 'https://a..b/'}}", "'https", "is not a path"),
        ('x-pystack: {probe: {http: "/a\\r\\nX: 1"}}', '"/a', "printable ASCII"),
        ("x-pystack: {probe: {http: 'ftp://a/'}}", "'ftp", "is not a path"),
        ("x-pystack: {probe: {http: 'http://a:99999/'}}", "'http:", "is not a path"),
        ("x-pystack: {probe: {log: '(a'}}", "'(a", 'a "(" is not closed'),
        ("x-pystack: {probe: {log: ''}}", "''", "an empty pattern is found in every line"),
        ("x-pystack: {probe: {log: a, interval: 1s}}", "1s", "a log is followed"),
        ("x-pystack: {probe: {log: a}}, logging: {driver: none}", "none", "nothing is kept of what it writes"),
        ("x-pystack: {probe: {tcp: 80, every: 1s}}", "every", '"every" is not an attribute of a probe'),
    ],
)
def test_what_is_wrong_with_it_is_told_where_it_stands(stack: Stack, attributes: str, at: str, complaint: str) -> None:
    stack.refuses(attributes, at, complaint)


def test_the_config_hash_of_what_has_none_is_as_before(stack: Stack) -> None:
    from orchestrator.model.codec import to_json

    shown: dict[str, Any] = to_json(HealthCheck(("true",)))
    assert shown == {"test": ["true"]}
