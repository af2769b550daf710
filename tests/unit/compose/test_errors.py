"""Golden texts of errors: place, path, message, source line, caret, hint."""

from __future__ import annotations

from textwrap import dedent

import pytest

from orchestrator.compose.text.diagnostics import Diagnostic, did_you_mean
from tests.unit.compose.stacks import Stack


def test_an_unknown_dependency_is_shown_with_its_line_and_the_nearest_name(stack: Stack) -> None:
    error = stack.errors("""\
        services:
          web:
            image: host
            depends_on:
              - dbb
          db:
            image: host
        """)
    assert str(error) == dedent("""\
        compose.yaml:5:9: services.web.depends_on: "dbb" is not a service (did you mean "db"?)
             5 |       - dbb
               |         ^^^""")
    assert error.exit_code == 2


def test_one_mistake_that_comes_to_several_services_is_shown_once(stack: Stack) -> None:
    error = stack.errors("""\
        x-base: &base
          image: host
          uesr: nobody
        services:
          web: {<<: *base}
          db: *base
          cache: {<<: *base, imag: x}
        """)
    assert str(error).splitlines()[:4] == [
        'compose.yaml:3:3: services.web: "uesr" is not an attribute of a service (did you mean "user"?)',
        "     3 |   uesr: nobody",
        "       |   ^^^^",
        "  the same for services.db, services.cache",
    ]
    assert str(error).count("uesr: nobody") == 1
    assert len(error.diagnostics) == 4


def test_all_errors_of_a_file_are_reported_in_its_order(stack: Stack) -> None:
    error = stack.errors("""\
        services:
          web:
            imag: host
            command: 'a "b'
            ports: ["80:x"]
            volumes: ["nope:/x"]
            restart: never
          db:
            image: ${X:?no}
            healthcheck: {interval: 5}
        """)
    assert str(error) == dedent(
        """\
        compose.yaml:3:5: services.web: "imag" is not an attribute of a service (did you mean "image"?)
             3 |     imag: host
               |     ^^^^
        compose.yaml:4:14: services.web.command: not a command line: a double quote is not closed
             4 |     command: 'a "b'
               |              ^^^^^^
          hint: write the command as a list of words
        compose.yaml:5:13: services.web.ports[0]: "80:x": "x" is not a port or a range of ports (0 to 65535)
             5 |     ports: ["80:x"]
               |             ^^^^^^
          hint: write TARGET, PUBLISHED:TARGET or IP:PUBLISHED:TARGET, with /udp if need be
        compose.yaml:6:15: services.web.volumes[0]: "nope" is not a volume of this stack
             6 |     volumes: ["nope:/x"]
               |               ^^^^^^^^^
          hint: declare it at the top level, under volumes:
        compose.yaml:7:14: services.web.restart: "never" is not one of no, always, on-failure, on-failure:3, unless-stopped
             7 |     restart: never
               |              ^^^^^
        compose.yaml:9:12: services.db.image: the required variable "X" is not set: no
             9 |     image: ${X:?no}
               |            ^^^^^^^
          hint: set X, or add it to .env
        compose.yaml:10:29: services.db.healthcheck.interval: must be a string, not the number 5
            10 |     healthcheck: {interval: 5}
               |                             ^
          hint: put the value in quotes"""
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("services: []", "compose.yaml:1:11: services: must be a mapping, not a list"),
        ("services: {web: 1}", "compose.yaml:1:17: services.web: must be a mapping, not the number 1"),
        ("services: {web: }", "compose.yaml:1:12: services.web: must be a mapping, not null"),
        ("service: {}", 'compose.yaml:1:1: "service" is not an attribute of a compose file (did you mean "services"?)'),
        ("services: {'a b': {image: i}}", 'compose.yaml:1:12: services: "a b" is not a valid name'),
        ("services: {a: {}}", "compose.yaml:1:12: services.a: has neither an image nor a build"),
        ("services: {a: {image: [x]}}", "compose.yaml:1:23: services.a.image: must be a string, not a list"),
        (
            "services: {a: {image: i, depends_on: {a: {condition: healthy}}}}",
            'compose.yaml:1:54: services.a.depends_on.a.condition: "healthy" is not one of service_started, '
            'service_healthy, service_completed_successfully (did you mean "service_healthy"?)',
        ),
        (
            "services: {a: {image: i, privileged: maybe}}",
            'compose.yaml:1:38: services.a.privileged: "maybe" is not true or false',
        ),
        (
            "services: {a: {image: i, networks: [frnt]}}\nnetworks: {front: }",
            'compose.yaml:1:37: services.a.networks.frnt: "frnt" is not a network of this stack (did you mean "front"?)',
        ),
        (
            "services: {a: {image: i, healthcheck: {test: [curl, x]}}}",
            'compose.yaml:1:47: services.a.healthcheck.test: a list must start with CMD, CMD-SHELL or NONE, not "curl"',
        ),
        (
            "services: {a: {image: i, depends_on: [b, b]}, b: {image: i}}",
            "compose.yaml:1:42: services.a.depends_on[1]: is the same as element 0; each may appear once",
        ),
        (
            "services: {a: {image: i, mem_limit: 1Ki}}",
            'compose.yaml:1:37: services.a.mem_limit: "1Ki" is not a size ("Ki" is not a unit; write bytes, or a number '
            "with b, k, m, g or t, such as 512k, 64m or 2g)",
        ),
        (
            "services: {a: {image: i, stop_grace_period: '5'}}",
            'compose.yaml:1:45: services.a.stop_grace_period: "5" has no unit (write a number and a unit, such as 500ms, '
            "30s, 1m30s, 2h or 1d)",
        ),
        (
            "services: {a: {image: i, x-pystack: {on_unhealthy: nothing}}}",
            'compose.yaml:1:52: services.a.x-pystack.on_unhealthy: "nothing" is not one of restart, ignore, stop',
        ),
        ("[]", "compose.yaml:1:1: the top level must be a mapping (services:, volumes:, ...)"),
        ("", "compose.yaml: the file is empty"),
        ("a: [1", "compose.yaml:1:6: not valid YAML: did not find expected ',' or ']' (while parsing a flow sequence)"),
    ],
)
def test_each_kind_of_mistake_has_its_sentence(stack: Stack, text: str, message: str) -> None:
    assert stack.messages(text) == [message]


