"""What belongs to the whole process, when it has several runtimes open; and a system call that is disturbed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.kernel import syscalls
from orchestrator.kernel.rooted import IN_ROOT
from orchestrator.runtime import adopting


def test_a_process_adopts_orphans_while_it_has_any_runtime_open(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [False]

    def switch(on: bool = True) -> bool:
        before, now[0] = now[0], on
        return before

    monkeypatch.setattr(adopting, "set_child_subreaper", switch)
    seen = []
    for act in ("begin", "begin", "end", "begin", "end", "end"):
        getattr(adopting.Adopting, act)()
        seen.append(now[0])
    assert seen == [True, True, True, True, True, False]


def test_a_path_is_looked_up_again_while_something_is_renamed_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("here")
    left, call = [3], syscalls.call

    def disturbed(number: int, *arguments: object, **named: object) -> int:
        if left[0]:
            left[0] -= 1
            raise BlockingIOError
        return call(number, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(syscalls, "call", disturbed)
    top = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    found = syscalls.openat2(top, b"file", os.O_RDONLY, IN_ROOT)
    assert (os.read(found, 9), left) == (b"here", [0])
    os.close(found)
    os.close(top)
