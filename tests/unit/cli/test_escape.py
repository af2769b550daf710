"""Nothing that others wrote may do more to a terminal than be read."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cli.render.escape import escape_line, escape_log, escape_text


def test_escape_sequences_become_visible() -> None:
    assert escape_line("\x1b]0;owned\x07") == "\\x1b]0;owned\\x07"
    assert escape_line("\x9b2J") == "\\x9b2J"
    assert escape_line("a\rb\nc") == "a\\rb\\nc"


def test_bidirectional_and_invisible_characters_become_visible() -> None:
    assert escape_line("a\u202eb\u2066c\u200bd\u2028e") == "a\\u202eb\\u2066c\\u200bd\\u2028e"
    assert escape_line("\U000e0041") == "\\U000e0041"


def test_ordinary_text_stays() -> None:
    for text in ("naïve 日本語 ✓ 🎉", "a\tb", ""):
        assert escape_line(text) == text


def test_newlines_stay_in_texts() -> None:
    assert escape_text("a\nb\x07") == "a\nb\\x07"


def test_log_lines_lose_colours_and_the_carriage_return_and_show_bad_bytes() -> None:
    assert escape_log(b"\x1b[1;31mred\x1b[0m\r") == "red"
    assert escape_log(b"\xff\x1b[2J") == "\\xff\\x1b[2J"


@given(st.text())
def test_no_text_keeps_a_control_character(text: str) -> None:
    shown = escape_line(text)
    kept = [c for c in shown if unicodedata.category(c) == "Cc" and c != "\t"]
    assert kept == []
    shown.encode("utf-8")


@given(st.binary())
def test_no_bytes_keep_a_control_character(data: bytes) -> None:
    shown = escape_log(data)
    assert "\x1b" not in shown
    assert all(unicodedata.category(c) != "Cc" or c == "\t" for c in shown)
    shown.encode("utf-8")
