"""The control socket: what is asked, what is answered, and that no request ends more than itself."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from orchestrator.contracts.events import Event
from orchestrator.contracts.protocol import BEAT_S
from orchestrator.model.codec import to_json
from orchestrator.model.names import ServiceName
from orchestrator.model.project import Project
from orchestrator.state.journal import EventLog
from orchestrator.supervisor import api
from orchestrator.testing.build import check, project, service
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.values import replace
from tests.unit.supervisor.house import Talk, house

STACK = project(service("db"), service("web", "db"))
SLOW = project(service("db", healthcheck=check()))


def up(stack: Project, **more: Any) -> dict[str, Any]:
    return {"project": to_json(stack), **more}


async def test_a_request_is_acknowledged_and_then_answered(autojump_clock: MockClock) -> None:
    async with house() as here:
        talk = await here.talk()
        await talk.send("hello")
        assert await talk.line() == {"v": 2, "ack": True}
        about = (await talk.line())["ok"]
        assert (about["project"], about["protocol"], about["pid"]) == ("demo", 2, os.getpid())
        assert await talk.ask("ps") == {"ok": []}


async def test_requests_that_come_before_all_is_adopted_are_acknowledged_and_wait(autojump_clock: MockClock) -> None:
    adopted = trio.Event()
    async with house(adopted=adopted) as here:
        talk = await here.talk()
        await talk.send("hello")
        assert await talk.line() == {"v": 2, "ack": True}
        assert await talk.line() == {"beat": True}
        adopted.set()
        assert (await talk.answer())["ok"]["project"] == "demo"


async def test_an_operation_streams_its_events_and_ends_with_the_statuses(autojump_clock: MockClock) -> None:
    async with house() as here:
        talk = await here.talk()
        await talk.send("up", up(STACK))
        kinds, done = [], None
        while done is None:
            line = await talk.line()
            kinds += [line["event"]["kind"]] if "event" in line else []
            done = line.get("ok")
        assert kinds[0] == "operation.started"
        assert kinds.count("container.started") == 2
        assert done["changed"] == 2
        assert [row["service"] for row in done["statuses"]] == ["db", "web"]
        assert (await talk.ask("hello"))["ok"]["working_dir"] == STACK.working_dir
        assert (await talk.ask("kill", {"selection": {"containers": ["demo-web-1"]}}))["ok"]["changed"] == 1
        plan = await talk.ask("plan", {"down": {"volumes": True}})
        assert {"kind": "remove", "service": "db"}.items() <= plan["ok"]["steps"][-2].items()
        assert (await talk.ask("down"))["ok"]["removed"] == 2
        await here.ended.wait()


@pytest.mark.parametrize("_again", range(40))
async def test_who_comes_as_the_last_client_leaves_is_served_or_hears_nothing(_again: int) -> None:
    """An answer to ``hello`` promises one to the request after it. trio runs what is ready in an order of its own: hence
    again and again."""
    async with house() as here:
        first = await here.talk()
        await first.ask("hello")
        knocking = socket.socket(socket.AF_UNIX)  # Without a checkpoint both are there for the server in one moment.
        knocking.connect(here.path)
        knocking.sendall(b'{"v": 2, "verb": "hello", "args": {}}\n')
        first.stream.socket.close()
        second = Talk(trio.SocketStream(trio.socket.from_stdlib_socket(knocking)))
        here.talks.append(second)
        greeting = None
        with suppress(trio.BrokenResourceError, ConnectionResetError):
            greeting = [await second.line(), await second.line()][-1]
        if greeting is None:
            await here.ended.wait()
        else:
            assert await second.ask("ps") == {"ok": []}


async def test_services_of_inactive_profiles_are_left_alone(autojump_clock: MockClock) -> None:
    stack = replace(STACK, inactive=frozenset({ServiceName("web")}))
    async with house() as here:
        talk = await here.talk()
        assert [row["service"] for row in (await talk.ask("up", up(stack)))["ok"]["statuses"]] == ["db"]


async def test_a_beat_tells_that_an_operation_goes_on(autojump_clock: MockClock) -> None:
    async with house({"db": FakeService(boot_s=BEAT_S * 3.5)}) as here:
        talk = await here.talk()
        await talk.send("up", up(SLOW, wait=True))
        lines = [await talk.line()]
        while "ok" not in lines[-1]:
            lines.append(await talk.line())
        assert lines.count({"beat": True}) >= 3


class BrokenLog(EventLog):
    def tail(
        self, count: int, *, services: Collection[str] = (), containers: Collection[str] = ()
    ) -> tuple[Event, ...]:
        raise ZeroDivisionError("oops")


async def test_a_bug_in_a_request_answers_it_and_ends_nothing_else(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with house(log=BrokenLog) as here:
        talk, other = await here.talk(), await here.talk()
        await other.send("up", up(STACK))
        await other.answer()
        error = (await talk.ask("why", {"service": "db"}))["error"]
        assert (error["kind"], error["exit_code"]) == ("bug", 125)
        assert error["message"] == '"why" failed: ZeroDivisionError: oops'
        assert "ZeroDivisionError: oops" in capsys.readouterr().err
        assert len((await talk.ask("ps"))["ok"]) == len((await other.ask("ps"))["ok"]) == 2


@pytest.mark.parametrize(
    ("verb", "args", "message"),
    [
        ("fly", {}, "unknown verb 'fly'"),
        ("ps", {"selection": {"services": [3]}}, "ps.selection.services[0]: expected str, not int"),
        ("up", {}, "up.project is missing"),
        ("stop", {"timeout_s": "soon"}, "stop.timeout_s: expected float, not str"),
        ("stop", {"timeout_s": -1}, "-1.0 is no number of seconds"),
        ("up", {"project": to_json(replace(STACK, name="other"))}, "supervisor of project demo, not of other"),
        ("start", {"selection": {"services": ["nobody"]}}, "no such service: nobody"),
        ("stop", {"selection": {"containers": ["nothing"]}}, 'no such container: "nothing"'),
        ("why", {"service": "nobody"}, 'project demo has no service "nobody"'),
        ("exec", {"service": "db", "argv": ["ls"]}, "exec without a terminal takes three pipes"),
        ("plan", {}, "a plan is of one operation, not of 0"),
        ("kill", {"signal": "SIGFOO"}, "SIGFOO"),
    ],
)
async def test_what_does_not_fit_is_an_input_error_that_names_it(
    autojump_clock: MockClock, verb: str, args: dict[str, Any], message: str
) -> None:
    async with house() as here:
        talk = await here.talk()
        error = (await talk.ask(verb, args))["error"]
        assert (error["kind"], error["exit_code"]) == ("input", 2)
        assert message in error["message"]
        assert await talk.ask("ps") == {"ok": []}


async def test_another_version_is_refused_with_ours_and_without_an_acknowledgement(autojump_clock: MockClock) -> None:
    async with house() as here:
        talk = await here.talk()
        await talk.send("hello", version=1)
        refusal = await talk.line()
        assert refusal["v"] == 2
        # The fields that version 1 reads.
        assert (refusal["error"]["exit_code"], bool(refusal["error"]["hint"])) == (2, True)
        assert "speaks version 2" in refusal["error"]["message"]


async def test_the_name_of_another_folders_project_is_not_taken_over(autojump_clock: MockClock, tmp_path: Path) -> None:
    first, link, second = (tmp_path / name for name in ("first", "link", "second"))
    first.mkdir()
    second.mkdir()
    link.symlink_to(first)
    ours, theirs = replace(STACK, working_dir=str(first)), replace(STACK, working_dir=str(second))
    async with house() as here:
        talk = await here.talk()
        assert "ok" in await talk.ask("up", up(ours))
        assert "ok" in await talk.ask("up", up(replace(ours, working_dir=str(link))))
        for verb, args in [("up", up(theirs)), ("down", {"working_dir": str(second)})]:
            error = (await talk.ask(verb, args))["error"]
            assert error.get("exit_code", 1) == 1
            assert error["message"] == f"the containers of project demo come from {link}, and this is {second}"
            assert "`-p NAME`" in error["hint"]
        assert "ok" in await talk.ask("up", up(theirs, named=True))
        assert "error" in await talk.ask("up", up(ours))
        second.rmdir()  # It was moved.
        assert "ok" in await talk.ask("up", up(ours))
        assert (await talk.ask("down", {"working_dir": str(first)}))["ok"]["removed"] == 2


async def test_an_operation_is_not_handed_over_in_the_middle(autojump_clock: MockClock) -> None:
    async with house({"db": FakeService(boot_s=1000)}) as here:
        first, second = await here.talk(), await here.talk()
        await first.send("up", up(SLOW, wait=True, wait_timeout_s=50))
        await wait_all_tasks_blocked()
        assert (await second.ask("shutdown", {"hand_over": True}))["error"]["kind"] == "busy"
        assert "error" in await first.answer()
        assert "ok" in await second.ask("shutdown", {"hand_over": True})
        await here.ended.wait()
        assert here.opened.engine.running()


async def test_events_are_told_from_the_log_and_then_as_they_happen(autojump_clock: MockClock) -> None:
    async with house() as here:
        talk, watch = await here.talk(), await here.talk()
        await talk.ask("up", up(STACK))
        await watch.send("events", {"since": 0, "follow": False})
        kinds = []
        while "event" in (line := await watch.line()) or "ack" in line:
            kinds.append(line.get("event", {}).get("kind"))
        assert "container.started" in kinds
        assert line == {"ok": None}
        await watch.send("events")
        assert "ack" in await watch.line()
        await wait_all_tasks_blocked()
        await talk.ask("stop")
        assert (await watch.line())["event"]["kind"] == "operation.started"


async def test_the_longest_idle_client_makes_room_for_a_new_one(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "capacity", lambda: 3)
    async with house({"db": FakeService(boot_s=50)}) as here:
        busy, *idle = [await here.talk() for _ in range(3)]
        await busy.send("up", up(SLOW, wait=True))
        await wait_all_tasks_blocked()
        for _ in range(20):
            late = await here.talk()
            assert "ok" in await late.ask("ps")
        assert await idle[0].line() is None
        assert "ok" in await busy.answer()


async def test_a_client_is_told_when_all_others_are_at_work(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "capacity", lambda: 1)
    async with house({"db": FakeService(boot_s=50)}) as here:
        busy = await here.talk()
        await busy.send("up", up(SLOW, wait=True))
        await wait_all_tasks_blocked()
        late = await here.talk()
        refusal = await late.line()
        assert (refusal["v"], refusal["error"]["kind"]) == (2, "host")
        assert "1 clients at work" in refusal["error"]["message"]
        assert await late.line() is None
        assert "ok" in await busy.answer()
