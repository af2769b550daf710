"""The journal of exits, read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from orchestrator.contracts.runtime import Exit
from orchestrator.model.names import ContainerId
from orchestrator.runtime import history
from orchestrator.runtime.history import compact_journal, exit_of, read_journal

A, B = ContainerId("a"), ContainerId("b")


def write(path: Path, *entries: dict[str, Any] | str) -> str:
    path.write_text("".join((entry if isinstance(entry, str) else json.dumps(entry)) + "\n" for entry in entries))
    return str(path)


def start(container: str, run: int, oom: int = 0) -> dict[str, Any]:
    return {"e": "start", "c": container, "r": run, "echo": {"oom_kills": oom}}


def ended(container: str, run: int, status: int | None) -> dict[str, Any]:
    return {"e": "exit", "c": container, "r": run, "status": status, "at": 9.5}


def test_wait_statuses() -> None:
    assert exit_of(3 << 8, 1.0) == Exit(code=3, finished_at=1.0)
    assert exit_of(9, 1.0) == Exit(signal=9, finished_at=1.0)
    assert exit_of(11 | 0x80, 1.0) == Exit(signal=11, finished_at=1.0)
    assert exit_of(None, 1.0).lost


def test_runs_and_exits_are_found(tmp_path: Path) -> None:
    path = write(tmp_path / "j", start("a", 1), ended("a", 1, 256), start("b", 1), start("a", 2, oom=4))
    found = read_journal(path)
    assert (found[A].last_run, found[A].base, found[A].last_exit) == (2, {"oom_kills": 4}, None)
    assert found[A].exits == {1: Exit(code=1, finished_at=9.5)}
    assert found[B].last_run == 1


def test_a_forgotten_container_and_a_torn_line_leave_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "j", start("a", 1), {"e": "forget", "c": "a"}, start("b", 1), '{"e":"exit","c":"b","r":1,"st')
    assert list(read_journal(path)) == [B]
    assert read_journal(str(tmp_path / "missing")) == {}


def test_only_the_latest_exits_are_kept(tmp_path: Path) -> None:
    entries = [entry for run in range(1, 101) for entry in (start("a", run), ended("a", run, 0))]
    found = read_journal(write(tmp_path / "j", *entries))[A]
    assert found.last_run == 100
    assert max(found.exits) == 100
    assert len(found.exits) <= 16


def test_a_big_journal_is_compacted_to_what_is_needed(tmp_path: Path) -> None:
    entries = [entry for run in range(1, 10_001) for entry in (start("a", run), ended("a", run, 512), start("b", run))]
    path = write(tmp_path / "j", *entries, {"e": "forget", "c": "b"})
    assert Path(path).stat().st_size > history.COMPACT_OVER_BYTES
    compact_journal(path)
    assert len(Path(path).read_text().splitlines()) == 2
    found = read_journal(path)
    assert list(found) == [A]
    assert (found[A].last_run, found[A].last_exit) == (10_000, Exit(code=2, finished_at=9.5))
