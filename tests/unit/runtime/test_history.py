"""The journal of exits, read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from orchestrator.contracts.runtime import Exit
from orchestrator.model.names import ContainerId
from orchestrator.runtime.history import compact_journal, exit_of, read_journal
from orchestrator.runtime.monitor.journal import COMPACT_OVER_BYTES, Journal

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
    assert Path(path).stat().st_size > COMPACT_OVER_BYTES
    compact_journal(path)
    assert len(Path(path).read_text().splitlines()) == 2
    found = read_journal(path)
    assert list(found) == [A]
    assert (found[A].last_run, found[A].last_exit) == (10_000, Exit(code=2, finished_at=9.5))


def test_a_monitor_keeps_its_journal_small_and_loses_nothing_that_counts(tmp_path: Path) -> None:
    path = tmp_path / "exits.journal"
    write(path, start("a", 1), ended("a", 1, 256), start("b", 7))
    directory = os.open(tmp_path, os.O_RDONLY)
    journal = Journal(directory, "boot")
    largest = 0
    for run in range(2, 1_500):
        for entry in (start("a", run), ended("a", run, 512)):
            journal.write(**entry, filler="x" * 500)
        largest = max(largest, path.stat().st_size)
    assert COMPACT_OVER_BYTES * 0.9 < largest < COMPACT_OVER_BYTES + 2000
    assert path.stat().st_size < COMPACT_OVER_BYTES * 0.9
    found = read_journal(str(path))
    assert (found[A].last_run, found[A].last_exit) == (1_499, Exit(code=2, finished_at=9.5))
    assert (found[B].last_run, found[B].last_exit) == (7, None)
    assert os.listdir(tmp_path) == ["exits.journal"]
    os.close(directory)


def test_a_journal_that_cannot_be_made_small_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "exits.journal"
    (tmp_path / "exits.journal.new").mkdir()
    directory = os.open(tmp_path, os.O_RDONLY)
    journal = Journal(directory, "boot")
    for run in range(1, 2_000):
        journal.write(**start("a", run), filler="x" * 1000)
    assert path.stat().st_size > COMPACT_OVER_BYTES
    assert read_journal(str(path))[A].last_run == 1_999
    os.close(directory)
