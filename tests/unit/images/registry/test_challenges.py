"""What a registry asks for is read from WWW-Authenticate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.images.registry.challenges import Challenge, parse_challenges, preferred

BEARER = {"realm": "https://auth.docker.io/token", "service": "registry.docker.io", "scope": "repository:a/b:pull,push"}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (['Basic realm="a registry"'], [Challenge("basic", {"realm": "a registry"})]),
        (["Basic"], [Challenge("basic")]),
        (
            [
                'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
                'scope="repository:a/b:pull,push"'
            ],
            [Challenge("bearer", BEARER)],
        ),
        (
            ['Basic realm="x", charset="UTF-8" , Bearer realm = "y" ,service=z'],
            [Challenge("basic", {"realm": "x", "charset": "UTF-8"}), Challenge("bearer", {"realm": "y", "service": "z"})],
        ),
        (['Negotiate, Basic realm="x"'], [Challenge("negotiate"), Challenge("basic", {"realm": "x"})]),
        (["Negotiate", 'Basic realm="x"'], [Challenge("negotiate"), Challenge("basic", {"realm": "x"})]),
        ([r'BEARER Realm="a \"b\" \\c"'], [Challenge("bearer", {"realm": r'a "b" \c'})]),
        (['Bearer realm="never ends'], [Challenge("bearer")]),
        (['Bearer realm="x",,,service="y"'], [Challenge("bearer", {"realm": "x", "service": "y"})]),
        (["Bearer realm="], [Challenge("bearer")]),
        (["", '"', "=", ","], []),
        ([], []),
    ],
)
def test_challenges_are_read_as_rfc_9110_has_them(lines: list[str], expected: list[Challenge]) -> None:
    assert parse_challenges(lines) == expected


def test_a_token_is_preferred_to_sending_the_password() -> None:
    both = parse_challenges(['Basic realm="x"', 'Bearer realm="y"'])
    assert preferred(both) == Challenge("bearer", {"realm": "y"})


def test_bearer_without_a_realm_cannot_be_answered() -> None:
    assert preferred(parse_challenges(['Bearer service="y", Basic realm="x"'])) == Challenge("basic", {"realm": "x"})
    assert preferred(parse_challenges(["Bearer", "Negotiate"])) is None


@given(st.lists(st.text(max_size=200), max_size=5))
def test_no_header_is_an_error(lines: list[str]) -> None:
    found = parse_challenges(lines)
    assert all(each.scheme for each in found)
    assert len(found) <= 16
