"""`pystack config` prints YAML that every reader understands alike."""

from __future__ import annotations

import yaml
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cli.render.yamltext import to_yaml

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)


def test_plain_texts_are_plain_and_others_quoted() -> None:
    data = {"image": "postgres:16", "interval": "1m30s", "a": "yes", "b": "012", "c": "x: y", "d": "1e3", "e": ""}
    assert to_yaml(data) == ('image: postgres:16\ninterval: 1m30s\na: "yes"\nb: "012"\nc: "x: y"\nd: "1e3"\ne: ""\n')


def test_nested_values_are_indented() -> None:
    data = {"s": {"ports": [{"target": 80, "mode": "ingress"}], "x": [], "k": {}, "z": [["a"]], "t": "a\nb\n"}}
    assert to_yaml(data) == (
        "s:\n  ports:\n    - target: 80\n      mode: ingress\n  x: []\n  k: {}\n  z:\n    -\n      - a\n"
        "  t: |\n    a\n    b\n"
    )


@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_a_yaml_1_1_reader_reads_the_same_data(data: dict[str, object]) -> None:
    assert yaml.safe_load(to_yaml(data)) == data