def test_what_is_not_supported_yet_is_refused_at_its_place(stack: Stack) -> None:
    (message,) = stack.messages("services:\n  a:\n    image: i\n    use_api_socket: true\n")
    assert message.startswith("compose.yaml:4:5: services.a.use_api_socket: not supported yet (")


def test_what_cannot_surprise_is_ignored_with_a_warning(stack: Stack) -> None:
    loaded = stack.load("services:\n  a:\n    image: i\n    isolation: hyperv\n")
    (warning,) = loaded.warnings
    assert warning.text().startswith("compose.yaml:4:5: services.a.isolation: not supported yet, and ignored")


def test_an_unset_variable_is_a_warning_at_its_place(stack: Stack) -> None:
    loaded = stack.load("services:\n  a:\n    image: host\n    hostname: h$NOPE\n")
    (warning,) = loaded.warnings
    assert warning.text().startswith('compose.yaml:4:15: services.a.hostname: the variable "NOPE" is not set')


def test_a_file_that_is_not_there_is_named(stack: Stack) -> None:
    stack.write("compose.yaml", "services: {}")
    assert stack.messages("services: {}", files=("nope.yaml",)) == ["nope.yaml: the file does not exist"]


def test_text_from_files_cannot_drive_the_terminal() -> None:
    finding = Diagnostic("a\x1b[2J", 1, 1, "p\u202e", "m\x07", None, "x: \x1b]0;t\x07", 3)
    shown = finding.text()
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "\u202e" not in shown


def test_a_long_line_is_cut_around_the_caret() -> None:
    finding = Diagnostic("f", 1, 500, "", "m", None, "a" * 499 + "X" + "b" * 500)
    _, line, caret = finding.text().split("\n")
    assert len(line) < 140
    assert line[caret.index("^")] == "X"


def test_a_name_far_from_all_others_is_not_guessed() -> None:
    assert did_you_mean("zzz", ["web", "db"]) == ""
