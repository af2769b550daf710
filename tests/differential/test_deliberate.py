"""Where we mean to differ from Docker Compose v5.6.1: what it does, what we do, and why (docs/compose.md lists them)."""

from __future__ import annotations

import pytest

from tests.differential.oracle import Stack, answers

_SUB = {"sub.yaml": "services: {t: {image: t}}\n"}
_USE = "services: {s: {image: i, env_file: x.env}}\n"


@pytest.mark.parametrize("entry", ["{path: sub.yaml, pathh: x}", "{pathh: sub.yaml}", "{}"])
def test_a_misspelt_include_is_refused_and_not_left_out(entry: str) -> None:
    """The oracle ignores keys of an include that it does not know: a misspelt ``path`` includes nothing, silently."""
    oracle, ours = answers(Stack({**_SUB, "compose.yaml": f"include: [{entry}]\nservices: {{s: {{image: i}}}}\n"}))
    assert oracle.error is None
    assert ours.error is not None
    assert "include[0]" in ours.error


def test_a_yaml_1_2_directive_is_read() -> None:
    """The format is YAML 1.2; the oracle's parser refuses a file that says so."""
    oracle, ours = answers(Stack({"compose.yaml": "%YAML 1.2\n---\nservices: {s: {image: i}}\n"}))
    assert oracle.error is not None
    assert ours.error is None
    assert ours.model["services"]["s"]["image"] == "i"


@pytest.mark.parametrize("text", ["K", "A=1\nK", "export K", "A=1\nHOME"])
def test_a_last_line_without_a_line_end_makes_no_variable_without_a_name(text: str) -> None:
    """The oracle takes the name on an env_file's last line, without a line end, for the value of a variable ``""``."""
    oracle, ours = answers(Stack({"compose.yaml": _USE, "x.env": text}))
    assert "" in oracle.model["services"]["s"]["environment"]
    assert "" not in ours.model["services"]["s"].get("environment", {})


@pytest.mark.parametrize("text", ["K='v'w", "K='v' w", 'K="v"w'])
def test_text_after_a_closing_quote_makes_no_variable_without_a_name(text: str) -> None:
    oracle, ours = answers(Stack({"compose.yaml": _USE, "x.env": text}))
    assert oracle.model["services"]["s"]["environment"] == {"": "w", "K": "v"}
    assert ours.model["services"]["s"]["environment"] == {"K": "v"}


@pytest.mark.parametrize("body", ["{pid: null}", "{build: {context: ., ssh: [a=./key]}}"])
def test_what_makes_the_oracle_crash_does_not_crash_us(body: str) -> None:
    """It panics on ``pid: null`` and cannot print an SSH key with a path as JSON."""
    text = f"services: {{s: {body}, t: {{image: t}}}}\n".replace("{pid", "{image: i, pid")
    oracle, ours = answers(Stack({"compose.yaml": text}))
    assert oracle.error is not None
    assert "panic" in oracle.error or "MarshalJSON" in oracle.error
    assert ours.error is None or "services.s" in ours.error
