"""A monitor that is out of descriptors."""

from __future__ import annotations

import itertools
import os
import resource
import socket
from pathlib import Path

import pytest
import trio

from orchestrator.errors import PystackError
from orchestrator.kernel import fdpass
from orchestrator.model.names import ContainerId
from orchestrator.runtime.client import open_runtime
from orchestrator.runtime.host_check import find_host
from orchestrator.runtime.link import SOCKET_NAME
from tests.kernel.place import Place, place
from tests.machine import eventually

pytestmark = pytest.mark.kernel
BOX = ContainerId("rt-a-1")
CONNECTIONS = 300


def connect(here: Place) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.setblocking(False)
    try:
        sock.connect(f"{here.site.run_dir}/{SOCKET_NAME}")
    except BlockingIOError:
        sock.close()
        raise
    return sock


def crowded(here: Place, crowd: list[socket.socket], size: int) -> bool:
    """Connect until there are `size`; the monitor's queue may be full: it takes one at a time then, with pauses."""
    while len(crowd) < size:
        try:
            crowd.append(connect(here))
        except BlockingIOError:
            return False
    return True


def is_closed(sock: socket.socket) -> bool:
    """Whether the other side has closed it."""
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def limit(pid: int, spare: int) -> None:
    """Let the process have `spare` descriptors more than it has: the limit is on their numbers, and the lowest is taken."""
    hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
    used = set(map(int, os.listdir(f"/proc/{pid}/fd")))
    free = (number for number in itertools.count() if number not in used)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (next(itertools.islice(free, spare, None)), hard))


async def test_hundreds_of_connections_end_neither_the_monitor_nor_the_containers(
    leaves_nothing_behind: None, busybox_rootfs: Path
) -> None:
    async with place(busybox_rootfs) as here:
        run = await here.begin(["sleep", "1000"])
        monitor = here.runtime.monitor_pid
        limit(monitor, 20)
        before = Path(f"/proc/{monitor}/stat").read_text().rpartition(")")[2].split()[11:13]
        crowd: list[socket.socket] = []
        await trio.to_thread.run_sync(eventually, lambda: crowded(here, crowd, CONNECTIONS))
        assert here.runtime.monitor_pid == monitor
        # A supervisor that comes last gets in, and the old one's place is taken over.
        async with open_runtime(here.site, find_host()) as second:
            assert second.monitor_pid == monitor
            (state,) = await second.containers()
            assert state.run == run
        for sock in crowd:
            sock.close()
        after = Path(f"/proc/{monitor}/stat").read_text().rpartition(")")[2].split()[11:13]
        assert sum(map(int, after)) - sum(map(int, before)) < 200  # Ticks of 10 ms: it did not spin.
        limit(monitor, 1000)


async def test_a_start_without_descriptors_is_an_error_and_works_again_later(
    leaves_nothing_behind: None, busybox_rootfs: Path
) -> None:
    async with place(busybox_rootfs) as here:
        await here.begin(["sleep", "1000"], "rt-long-1")
        await here.runtime.create(here.spec(["sleep", "1000"]))
        monitor = here.runtime.monitor_pid
        limit(monitor, 2)
        with pytest.raises(PystackError, match="Too many open files"):
            await here.runtime.start(BOX)
        assert here.runtime.monitor_pid == monitor
        limit(monitor, 1000)
        run = await here.runtime.start(BOX)
        assert (run.number, here.runtime.monitor_pid) == (1, monitor)
        assert (await here.runtime.probe(ContainerId("rt-long-1"), ("true",), 5)).ok


async def test_a_client_that_says_nothing_for_long_goes_first(leaves_nothing_behind: None, busybox_rootfs: Path) -> None:
    async with place(busybox_rootfs) as here:
        monitor = here.runtime.monitor_pid
        limit(monitor, 2)
        crowd: list[socket.socket] = []
        eventually(lambda: crowded(here, crowd, 40))
        eventually(lambda: is_closed(crowd[0]))
        fdpass.send(crowd[-1], b'{"op": "fetch", "id": 1, "name": "none"}')
        crowd[-1].setblocking(True)
        crowd[-1].settimeout(10)
        assert crowd[-1].recv(100) == b'{"re": 1}'
        for sock in crowd:
            sock.close()
