"""The real networks, in a network namespace of their own, keep the contract that the fake ones keep."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trio
from dnslib import DNSRecord

from orchestrator.contracts.network import Networking
from orchestrator.network import shared_creation
from orchestrator.network.adapter import open_networking
from orchestrator.network.ports import bind
from orchestrator.network.shared_files import SharedFiles, SharedNetwork
from orchestrator.testing.conformance_handed_over import HANDED_OVER_CHECKS
from orchestrator.testing.conformance_impaired import IMPAIRED_CHECKS
from orchestrator.testing.conformance_network import NETWORK_CHECKS, Attached, Check, run_network_check
from orchestrator.testing.conformance_rewired import REWIRED_CHECKS
from orchestrator.testing.conformance_shared_networks import SHARED_NETWORK_CHECKS
from tests.kernel.network_lab import Lab, MemoryStore, lab, site
from tests.leaks import nft_tables

CHECKS = NETWORK_CHECKS + REWIRED_CHECKS + HANDED_OVER_CHECKS + SHARED_NETWORK_CHECKS + IMPAIRED_CHECKS

pytestmark = pytest.mark.kernel


class RealNetworkLab:
    """`conformance_network.NetworkLab` on a kernel. The two keys differ after the sixth digit only: names of interfaces
    have no room for more, so those of the two projects' containers are alike."""

    def __init__(self, world: Lab, files: Path, stored: bool) -> None:
        self._world = world
        self._root = files / "data"
        self._site, self._other = (site(self._root / "projects", key) for key in ("7e57ab1e", "7e57ab2f"))
        for each in (self._site, self._other):
            Path(each.data_dir).mkdir(parents=True)
        self._store = MemoryStore() if stored else None
        self._opened = AsyncExitStack()
        self.networking: Networking
        self.neighbour: Networking

    @asynccontextmanager
    async def open(self) -> AsyncIterator[RealNetworkLab]:
        async with open_networking(self._other) as self.neighbour:
            try:
                self.networking = await self._opened.enter_async_context(open_networking(self._site, self._store))
                yield self
                for networking in (self.networking, self.neighbour):
                    await networking.remove([])
            finally:
                await self._opened.aclose()
        assert self._store is None or self._store.kept == {}

    def namespace(self) -> int:
        return self._world.namespace()

    async def resolve(self, networking: Networking, asking: Attached, name: str) -> tuple[str, ...]:
        question = DNSRecord.question(name)
        with self._world.socket(asking.netns_fd, socket.SOCK_DGRAM) as sock:
            await sock.connect((asking.endpoints[0].name_server, 53))
            await sock.send(question.pack())
            reply = DNSRecord.parse(await sock.recv(512))
        return tuple(str(record.rdata) for record in reply.rr)

    async def reaches(self, one: Attached, other: Attached) -> bool:
        with (
            self._world.socket(other.netns_fd, socket.SOCK_DGRAM) as server,
            self._world.socket(one.netns_fd, socket.SOCK_DGRAM) as client,
        ):
            await server.bind(("0.0.0.0", 7000))
            await client.sendto(b"x", (other.ip, 7000))
            with trio.move_on_after(0.3) as waited:
                await server.recv(10)
        return not waited.cancelled_caught

    @contextmanager
    def occupied(self, port: int) -> Iterator[None]:
        with bind("tcp", "0.0.0.0", port):
            yield

    @contextmanager
    def shared(self, name: str) -> Iterator[None]:
        files = SharedFiles(str(self._root))
        shared_creation.create(files, SharedNetwork(name), (4, 6))
        yield
        shared_creation.remove(files, name)

    async def restart(self) -> None:
        # Leaving the block is what a kill does: the kernel's things stay, the process's sockets are gone.
        await self._opened.aclose()
        self.networking = await self._opened.enter_async_context(open_networking(self._site, self._store))


@pytest.mark.parametrize("stored", [True, False], ids=["with the monitor's store", "without a store"])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_the_real_networks(check: Check, stored: bool, leaves_nothing_behind: None) -> None:
    with lab() as world, tempfile.TemporaryDirectory() as directory:
        before = set(world.links(world.host))
        await run_network_check(check, RealNetworkLab(world, Path(directory), stored).open())
        assert set(world.links(world.host)) == before
        assert nft_tables() == []
        assert [path for path in Path(directory).rglob("*") if path.is_file()] == []
