"""How many containers a service has, what they are called, and which signal stops them."""

from __future__ import annotations

import pytest

from tests.unit.compose.stacks import Stack


def number(stack: Stack, text: str) -> int:
    return stack.load(f"services: {{a: {{image: host, {text}}}}}").project.services["a"].replicas  # type: ignore[index]


def wrong(stack: Stack, text: str) -> list[tuple[str, str | None]]:
    found = stack.errors(f"services: {{a: {{image: host, {text}}}}}").diagnostics
    out = []
    for item in found:
        assert item.source_line is not None
        quoted = item.source_line[item.column - 1 :][: item.caret_length]
        out.append((f"{quoted} | {item.path.removeprefix('services.a.')}: {item.message}", item.hint))
    return out


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("init: true", 1),
        ("scale: 3", 3),
        ("scale: 0", 0),
        ("scale: '2'", 2),
        ("deploy: {replicas: 3}", 3),
        ("deploy: {replicas: 0}", 0),
        ("deploy: {replicas: '3', mode: replicated}", 3),
        ("deploy: {}, scale: 2", 2),
        ("scale: 2, deploy: {replicas: 2}", 2),
        ("scale: 10000", 10_000),
        ("scale: 2, ports: ['80-81:80', '90', '0:91']", 2),
        ("scale: 1, ports: ['80:80'], container_name: one", 1),
        ("scale: 0, ports: ['80:80']", 0),
    ],
)
def test_scale_and_deploy_replicas_say_how_many(stack: Stack, text: str, count: int) -> None:
    assert number(stack, text) == count


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("scale: -1", "-1 | scale: must not be negative"),
        ("deploy: {replicas: -1}", "-1 | deploy.replicas: must not be negative"),
        ("scale: 10001", "10001 | scale: must be at most 10000"),
        ("deploy: {replicas: 1000000}", "1000000 | deploy.replicas: must be at most 10000"),
        ("scale: 99999999999999999999", "99999999999999999999 | scale: must be at most 9223372036854775807"),
        ("scale: 2, deploy: {replicas: 3}", "2 | scale: differs from deploy.replicas, 3"),
        ("scale: 2, container_name: one", "2 | scale: more than one container cannot have one container_name"),
        ("scale: many", 'many | scale: "many" is not a whole number'),
    ],
)
def test_a_number_that_cannot_be_is_one_error_at_its_place(stack: Stack, text: str, expected: str) -> None:
    assert [message for message, _ in wrong(stack, text)] == [expected]


def test_a_host_port_can_be_that_of_one_container_only(stack: Stack) -> None:
    (found,) = stack.errors("""\
        services:
          a:
            image: host
            deploy: {replicas: 3}
            ports: ["80", "81-83:81", "127.0.0.1:8080:80"]
        """).diagnostics
    assert found.text().splitlines() == [
        "compose.yaml:5:31: services.a.ports[2]: 3 containers cannot all have the host port 8080",
        '     5 |     ports: ["80", "81-83:81", "127.0.0.1:8080:80"]',
        "       |                               ^^^^^^^^^^^^^^^^^^^",
        "  see compose.yaml:4:24: services.a.deploy.replicas",
        '  hint: write a range ("8080-..."), or no host port',
    ]


def test_a_container_can_have_a_name_of_its_own(stack: Stack) -> None:
    project = stack.load("services: {a: {image: host, container_name: main}, b: {image: host}}").project
    assert [service.container_name for service in project.services.values()] == ["main", None]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("SIGTERM", "SIGTERM"),
        ("TERM", "SIGTERM"),
        ("int", "SIGINT"),
        ('"15"', "SIGTERM"),
        ("SIGRTMIN+3", "SIGRTMIN+3"),
        ("RTMAX-2", "SIGRTMAX-2"),
        ('"33"', "33"),
        ('""', None),
    ],
)
def test_a_stop_signal_is_read_as_the_name_of_a_signal(stack: Stack, text: str, name: str | None) -> None:
    project = stack.load(f"services: {{a: {{image: host, stop_signal: {text}}}}}").project
    assert project.services["a"].stop_signal == name  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("SIGTREM", ' (did you mean "SIGTERM"?)'),
        ("trem", ' (did you mean "TERM"?)'),
        ("SIGRTMIN+31", ' (did you mean "SIGRTMIN+3"?)'),
        ('"0"', ""),
        ('"65"', ""),
        ("12x", ""),
    ],
)
def test_a_misspelt_stop_signal_is_an_error_at_its_place(stack: Stack, text: str, near: str) -> None:
    plain = text.strip('"')
    hint = "write a name such as SIGTERM, SIGINT or SIGRTMIN+3, or a number from 1 to 64"
    assert wrong(stack, f"stop_signal: {text}") == [(f'{text} | stop_signal: "{plain}" is not a signal{near}', hint)]


def test_a_start_interval_needs_a_start_period(stack: Stack) -> None:
    check = "healthcheck: {test: x, start_interval: 1s"
    assert wrong(stack, check + "}") == [
        (
            "1s | healthcheck.start_interval: healthcheck.start_interval requires healthcheck.start_period to be set",
            "it is the interval during start_period; add one, or use interval",
        )
    ]
    assert number(stack, check + ", start_period: 0s}") == 1
    assert stack.canonical(f"services: {{a: {{image: host, {check}}}}}}}")  # as in Docker Compose, `config` does not mind
