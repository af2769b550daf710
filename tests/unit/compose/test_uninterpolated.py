"""`config --no-interpolate` is read back as the same stack, wherever variables stand."""

from __future__ import annotations

import pytest

from orchestrator.cli.render.yamltext import to_yaml
from orchestrator.compose.load import ConfigOptions, load_canonical
from tests.unit.compose.stacks import Stack

VARIABLES = {"HOST": "laptop", "N": "5"}


@pytest.mark.parametrize(
    "text",
    [
        "environment: ['K=${HOST}', '${HOST}=k', BARE, '${N}_BARE']",
        "environment: {'${HOST}': k, K: '${HOST}'}",
        "environment: ['$HOST=$$x', 'A=']",
        "labels: ['${HOST}.x=1', 'y=$N']",
        "build: {context: ., args: ['${HOST}=1', 'B=${N}']}",
        "environment: [K=v, 'L=$N']",
    ],
)
def test_what_is_printed_without_interpolation_means_the_same(stack: Stack, text: str) -> None:
    stack.write("compose.yaml", f"services: {{a: {{image: i, {text}}}}}")
    wanted, _ = load_canonical(stack.request(VARIABLES))
    raw, _ = load_canonical(stack.request(VARIABLES), ConfigOptions(interpolate=False))
    stack.write("compose.yaml", to_yaml(raw))
    assert load_canonical(stack.request(VARIABLES))[0] == wanted


def test_a_list_and_a_mapping_that_are_merged_mean_the_same(stack: Stack) -> None:
    stack.write("one.yaml", "services: {a: {image: i, environment: ['${HOST}=k', 'B=1']}}")
    stack.write("two.yaml", "services: {a: {environment: {N: literal, C: '$N'}}}")
    request = stack.request(VARIABLES, files=("one.yaml", "two.yaml"))
    wanted, _ = load_canonical(request)
    raw, _ = load_canonical(request, ConfigOptions(interpolate=False))
    stack.write("compose.yaml", to_yaml(raw))
    assert load_canonical(stack.request(VARIABLES))[0] == wanted


def test_what_the_environment_has_is_not_written_down(stack: Stack) -> None:
    stack.write("part/.env", "PART=of-the-include\n")
    stack.write("part/compose.yaml", "services: {b: {image: i, environment: [PART, HOST]}}")
    stack.write(
        "compose.yaml",
        """\
        include: [part/compose.yaml]
        services:
          a: {image: i, environment: [HOST], build: {context: ., args: [HOST, NOBODY]}}
          c: {image: i, environment: {HOST: , N: }, pre_start: [{command: x, environment: [N]}]}
        """,
    )
    wanted, _ = load_canonical(stack.request(VARIABLES))
    raw, _ = load_canonical(stack.request(VARIABLES), ConfigOptions(interpolate=False))
    text = to_yaml(raw)
    said = [line for line in text.splitlines() if "context: " not in line]  # Whose folder may be called anything.
    assert not any(value in line for value in VARIABLES.values() for line in said), text
    assert "PART: of-the-include" in text, "nobody reads that file again"
    stack.write("compose.yaml", text)
    assert load_canonical(stack.request(VARIABLES))[0] == wanted
