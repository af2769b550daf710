"""What the options of networks and attachments do to the kernel's things."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from orchestrator.errors import OperationError
from orchestrator.model.names import NetworkName, ProjectKey
from orchestrator.model.network import Attachment, Network, Subnet
from orchestrator.network.adapter import ProjectNetworking, open_networking
from orchestrator.network.leftovers import find_leftovers, remove_leftovers
from tests.kernel.network_lab import DEADLINE_S, HOST, OUTSIDE, Lab, ask, echo, lab, network, site, start, stop, tcp

pytestmark = pytest.mark.kernel

BRIDGE = "com.docker.network.bridge"


@asynccontextmanager
async def project(*networks: Network) -> AsyncIterator[tuple[Lab, ProjectNetworking]]:
    with trio.fail_after(DEADLINE_S), lab() as world, tempfile.TemporaryDirectory() as directory:
        before = set(world.links(world.host))
        async with open_networking(site(Path(directory))) as networking:
            await networking.ensure(networks)
            yield world, networking
            await networking.remove([item.key for item in networks])
        assert set(world.links(world.host)) == before


def shown(world: Lab, namespace: int, *words: str) -> str:
    with world.inside(namespace):
        return subprocess.run(["ip", *words], capture_output=True, text=True, check=True).stdout


async def test_the_mtu_is_that_of_the_bridge_and_of_both_ends() -> None:
    async with project(network(options=(("com.docker.network.driver.mtu", "1400"),))) as (world, networking):
        web = await start(world, networking, "web")
        assert "mtu 1400" in shown(world, web.fd, "link", "show", "eth0")
        assert shown(world, world.host, "link").count("mtu 1400") == 3  # the name server's too
        await stop(world, networking, web)


async def test_without_icc_containers_do_not_reach_each_other_and_published_ports_are_reached() -> None:
    options = ((f"{BRIDGE}.enable_icc", "false"),)
    async with project(network(options=options)) as (world, networking):
        switch = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
        if switch.exists():
            switch.write_text("0")  # Else the bridge itself carries what is translated, and drops it: docs/networking.md.
        web = await start(world, networking, "web", ports=[tcp(80, 8080)])
        client = await start(world, networking, "client")
        async with echo(await world.listen(web.fd, 80)), echo(await world.listen(world.outside, 80)):
            assert await ask(world, client.fd, HOST, 8080) == web.gateway
            assert await ask(world, client.fd, OUTSIDE, 80) == HOST
            with pytest.raises((OSError, trio.TooSlowError)), trio.fail_after(1):
                await ask(world, client.fd, web.address, 80)
        await stop(world, networking, web, client)


async def test_a_bridge_that_the_stack_names_has_that_name_and_is_found_when_its_project_died() -> None:
    named = network(options=((f"{BRIDGE}.name", "br-lab"),))
    with trio.fail_after(DEADLINE_S), lab() as world, tempfile.TemporaryDirectory() as directory:
        before = set(world.links(world.host))
        place = site(Path(directory))
        async with open_networking(place) as networking:
            await networking.ensure([named])
            web = await start(world, networking, "web")
            assert "br-lab" in world.links(world.host)
        async with open_networking(site(Path(directory), "0badf00d")) as other:
            with pytest.raises(OperationError, match='has an interface "br-lab" already') as caught:
                await other.ensure([named])
            assert str(caught.value.place).startswith("networks.default.driver_opts.")
        assert (await find_leftovers(place.key)).bridges == ("br-lab",)
        assert not await find_leftovers(ProjectKey("0badf00d"))
        async with open_networking(place) as networking:
            await networking.ensure([named])
            networking.restore(web.name, web.endpoints)
            await networking.attach(web.name, web.fd, web.endpoints, [])
        await remove_leftovers(place.key)
        assert set(world.links(world.host)) == before


async def test_ports_without_an_address_are_published_where_the_network_says() -> None:
    async with project(network(options=((f"{BRIDGE}.host_binding_ipv4", "127.0.0.1"),))) as (world, networking):
        web = await start(world, networking, "web", ports=[tcp(80, 8080), tcp(81, 8081, HOST)])
        assert [item.host_ip for item in web.published] == ["127.0.0.1", HOST]
        async with echo(await world.listen(web.fd, 80)), echo(await world.listen(web.fd, 81)):
            assert await ask(world, world.host, "127.0.0.1", 8080) == web.gateway
            assert await ask(world, world.outside, HOST, 8081) == OUTSIDE
            with pytest.raises(ConnectionRefusedError):
                await ask(world, world.outside, HOST, 8080)
        await stop(world, networking, web)


async def test_without_masquerade_the_outside_sees_the_container_itself() -> None:
    async with project(network(options=((f"{BRIDGE}.enable_ip_masquerade", "false"),))) as (world, networking):
        web = await start(world, networking, "web")
        async with echo(await world.listen(world.outside, 80)), echo(await world.listen(web.fd, 80)):
            assert await ask(world, web.fd, OUTSIDE, 80) == web.address
            with trio.move_on_after(0.4):
                await ask(world, world.outside, web.address, 80)
                raise AssertionError("let in")
        await stop(world, networking, web)


async def test_priorities_order_interfaces_and_choose_the_default_route() -> None:
    ranges = {"a": "10.7.1.0/24", "b": "10.7.2.0/24", "c": "10.7.3.0/24"}
    networks = [network(name, subnets=(Subnet(text),)) for name, text in ranges.items()]
    async with project(*networks) as (world, networking):
        joined = [
            Attachment(NetworkName("a")),
            Attachment(NetworkName("b"), priority=10, interface="lan0"),
            Attachment(NetworkName("c"), gw_priority=5, mac_address="02:42:ac:11:00:09"),
        ]
        web = await start(world, networking, "web", joined, [tcp(80, 8080)])
        assert [(end.network, end.interface) for end in web.endpoints] == [("b", "lan0"), ("a", "eth1"), ("c", "eth2")]
        assert {"lan0", "eth1", "eth2"} <= set(world.links(web.fd))
        assert world.links(web.fd)["eth2"].mac == "02:42:ac:11:00:09"
        assert "via 10.7.3.1 dev eth2" in shown(world, web.fd, "route", "show", "default")
        async with echo(await world.listen(web.fd, 80)):
            assert await ask(world, world.outside, HOST, 8080) == OUTSIDE
        await stop(world, networking, web)


async def test_an_address_of_a_range_comes_from_it_and_not_from_those_that_others_have() -> None:
    part = Subnet("10.7.0.0/24", "10.7.0.254", "10.7.0.64/30", ("10.7.0.65",))
    async with project(network(subnets=(part,))) as (world, networking):
        boxes = [await start(world, networking, "web", number=number) for number in (1, 2, 3)]
        assert {box.address for box in boxes} == {"10.7.0.64", "10.7.0.66", "10.7.0.67"}
        with pytest.raises(OperationError, match=r"no free address on network \"default\" \(10\.7\.0\.64/30\)"):
            await start(world, networking, "web", number=4)
        await stop(world, networking, *boxes)
