"""Events reach the log and whoever listens."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.contracts.events import Event, EventKind
from orchestrator.contracts.site import IdMap, Site
from orchestrator.model.names import ProjectKey, ProjectName, ServiceName
from orchestrator.state.journal import EventLog
from orchestrator.supervisor import stream as subject
from orchestrator.supervisor.stream import EventStream


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return EventLog(Site(ProjectName("p"), ProjectKey("k"), str(tmp_path), str(tmp_path), IdMap(0)))


def event(kind: EventKind = EventKind.WARNING, **detail: bool) -> Event:
    return Event(kind, "text", 1.0, ServiceName("a"), detail=detail)


async def test_a_listener_gets_what_happened_before_it_stopped_and_nothing_after(log: EventLog) -> None:
    stream = EventStream(log)
    async with stream.listen() as listener:
        stream.emit(event())
        listener.stop()
        stream.emit(event(EventKind.SERVICE_READY))
        assert [told.event.kind async for told in listener.events] == [EventKind.WARNING]
    log.close()


async def test_passed_probes_are_shown_but_not_kept(log: EventLog) -> None:
    stream = EventStream(log)
    async with stream.listen() as listener:
        for ok in (True, False):
            stream.emit(event(EventKind.HEALTH_PROBED, ok=ok))
        listener.stop()
        assert len([item async for item in listener.events]) == 2
    assert [item.detail["ok"] for item in log.since(0)] == [False]
    log.close()


async def test_a_listener_that_falls_too_far_behind_is_cut_off(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_BACKLOG", 3)
    stream = EventStream(log)
    async with stream.listen() as listener:
        for _ in range(5):
            stream.emit(event())
        assert len([item async for item in listener.events]) == 3
    log.close()
