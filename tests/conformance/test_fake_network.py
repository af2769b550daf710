"""The fake networks keep the contract that the real ones keep: what is simulated is what will happen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest
import trio

from orchestrator.contracts.network import Networking
from orchestrator.testing import seeds
from orchestrator.testing.conformance_handed_over import HANDED_OVER_CHECKS
from orchestrator.testing.conformance_impaired import IMPAIRED_CHECKS
from orchestrator.testing.conformance_network import NETWORK_CHECKS, Attached, Check, run_network_check
from orchestrator.testing.conformance_rewired import REWIRED_CHECKS
from orchestrator.testing.conformance_shared_networks import SHARED_NETWORK_CHECKS
from orchestrator.testing.fake_network import FakeHost, FakeNetworking

CHECKS = NETWORK_CHECKS + REWIRED_CHECKS + HANDED_OVER_CHECKS + SHARED_NETWORK_CHECKS + IMPAIRED_CHECKS


class FakeNetworkLab:
    """`conformance_network.NetworkLab` in memory."""

    def __init__(self) -> None:
        self._host = FakeHost()
        self.networking = FakeNetworking(host=self._host)
        self.neighbour = FakeNetworking(host=self._host, key="0123abce")
        self._namespaces = 0

    def namespace(self) -> int:
        self._namespaces += 1
        return self._namespaces

    async def resolve(self, networking: Networking, asking: Attached, name: str) -> tuple[str, ...]:
        await trio.lowlevel.checkpoint()
        assert isinstance(networking, FakeNetworking)
        return networking.resolve(asking.name, name)

    async def reaches(self, one: Attached, other: Attached) -> bool:
        await trio.lowlevel.checkpoint()
        assert isinstance(self.networking, FakeNetworking)
        return self.networking.reaches(one.ip, other.ip)

    @contextmanager
    def occupied(self, port: int) -> Iterator[None]:
        assert all(one.host_port != port for p in self._host.projects for held in p.attached.values() for one in held)
        self._host.taken.add(port)
        yield
        self._host.taken.discard(port)

    @contextmanager
    def shared(self, name: str) -> Iterator[None]:
        self._host.share(name)
        yield
        assert not any(self._host.shared.pop(name).values())

    async def restart(self) -> None:
        await trio.lowlevel.checkpoint()
        self.networking.forget()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_fake_networks(check: Check) -> None:
    for seed in range(5):

        async def main() -> None:
            await run_network_check(check, nullcontext(FakeNetworkLab()))

        seeds.run(main, seed=seed)
