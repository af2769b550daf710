"""A supervisor's control socket over a machine in memory, and clients that talk to it line by line."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import trio

from orchestrator.contracts.host import Host
from orchestrator.images.machine import MachineImages
from orchestrator.runtime.client import MonitorRuntime
from orchestrator.scheduler.engine import Engine
from orchestrator.state.journal import EventLog
from orchestrator.state.records import FileState
from orchestrator.state.volumes import FileVolumes
from orchestrator.supervisor.api import Server
from orchestrator.supervisor.door import open_listener
from orchestrator.supervisor.stream import EventStream
from orchestrator.supervisor.wiring import OpenProject
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.testing.world import World
from orchestrator.values import replace


@dataclass
class Talk:
    """One client. `fds`: what came with the messages so far."""

    stream: trio.SocketStream
    buffer: bytearray = field(default_factory=bytearray)

    async def send(self, verb: str, args: Mapping[str, Any] | None = None, *, version: int = 2) -> None:
        await self.raw(json.dumps({"v": version, "verb": verb, "args": args or {}}).encode() + b"\n")

    async def raw(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def line(self) -> Any:
        """The next message; None at the end."""
        while (end := self.buffer.find(b"\n")) < 0:
            data = await self.stream.receive_some()
            if not data:
                return None
            self.buffer += data
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 1]
        return json.loads(line)

    async def answer(self) -> Any:
        """What ends the request, past its acknowledgement, beats and events."""
        while "ok" not in (line := await self.line()) and "error" not in line:
            pass
        return line

    async def ask(self, verb: str, args: Mapping[str, Any] | None = None) -> Any:
        await self.send(verb, args)
        return await self.answer()


@dataclass
class House:
    """`ended` is set when the server has."""

    world: World
    opened: OpenProject
    server: Server
    ended: trio.Event
    talks: list[Talk] = field(default_factory=list)

    @property
    def path(self) -> str:
        return os.path.join(self.opened.site.run_dir, "control.sock")

    async def talk(self) -> Talk:
        sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        await sock.connect(self.path)
        self.talks.append(Talk(trio.SocketStream(sock)))
        return self.talks[-1]


class _Runtime:
    """The fake runtime, with the one thing that only the real one has."""

    monitor_pid = 7

    def __init__(self, world: World) -> None:
        self._runtime = world.runtime

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)


@asynccontextmanager
async def house(
    behaviours: Mapping[str, FakeService] | None = None,
    *,
    log: type[EventLog] = EventLog,
    adopted: trio.Event | None = None,
) -> AsyncIterator[House]:
    """A server in real directories; it answers once `adopted` is set (None: at once)."""
    with tempfile.TemporaryDirectory(prefix="psc-", dir="/tmp") as root:
        streams: list[EventStream] = []
        world = World(behaviours, emit=lambda event: streams[0].emit(event))
        world.site = replace(world.site, data_dir=f"{root}/data", run_dir=f"{root}/run")
        os.makedirs(world.site.data_dir)
        os.makedirs(world.site.run_dir)
        events = log(world.site)
        streams.append(EventStream(events))
        ended = trio.Event()
        with open_listener(world.site) as listener:
            async with world.engine() as engine, trio.open_nursery() as nursery:
                opened = _open(world, events, streams[0], engine)
                server = Server(world.site, listener)

                async def serve() -> None:
                    if adopted is not None:
                        await adopted.wait()
                    await server.serve(opened)
                    ended.set()

                nursery.start_soon(server.accept)
                nursery.start_soon(serve)
                here = House(world, opened, server, ended)
                try:
                    yield here
                finally:
                    nursery.cancel_scope.cancel()
                    for talk in here.talks:
                        talk.stream.socket.close()
        events.close()


def _open(world: World, log: EventLog, stream: EventStream, engine: Engine) -> OpenProject:
    return OpenProject(
        site=world.site,
        runtime=cast(MonitorRuntime, _Runtime(world)),
        images=cast(MachineImages, world.images),
        host=cast(Host, None),
        records=cast(FileState, world.state),
        volumes=cast(FileVolumes, world.volumes),
        log=log,
        stream=stream,
        engine=engine,
        boot_id="boot-1",
        since=1.0,
    )
