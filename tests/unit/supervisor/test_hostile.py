"""Broken clients cost their own connection: afterwards the supervisor answers, and holds no descriptor more than before."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import resource
import socket
from array import array
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from orchestrator.supervisor import wire
from orchestrator.supervisor.door import Door
from orchestrator.testing.build import project, service
from tests.unit.supervisor.house import House, house
from tests.unit.supervisor.test_api import up

Attack = Callable[[House], Awaitable[None]]


def descriptors() -> int:
    gc.collect()  # What an earlier test left to the collector is not this one's.
    return len(os.listdir("/proc/self/fd"))


async def garbage(here: House) -> None:
    """Lines of random bytes, and valid requests with some of their bytes changed."""
    dice = random.Random(7)
    good = json.dumps({"v": 2, "verb": "ps", "args": {"selection": {"services": ["db"]}}}).encode()
    talk = await here.talk()
    for _ in range(300):
        line = bytearray(good if dice.random() < 0.7 else dice.randbytes(dice.randrange(200)))
        for _ in range(dice.randrange(4)):
            if line:
                line[dice.randrange(len(line))] = dice.randrange(256)
        await talk.raw(bytes(line).replace(b"\n", b" ") + b"\n")
        answer = await talk.answer()
        assert "ok" in answer or answer["error"]["kind"] == "input", (line, answer)


async def odd_values(here: House) -> None:
    """JSON of every shape where a request, its args, or one of them is expected."""
    shapes: list[object] = [None, True, 0, -1, 1e308, "", "\ud800", [], [[]], {}, {"a": {}}, ["x"] * 1000]
    talk = await here.talk()
    for verb in ("hello", "ps", "why", "plan", "up", "start", "stop", "kill", "exec", "run", "scale"):
        for shape in shapes:
            for args in (shape, {"selection": shape}, {"project": shape}, {"service": shape}, {"since": shape}):
                await talk.raw(json.dumps({"v": 2, "verb": verb, "args": args}).encode() + b"\n")
                answer = await talk.answer()
                assert "ok" in answer or answer["error"]["kind"] != "bug", (verb, args, answer)


async def uninvited_descriptors(here: House) -> None:
    talk = await here.talk()
    reader, writer = os.pipe()
    for verb in ("ps", "up", "nonsense"):
        line = json.dumps({"v": 2, "verb": verb}).encode() + b"\n"
        await talk.stream.socket.sendmsg([line], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [writer] * 8))])
        await talk.answer()
    # More than any verb takes: cut off.
    await talk.stream.socket.sendmsg([b"{"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [writer] * 9))])
    assert await talk.line() is None
    # With half a request, and gone.
    half = await here.talk()
    await half.stream.socket.sendmsg([b"{"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [writer]))])
    await half.stream.aclose()
    os.close(writer)
    await wait_all_tasks_blocked()
    assert os.read(reader, 1) == b"", "somebody has it open"
    os.close(reader)


async def gone_in_the_middle(here: House) -> None:
    for request in (b"", b"{", b'{"v": 2, "verb": "ps"}\n', b'{"v": 2, "verb": "events"}\n'):
        for _ in range(20):
            talk = await here.talk()
            await talk.raw(request)
            await talk.stream.aclose()


async def half_open(here: House) -> None:
    """Clients that say nothing, and those that stop in the middle of a line: these are cut off."""
    silent = [await here.talk() for _ in range(30)]
    stuck = [await here.talk() for _ in range(30)]
    for talk in stuck:
        await talk.raw(b'{"v": 2,')
    for talk in stuck:
        assert await talk.line() is None
    assert "ok" in await silent[0].ask("ps")


async def huge_line(here: House) -> None:
    talk = await here.talk()
    with pytest.raises(trio.BrokenResourceError):
        await talk.raw(b"x" * (12 << 20))


async def slow_reader(here: House) -> None:
    """It asks and never reads: its answers fill the socket, and then it is cut off."""
    talk = await here.talk()
    with pytest.raises(trio.BrokenResourceError):
        await talk.raw(b'{"v": 2, "verb": "hello"}\n' * 100_000)


@pytest.mark.parametrize(
    "attack",
    [garbage, odd_values, uninvited_descriptors, gone_in_the_middle, half_open, huge_line, slow_reader],
    ids=lambda attack: attack.__name__,
)
async def test_a_broken_client_costs_its_own_connection(autojump_clock: MockClock, attack: Attack) -> None:
    async with house() as here:
        first = await here.talk()
        await first.ask("start")  # It opens the log of events.
        before = descriptors()
        await attack(here)
        for talk in here.talks[1:]:
            talk.stream.socket.close()
        await wait_all_tasks_blocked()
        assert (await first.ask("hello"))["ok"]["project"] == "demo"
        assert descriptors() == before


async def test_what_happens_goes_on_while_a_watcher_does_not_read(autojump_clock: MockClock) -> None:
    async with house() as here:
        watcher, talk = await here.talk(), await here.talk()
        await watcher.send("events", {"since": 0})
        stack = project(service("db"), service("web", "db"))
        assert "ok" in await talk.ask("up", up(stack))
        for _ in range(200):
            assert "ok" in await talk.ask("restart")
        await trio.sleep(2 * wire.SEND_TIMEOUT_S)
        while await watcher.line() is not None:
            pass


async def test_the_door_stays_open_without_descriptors() -> None:
    """A client that cannot be let in is told why, and the next one is let in once there are descriptors again."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0pystack-test-" + os.urandom(8).hex())
        listener.listen()
        door = Door(listener)
        refused, welcome = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        refused.connect(listener.getsockname())
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken: list[int] = []
        async with trio.open_nursery() as nursery:
            let_in: list[socket.socket] = []

            async def accept() -> None:
                let_in.append(await door.accept())

            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors() + 20, limits[1]))
            try:
                with contextlib.suppress(OSError):
                    while True:
                        taken.append(os.dup(refused.fileno()))
                nursery.start_soon(accept)
                await trio.to_thread.run_sync(refused.settimeout, 10)
                refusal = json.loads(await trio.to_thread.run_sync(refused.recv, 4096))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
                for fd in taken:
                    os.close(fd)
            assert "out of file descriptors" in refusal["error"]["message"]
            assert let_in == []
            await trio.to_thread.run_sync(welcome.connect, listener.getsockname())
        let_in[0].close()
        door.close()
        refused.close()
        welcome.close()
