"""`suppress` of our own is contextlib's."""

from __future__ import annotations

import pytest

from orchestrator.kernel.suppress import suppress


def test_what_is_named_ends_the_block_and_nothing_else_does() -> None:
    done = []
    with suppress(FileNotFoundError, ValueError):
        done.append("before")
        raise UnicodeError  # A ValueError.
    with suppress(FileNotFoundError):
        done.append("whole")
    with pytest.raises(PermissionError), suppress(FileNotFoundError):
        raise PermissionError
    with pytest.raises(KeyboardInterrupt), suppress(Exception):
        raise KeyboardInterrupt
    assert done == ["before", "whole"]
