from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.compose.text.diagnostics import ComposeError
from orchestrator.compose.text.files import Source
from orchestrator.compose.text.tree import MAX_DEPTH, MAX_EXPANDED, parse, plain, token_length


def read(text: str) -> Any:
    documents = parse(Source("c.yaml", "/c.yaml", text))
    return plain(documents[0]) if documents else None


def failure(text: str) -> str:
    with pytest.raises(ComposeError) as caught:
        parse(Source("c.yaml", "/c.yaml", text))
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("22:22", "22:22"),
        ("yes", "yes"),
        ("on", "on"),
        ("y", "y"),
        ("true", True),
        ("FALSE", False),
        ("tRUE", "tRUE"),
        ("010", 8),
        ("0o17", 15),
        ("0x10", 16),
        ("-0x10", -16),
        ("0b11", 3),
        ("08", 8.0),
        ("0o8", "0o8"),
        ("1e3", 1000.0),
        ("1_000", 1000),
        ("_1", "_1"),
        (".5", 0.5),
        ("5.", 5.0),
        ("1.2.3", "1.2.3"),
        ("~", None),
        ("null", None),
        ("", None),
        ('"1"', "1"),
        ("'true'", "true"),
        ("1e400", "1e400"),
        ("18446744073709551615", 18446744073709551615),
        ("100000000000000000000", 1e20),
        ("!!str 1", "1"),
        ('!!int "3"', 3),
        ("!!binary aGVsbG8=", "hello"),
        ("!unknown x", "x"),
        ("2020-01-01", "2020-01-01T00:00:00Z"),
        ("2020-13-01", "2020-13-01"),
        ("=", "="),
    ],
)
def test_plain_scalars_mean_what_yaml_1_2_says(text: str, value: Any) -> None:
    got = read(f"k: {text}")["k"]
    assert got == value
    assert type(got) is type(value)


def test_every_key_and_value_knows_its_place() -> None:
    (node,) = parse(Source("c.yaml", "/c.yaml", "a:\n  - x\n  - b:   'y'\n"))
    inner = node.get("a")
    assert inner is not None
    first, second = inner.elements()
    assert (first.line, first.column) == (2, 5)
    value = second.get("b")
    assert value is not None
    assert (value.line, value.column, value.key_line, value.key_column) == (3, 10, 3, 5)


def test_aliases_share_the_value_and_keep_their_own_key() -> None:
    (node,) = parse(Source("c.yaml", "/c.yaml", "a: &x {k: 1}\nb: *x\n"))
    a, b = node.get("a"), node.get("b")
    assert a is not None
    assert b is not None
    assert a.value is b.value
    assert (b.line, b.key_line) == (1, 2)


def test_merge_keys_give_way_to_what_is_written_and_to_earlier_ones() -> None:
    assert read("a: {k: 2, <<: [{k: 1, m: 1}, {m: 2, n: 2}]}") == {"a": {"k": 2, "m": 1, "n": 2}}


def test_a_quoted_merge_key_is_an_ordinary_key() -> None:
    assert read('a: {"<<": {k: 1}}') == {"a": {"<<": {"k": 1}}}


def test_documents_come_in_order_and_empty_ones_are_left_out_by_having_no_value() -> None:
    documents = parse(Source("c", "/c", "a: 1\n---\nb: 2\n---\n"))
    assert [plain(item) for item in documents] == [{"a": 1}, {"b": 2}, None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", 'c.yaml:2:1: the key "a" is already defined at line 1'),
        ("1: a", 'c.yaml:1:1: the key "1" is not a string'),
        ("true: a", 'c.yaml:1:1: the key "true" is not a string'),
        ("~: a", 'c.yaml:1:1: the key "null" is not a string'),
        ("[a]: b", "a key must be a string"),
        ("a: *nope", 'there is no anchor "&nope" before this alias'),
        ("a: &x [*x]", 'the anchor "x" contains itself'),
        ("a: {<<: 3}", "needs a mapping or a list of mappings"),
        ("a: !!bool maybe", '"maybe" is not a !!bool'),
        ("a: b: c", "mapping values are not allowed"),
        ("a: [1", "not valid YAML"),
        ("a: [1.1.1.1, ::1]", 'begins or ends with a colon must be quoted: write "::1"'),
        ("a: {b: [fe80::]}", 'begins or ends with a colon must be quoted: write "fe80::"'),
        ("a:\n\t- b", "YAML allows no tabs"),
        ("k: " + "[" * (MAX_DEPTH + 1), f"nested too deeply: more than {MAX_DEPTH} levels"),
        ("? " + "k" * 2000 + "\n: 1", "is too long"),
    ],
)
def test_bad_yaml_is_an_error_with_its_place(text: str, message: str) -> None:
    assert message in failure(text)


def test_all_bad_keys_of_a_file_are_reported() -> None:
    assert failure("1: a\n2: b\nx: 1\nx: 2").count("c.yaml:") == 3


def test_an_alias_bomb_costs_nothing() -> None:
    lines = ["a: &a [x,x,x,x,x,x,x,x,x,x]"]
    for number in range(30):
        name, before = f"a{number}", "a" if number == 0 else f"a{number - 1}"
        lines.append(f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]")
    assert f"more than {MAX_EXPANDED:,} values, aliases counted each time" in failure("\n".join(lines))


def test_nesting_of_ten_thousand_levels_is_one_error() -> None:
    assert failure("k: " + "[" * 10_000 + "]" * 10_000).count("nested too deeply") == 1
    assert "nested too deeply" in failure("\n".join(" " * n + "k:" for n in range(3_000)))


@pytest.mark.parametrize(
    ("line", "column", "length"), [("a: hello # x", 4, 5), ("a: 'b c', d", 4, 5), ("- [x, y]", 4, 1), ("k: v: w", 1, 1)]
)
def test_the_caret_spans_the_token(line: str, column: int, length: int) -> None:
    assert token_length(line, column) == length


@given(st.text(alphabet="ab:-[]{}&*!|>'\"#%@,? \n\t<1~.0xe_", max_size=60))
def test_no_text_makes_the_parser_fail_in_any_other_way(text: str) -> None:
    message = None
    try:
        parse(Source("c", "/c", text))
    except ComposeError as exc:
        message = str(exc)
    assert message != ""
