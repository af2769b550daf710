"""The keys that leave something running."""

from __future__ import annotations

import pytest

from orchestrator.cli.detaching import Keys
from orchestrator.errors import InputError


@pytest.mark.parametrize("pieces", [[b"ls\x10\x11more"], [b"l", b"s\x10", b"\x11"], [b"ls", b"\x10", b"\x11"]])
def test_the_sequence_is_found_however_it_comes_and_is_not_passed_on(pieces: list[bytes]) -> None:
    keys = Keys()
    assert b"".join(keys.passed(piece) for piece in pieces) == b"ls"
    assert keys.typed


def test_what_only_begins_like_it_is_passed_on_with_the_next_key() -> None:
    keys = Keys()
    assert keys.passed(b"a\x10") == b"a"
    assert keys.passed(b"\x10") == b"\x10"
    assert keys.passed(b"b") == b"\x10b"
    assert not keys.typed


@pytest.mark.parametrize(
    ("text", "typed"), [("a", b"a"), ("ctrl-@", b"\0"), ("ctrl-[,x", b"\x1bx"), ("ctrl-_", b"\x1f"), ("CTRL-A", b"\x01")]
)
def test_keys_as_docker_writes_them(text: str, typed: bytes) -> None:
    keys = Keys(text)
    assert keys.passed(typed) == b""
    assert keys.typed


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-1", "ab", "a,,b", "ctrl-p;ctrl-q", "\n", "é"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not a key"):
        Keys(text)
