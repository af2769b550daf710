"""The event log: written by one, read from its end by others meanwhile."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path

import pytest

from orchestrator.contracts.events import Event, EventKind
from orchestrator.contracts.site import Site
from orchestrator.errors import HostError
from orchestrator.model.names import ContainerId, ProjectName, ServiceName
from orchestrator.state import backwards, journal
from orchestrator.state.backwards import lines_backwards
from orchestrator.state.directory import site_of
from orchestrator.state.journal import CLOCK_SLACK_S, EventLog
from orchestrator.state.preparation import prepare


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return prepare(site_of(str(tmp_path / "data"), str(tmp_path / "run"), ProjectName("demo")))


def event(number: int, service: str = "a", at: float | None = None) -> Event:
    name = ServiceName(service)
    at = float(number) if at is None else at
    return Event(EventKind.WARNING, f'number {number} "at": 5, ', at, name, ContainerId(f"c-{name}"))


def numbers(events: object) -> list[int]:
    return [int(item.text.split()[1]) for item in events]  # type: ignore[attr-defined]


@pytest.mark.parametrize("block", [1, 2, 3, 7, 64, 1 << 16])
def test_lines_backwards_are_the_whole_lines_in_reverse(
    tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backwards, "BLOCK_BYTES", block)
    for seed in range(30):
        chance = random.Random(seed)
        text = bytes(chance.choice(b"ab\n") for _ in range(chance.randrange(40)))
        path = tmp_path / "file"
        path.write_bytes(text)
        fd = os.open(path, os.O_RDONLY)
        found = list(lines_backwards(fd, len(text)))
        os.close(fd)
        assert [line for _, line in reversed(found)] == text.split(b"\n")[:-1]
        assert all(text[at:].startswith(line + b"\n") for at, line in found)


def test_events_outlive_their_writer(site: Site) -> None:
    log = EventLog(site)
    events = [event(n, "ab"[n % 2]) for n in range(10)]
    for item in events:
        log.append(item)
    log.close()
    assert list(EventLog(site).since(0)) == events
    assert numbers(EventLog(site).tail(2, services=["b"])) == [7, 9]
    assert numbers(EventLog(site).tail(3, services=["b"], containers=["c-a"])) == [7, 8, 9]
    assert numbers(EventLog(site).tail(99, containers=["c-a"])) == [0, 2, 4, 6, 8]
    assert EventLog(site).tail(5, services=["number"]) == ()
    assert numbers(EventLog(site).since(7)) == [7, 8, 9]


def test_a_log_that_was_never_written_is_empty(site: Site) -> None:
    assert list(EventLog(site).since(0)) == []
    assert EventLog(site).tail(3, services=["a"]) == ()


def test_both_files_are_read_and_the_older_one_only_when_it_is_needed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_MAX_BYTES", 20_000)
    log = EventLog(site)
    for number in range(400):
        log.append(event(number * 100, "ab"[number == 3]))
    log.close()
    kept = numbers(log.since(0))
    assert 150 < len(kept) < 400
    assert kept == list(range(kept[0], 40_000, 100))
    assert numbers(log.since(39_000)) == list(range(39_000, 40_000, 100))
    monkeypatch.setattr(journal, "_parse", None)  # Whoever parses a line that cannot match fails now.
    assert log.tail(3, services=["never"]) == ()


def test_a_clock_that_was_set_back_hides_nothing(site: Site) -> None:
    log = EventLog(site)
    times = [1000.0, 2000.0, 2000.0 - CLOCK_SLACK_S + 1, 1999.0, 2001.0]
    for number, at in enumerate(times):
        log.append(event(number, at=at))
    log.close()
    assert numbers(log.since(2000.0)) == [1, 4]


def test_a_torn_last_line_costs_that_line_alone(site: Site) -> None:
    log = EventLog(site)
    log.append(event(1))
    log.close()
    with open(f"{site.data_dir}/events.jsonl", "ab") as file:
        file.write(b'{"version": 2, "kind": "warn')
    assert numbers(log.since(0)) == [1]
    log.append(event(2))
    log.close()
    assert numbers(log.since(0)) == [1, 2]
    assert numbers(log.tail(5, services=["a"])) == [1, 2]


def test_a_log_that_is_a_link_is_refused(site: Site) -> None:
    os.symlink("/etc/passwd", f"{site.data_dir}/events.jsonl")
    EventLog(site).append(event(1))
    with pytest.raises(HostError, match=r"cannot read .*events\.jsonl"):
        EventLog(site).tail(1, services=["a"])


def test_readers_see_a_consistent_log_while_it_is_written_and_moved(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_MAX_BYTES", 30_000)
    log, done = EventLog(site), threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        for number in range(3000):
            log.append(event(number))
            written = number
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        least = written
        seen = numbers(EventLog(site).since(0))
        last = numbers(EventLog(site).tail(4, services=["a"]))
        if seen:
            assert seen == list(range(seen[0], seen[-1] + 1))
            assert seen[-1] >= least
        if last:
            assert last == list(range(last[0], last[-1] + 1))
    writer.join()
    log.close()
    assert numbers(log.tail(2, services=["a"])) == [2998, 2999]


def operation(number: int, verb: str, *, begins: bool = True) -> Event:
    kind = EventKind.OPERATION_STARTED if begins else EventKind.OPERATION_FINISHED
    return Event(kind, f"number {number}", float(number), detail={"verb": verb})


def test_the_last_operation_is_found_with_what_was_under_way_when_it_began(site: Site) -> None:
    log = EventLog(site)
    story = [
        operation(0, "up"), event(1), operation(2, "up", begins=False),
        operation(3, "up"), event(4), operation(5, "start"), event(6), operation(7, "up", begins=False),
        operation(8, "start", begins=False), operation(9, "stop"), operation(10, "stop", begins=False), event(11),
    ]  # fmt: skip
    for item in story:
        log.append(item)

    def last(verb: str) -> list[int]:
        return numbers(log.last_operation(lambda found: found.detail["verb"] == verb))

    assert last("stop") == [9, 10, 11]
    assert last("start") == list(range(3, 12))
    assert last("up") == list(range(3, 12))
    assert last("down") == []


def test_an_operation_that_its_supervisors_death_ended_hides_no_later_one(site: Site) -> None:
    log = EventLog(site)
    for item in [operation(0, "up"), operation(1, "up"), event(2), operation(3, "up", begins=False)]:
        log.append(item)
    assert numbers(log.last_operation(lambda found: True)) == [1, 2, 3]
