"""JSON by the interpreter's C parts is json's JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.kernel import jsontext

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_written_is_what_json_writes_and_is_read_back(value: Any) -> None:
    text = jsontext.dumps(value)
    assert text == json.dumps(value)
    assert jsontext.loads(text) == value
    assert jsontext.loads(f" {text}\r\n".encode()) == value


@given(st.text(alphabet='{}[]",:0123456789.eE+-truefalsn \\u\n', max_size=30) | st.binary(max_size=20))
def test_what_json_refuses_is_refused_alike(data: str | bytes) -> None:
    try:
        expected = json.loads(data.decode("utf-8", "surrogatepass") if isinstance(data, bytes) else data)
    except ValueError:
        with pytest.raises(ValueError, match=r"."):
            jsontext.loads(data)
    else:
        assert repr(jsontext.loads(data)) == repr(expected)


def test_numbers_that_are_none_are_read_as_json_reads_them() -> None:
    assert repr(jsontext.loads("[NaN, Infinity, -Infinity]")) == "[nan, inf, -inf]"


@pytest.mark.parametrize("value", [object(), {1, 2}, {"a": [b"x"]}])
def test_what_has_no_json_form_is_refused(value: object) -> None:
    for _ in range(2):  # A failure leaves no marks behind.
        with pytest.raises(TypeError, match="is not JSON serializable"):
            jsontext.dumps(value)
