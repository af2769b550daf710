"""What every implementation of `contracts.network.Networking` must do, as checks that the fake and the real one both pass.

A lab is one machine with two projects on it, in one data directory, which have containers of the same ids. Host ports are
from `PORTS`, a range that no check leaves taken.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import partial
from typing import Protocol

import trio

from orchestrator.contracts.network import Endpoint, Networking, Published
from orchestrator.errors import OperationError
from orchestrator.model.names import ContainerId, NetworkName, ServiceName
from orchestrator.model.network import Attachment, Network, PortMapping, Subnet
from orchestrator.values import frozen

DEADLINE_S = 20.0
DEFAULT = NetworkName("default")
WEB = ServiceName("web")
PORTS = (8400, 8402)
PLACE = "services.web.ports[0]"
ANY = "0.0.0.0"
NETWORK = Network(DEFAULT, "shop_default")
ON_DEFAULT = Attachment(DEFAULT)


class NetworkLab(Protocol):
    """A fresh one for every check."""

    @property
    def networking(self) -> Networking: ...

    @property
    def neighbour(self) -> Networking:
        """Another project's, in the same data directory."""
        ...

    def namespace(self) -> int:
        """A new network namespace, for one container."""
        ...

    async def resolve(self, networking: Networking, asking: Attached, name: str) -> tuple[str, ...]:
        """What DNS tells a container about `name`: addresses in the order of the answer; none if there is no such name."""
        ...

    async def reaches(self, one: Attached, other: Attached) -> bool:
        """Whether a datagram from one container arrives at the other."""
        ...

    def occupied(self, port: int) -> AbstractContextManager[None]:
        """Meanwhile another program has that TCP port on all addresses of the host."""
        ...

    def shared(self, name: str) -> AbstractContextManager[None]:
        """Meanwhile there is a network that projects share."""
        ...

    async def restart(self) -> None:
        """The supervisor of `networking` is killed, and `networking` is that of its successor."""
        ...


@frozen
class Attached:
    """A container on its networks."""

    name: ContainerId
    netns_fd: int
    endpoints: tuple[Endpoint, ...]
    published: tuple[Published, ...]

    @property
    def ip(self) -> str:
        return self.endpoints[0].addresses[0].ip


Check = Callable[[NetworkLab], Awaitable[None]]


def container_named(number: int = 1, service: str = WEB) -> ContainerId:
    return ContainerId(f"shop-{service}-{number}")


def port_of(low: int | None = None, high: int | None = None, target: int = 80, protocol: str = "tcp") -> PortMapping:
    return PortMapping(target, (low, high or low) if low is not None else None, None, protocol, PLACE)


async def start_container(
    lab: NetworkLab,
    number: int = 1,
    ports: Sequence[PortMapping] = (),
    *,
    networking: Networking | None = None,
    service: str = WEB,
    attachment: Attachment = ON_DEFAULT,
    one_off: bool = False,
    keep: Sequence[Published] = (),
) -> Attached:
    """Reserve and attach, as the scheduler does."""
    on = networking or lab.networking
    name = container_named(number, service)
    endpoints = on.reserve(name, ServiceName(service), [attachment], service_name=not one_off)
    fd = lab.namespace()
    return Attached(name, fd, endpoints, await on.attach(name, fd, endpoints, ports, keep))


async def ensure(*networkings: Networking, network: Network = NETWORK) -> None:
    for networking in networkings:
        await networking.ensure([network])


async def clear(networking: Networking, *containers: ContainerId) -> None:
    for container in containers:
        await networking.detach(container)
        networking.release(container)
    await networking.remove([DEFAULT])


async def refusal(work: Callable[[], Awaitable[object]]) -> OperationError:
    """The error that `work` has to end with."""
    try:
        await work()
    except OperationError as error:
        return error
    raise AssertionError("not refused")


async def addresses_are_kept_until_they_are_released(lab: NetworkLab) -> None:
    await ensure(lab.networking)
    first, second = await start_container(lab, 1), await start_container(lab, 2)
    assert first.ip != second.ip
    await lab.networking.detach(first.name)
    assert lab.networking.reserve(first.name, WEB, [Attachment(DEFAULT)]) == first.endpoints
    assert first.endpoints[0].interface == "eth0"
    assert first.endpoints[0].names == ("web", first.name)
    await clear(lab.networking, first.name, second.name)


async def an_address_that_is_taken_or_outside_is_refused_and_nothing_is_held(lab: NetworkLab) -> None:
    subnets = (Subnet("10.77.1.0/24", "10.77.1.254"),)
    await ensure(lab.networking, network=Network(DEFAULT, "shop_default", subnets=subnets))
    fixed = Attachment(DEFAULT, ipv4_address="10.77.1.9")
    one = await start_container(lab, 1, attachment=fixed)
    address = one.endpoints[0].addresses[0]
    assert (address.ip, address.prefix, address.gateway) == ("10.77.1.9", 24, "10.77.1.254")
    for wrong in ("10.77.1.9", "10.77.2.1", "10.77.1.255", "10.77.1.254", "door"):

        async def reserve(wrong: str = wrong) -> object:
            return lab.networking.reserve(container_named(2), WEB, [Attachment(DEFAULT, ipv4_address=wrong)])

        assert wrong in (await refusal(reserve)).message
    await clear(lab.networking, one.name)


async def an_address_that_the_stack_writes_down_is_given_to_nobody_else(lab: NetworkLab) -> None:
    network = Network(DEFAULT, "shop_default", subnets=(Subnet("10.77.1.0/29"),))
    # Of the five that there are, .4 is where an address without a wish would come from first.
    lab.networking.reserve_written({DEFAULT: ["10.77.1.4", "10.77.1.5"]})
    await ensure(lab.networking, network=network)
    others = [lab.networking.reserve(container_named(n), WEB, [Attachment(DEFAULT)]) for n in (1, 2, 3)]
    assert {ends[0].addresses[0].ip for ends in others} == {"10.77.1.2", "10.77.1.3", "10.77.1.6"}

    async def reserve_one_more() -> object:
        return lab.networking.reserve(container_named(4), WEB, [Attachment(DEFAULT)])

    await refusal(reserve_one_more)
    (mine,) = lab.networking.reserve(container_named(9), WEB, [Attachment(DEFAULT, ipv4_address="10.77.1.4")])
    assert mine.addresses[0].ip == "10.77.1.4"
    lab.networking.reserve_written({DEFAULT: ["10.77.1.4"]})
    (freed,) = lab.networking.reserve(container_named(4), WEB, [Attachment(DEFAULT)])
    assert freed.addresses[0].ip == "10.77.1.5"
    await clear(lab.networking, *(container_named(n) for n in (1, 2, 3, 4, 9)))


async def the_name_server_has_an_address_of_its_own_that_nobody_is_given(lab: NetworkLab) -> None:
    await ensure(lab.networking, network=Network(DEFAULT, "shop_default", subnets=(Subnet("10.77.1.0/28"),)))
    one = await start_container(lab, 1)
    server = one.endpoints[0].resolver
    assert server not in ("", one.ip, one.endpoints[0].addresses[0].gateway)
    assert await lab.resolve(lab.networking, one, WEB) == (one.ip,)

    async def reserve() -> object:
        return lab.networking.reserve(container_named(2), WEB, [Attachment(DEFAULT, ipv4_address=server)])

    assert server in (await refusal(reserve)).message
    await clear(lab.networking, one.name)


async def attaching_again_changes_nothing(lab: NetworkLab) -> None:
    await ensure(lab.networking)
    ports = [port_of(PORTS[0]), port_of(protocol="udp")]
    one = await start_container(lab, 1, ports)
    assert one.published[0] == Published(ANY, PORTS[0], 80)
    assert one.published[1].protocol == "udp"
    assert await lab.networking.attach(one.name, one.netns_fd, one.endpoints, ports) == one.published
    await lab.networking.ensure([NETWORK])
    assert await lab.resolve(lab.networking, one, "web") == (one.ip,)
    await clear(lab.networking, one.name)


async def a_port_that_somebody_has_is_refused_at_its_place(lab: NetworkLab) -> None:
    await ensure(lab.networking)
    with lab.occupied(PORTS[0]):
        error = await refusal(lambda: start_container(lab, 1, [port_of(PORTS[1], target=81), port_of(PORTS[0])]))
    assert error.place == PLACE
    assert str(PORTS[0]) in error.message
    one = await start_container(lab, 1, [port_of(PORTS[0]), port_of(PORTS[1], target=81)])
    error = await refusal(lambda: start_container(lab, 2, [port_of(PORTS[0])]))
    assert one.name in error.message
    await clear(lab.networking, one.name, container_named(2))


async def a_port_is_published_on_one_address_of_either_family(lab: NetworkLab) -> None:
    def on(host_ip: str, protocol: str = "udp") -> PortMapping:
        return PortMapping(80, (PORTS[0], PORTS[0]), host_ip, protocol, PLACE)

    await ensure(lab.networking)
    one = await start_container(lab, 1, [on("127.0.0.1")])
    two = await start_container(lab, 2, [on("::1"), on("::1", "tcp")])
    assert one.published == (Published("127.0.0.1", PORTS[0], 80, "udp"),)
    assert two.published == (Published("::1", PORTS[0], 80, "udp"), Published("::1", PORTS[0], 80))
    for host_ip, holder in (("::", two), ("127.0.0.1", one), ("0.0.0.0", one)):
        error = await refusal(partial(start_container, lab, 3, [on(host_ip)]))
        assert (error.place, holder.name in error.message) == (PLACE, True)
    await clear(lab.networking, one.name, two.name, container_named(3))


async def a_range_gives_each_container_the_next_free_port(lab: NetworkLab) -> None:
    await ensure(lab.networking, lab.neighbour)
    with lab.occupied(PORTS[0]):
        one = await start_container(lab, 1, [port_of(*PORTS)])
        other = await start_container(lab, 1, [port_of(*PORTS)], networking=lab.neighbour)
        assert [one.published[0].host_port, other.published[0].host_port] == [PORTS[0] + 1, PORTS[0] + 2]
        error = await refusal(lambda: start_container(lab, 2, [port_of(*PORTS)]))
    assert error.place == PLACE
    for part in (f"{PORTS[0]}-{PORTS[1]}", one.name):
        assert part in error.message
    two = await start_container(lab, 2, [port_of(*PORTS)])
    assert two.published[0].host_port == PORTS[0]
    await clear(lab.neighbour, other.name)
    await clear(lab.networking, one.name, two.name)


async def many_at_once_get_different_ports_of_a_range(lab: NetworkLab) -> None:
    await ensure(lab.networking)
    found: list[Attached] = []

    async def one(number: int) -> None:
        found.append(await start_container(lab, number, [port_of(*PORTS)]))

    async with trio.open_nursery() as nursery:
        for number in (1, 2, 3):
            nursery.start_soon(one, number)
    assert sorted(item.published[0].host_port for item in found) == list(range(PORTS[0], PORTS[1] + 1))
    await clear(lab.networking, *(item.name for item in found))


async def a_container_keeps_its_port_of_a_range_while_it_exists(lab: NetworkLab) -> None:
    await ensure(lab.networking)
    ports = [port_of(*PORTS)]
    one, two = await start_container(lab, 1, ports), await start_container(lab, 2, ports)
    await lab.networking.detach(one.name)
    three = await start_container(lab, 3, ports)
    assert three.published[0].host_port == PORTS[1]
    assert await lab.networking.attach(one.name, one.netns_fd, one.endpoints, ports) == one.published
    # Rather another's port than none.
    await lab.networking.detach(two.name)
    four = await start_container(lab, 4, ports)
    assert four.published == two.published
    await clear(lab.networking, *(item.name for item in (one, two, three, four)))


async def a_port_that_is_to_be_kept_is_preferred(lab: NetworkLab) -> None:
    await ensure(lab.networking)
    one = await start_container(lab, 1, [port_of(*PORTS)], keep=[Published(ANY, PORTS[1], 80)])
    assert one.published[0].host_port == PORTS[1]
    two = await start_container(lab, 2, [port_of(*PORTS)], keep=[Published(ANY, PORTS[1], 80), Published(ANY, 9, 80)])
    assert two.published[0].host_port == PORTS[0]
    await clear(lab.networking, one.name, two.name)


async def all_ready_containers_answer_to_the_service_in_turn(lab: NetworkLab) -> None:
    await ensure(lab.networking)
    alias = Attachment(DEFAULT, ("www",))
    boxes = [await start_container(lab, number, attachment=alias) for number in (1, 2, 3)]
    one, two, three = boxes
    for name in ("web", "www", "WEB"):
        answers = [await lab.resolve(lab.networking, one, name) for _ in range(3)]
        assert all(set(answer) == {box.ip for box in boxes} for answer in answers)
        assert {answer[0] for answer in answers} == {box.ip for box in boxes}
    lab.networking.set_ready(two.name, False)
    assert set(await lab.resolve(lab.networking, one, "web")) == {one.ip, three.ip}
    assert await lab.resolve(lab.networking, one, two.name) == (two.ip,)
    for box in boxes:
        lab.networking.set_ready(box.name, False)
    assert set(await lab.resolve(lab.networking, one, "www")) == {box.ip for box in boxes}
    lab.networking.set_ready(three.name, True)
    assert await lab.resolve(lab.networking, one, "web") == (three.ip,)
    await clear(lab.networking, *(box.name for box in boxes))


async def readiness_lasts_until_detach(lab: NetworkLab) -> None:
    await ensure(lab.networking)
    one, two = await start_container(lab, 1), await start_container(lab, 2)
    lab.networking.set_ready(one.name, False)
    await lab.networking.attach(one.name, one.netns_fd, one.endpoints, [])
    assert await lab.resolve(lab.networking, one, "web") == (two.ip,)
    await lab.networking.detach(one.name)
    lab.networking.set_ready(one.name, False)
    await lab.networking.attach(one.name, one.netns_fd, one.endpoints, [])
    assert set(await lab.resolve(lab.networking, two, "web")) == {one.ip, two.ip}
    await clear(lab.networking, one.name, two.name)


async def a_one_off_answers_to_its_own_name_only(lab: NetworkLab) -> None:
    await ensure(lab.networking)
    one = await start_container(lab, 1)
    alias = Attachment(DEFAULT, ("www",))
    run = await start_container(lab, 9, attachment=alias, one_off=True)
    assert run.endpoints[0].names == (run.name,)
    assert await lab.resolve(lab.networking, run, "web") == (one.ip,)
    assert await lab.resolve(lab.networking, one, "www") == ()
    assert await lab.resolve(lab.networking, one, run.name) == (run.ip,)
    await clear(lab.networking, one.name, run.name)


async def a_link_is_a_name_for_who_has_it_alone(lab: NetworkLab) -> None:
    await ensure(lab.networking)
    database = await start_container(lab, 1, service="db")
    web = await start_container(lab, 1, attachment=Attachment(DEFAULT, links=(("Store", "db"), ("lost", "nobody"))))
    assert await lab.resolve(lab.networking, web, "store") == (database.ip,)
    assert await lab.resolve(lab.networking, web, "db") == (database.ip,)
    assert await lab.resolve(lab.networking, database, "store") == ()
    await clear(lab.networking, web.name, database.name)


async def detach_takes_names_and_ports_away_and_may_come_twice(lab: NetworkLab) -> None:
    await ensure(lab.networking)
    one, two = await start_container(lab, 1, [port_of(PORTS[0])]), await start_container(lab, 2)
    await lab.networking.detach(one.name)
    await lab.networking.detach(one.name)
    await lab.networking.detach(container_named(77))
    assert await lab.resolve(lab.networking, two, one.name) == ()
    assert await lab.resolve(lab.networking, two, "web") == (two.ip,)
    with lab.occupied(PORTS[0]):
        pass
    await clear(lab.networking, one.name, two.name)


async def a_network_with_containers_is_not_removed(lab: NetworkLab) -> None:
    await ensure(lab.networking)
    one = await start_container(lab, 1)
    error = await refusal(lambda: lab.networking.remove([DEFAULT]))
    assert one.name in error.message
    assert await lab.resolve(lab.networking, one, "web") == (one.ip,)
    await clear(lab.networking, one.name)
    await lab.networking.remove([DEFAULT, NetworkName("never-made")])


async def two_projects_with_the_same_ids_do_not_meet(lab: NetworkLab) -> None:
    await ensure(lab.networking, lab.neighbour)
    ports = [port_of()]
    mine = await start_container(lab, 1, ports)
    theirs = await start_container(lab, 1, ports, networking=lab.neighbour)
    assert mine.ip != theirs.ip
    assert mine.published[0].host_port != theirs.published[0].host_port
    lab.neighbour.set_ready(theirs.name, False)
    assert await lab.resolve(lab.networking, mine, "web") == (mine.ip,)
    assert await lab.resolve(lab.neighbour, theirs, theirs.name) == (theirs.ip,)
    await clear(lab.neighbour, theirs.name)
    assert await lab.resolve(lab.networking, mine, "web") == (mine.ip,)
    assert await lab.networking.attach(mine.name, mine.netns_fd, mine.endpoints, ports) == mine.published
    await clear(lab.networking, mine.name)


async def a_successor_takes_over_what_it_is_told_of(lab: NetworkLab) -> None:
    await ensure(lab.networking)
    ports = [port_of(*PORTS), port_of(target=81)]
    one, two = await start_container(lab, 1, ports), await start_container(lab, 2, ports)
    stopped = await start_container(lab, 3, [port_of(*PORTS)])
    await lab.networking.detach(stopped.name)
    await lab.restart()
    for box in (one, two, stopped):
        lab.networking.restore(box.name, box.endpoints, box.published)
    await ensure(lab.networking)
    assert lab.networking.reserve(two.name, WEB, [Attachment(DEFAULT)]) == two.endpoints
    fresh = await start_container(lab, 4)
    assert fresh.ip not in (one.ip, two.ip, stopped.ip)
    for box in (two, one):
        assert await lab.networking.attach(box.name, box.netns_fd, box.endpoints, ports, box.published) == box.published
    assert set(await lab.resolve(lab.networking, one, "web")) == {one.ip, two.ip, fresh.ip}
    again = await lab.networking.attach(stopped.name, stopped.netns_fd, stopped.endpoints, [port_of(*PORTS)])
    assert again == stopped.published
    await clear(lab.networking, *(box.name for box in (one, two, stopped, fresh)))


async def a_successor_takes_away_what_nobody_told_it_of(lab: NetworkLab) -> None:
    await ensure(lab.networking)
    one = await start_container(lab, 1, [port_of(PORTS[0])])
    await lab.restart()
    await ensure(lab.networking)
    await lab.networking.detach(one.name)
    lab.networking.release(one.name)
    with lab.occupied(PORTS[0]):
        pass
    await lab.networking.remove([DEFAULT])


NETWORK_CHECKS: tuple[Check, ...] = (
    addresses_are_kept_until_they_are_released,
    an_address_that_is_taken_or_outside_is_refused_and_nothing_is_held,
    an_address_that_the_stack_writes_down_is_given_to_nobody_else,
    the_name_server_has_an_address_of_its_own_that_nobody_is_given,
    attaching_again_changes_nothing,
    a_port_that_somebody_has_is_refused_at_its_place,
    a_port_is_published_on_one_address_of_either_family,
    a_range_gives_each_container_the_next_free_port,
    many_at_once_get_different_ports_of_a_range,
    a_container_keeps_its_port_of_a_range_while_it_exists,
    a_port_that_is_to_be_kept_is_preferred,
    all_ready_containers_answer_to_the_service_in_turn,
    readiness_lasts_until_detach,
    a_one_off_answers_to_its_own_name_only,
    a_link_is_a_name_for_who_has_it_alone,
    detach_takes_names_and_ports_away_and_may_come_twice,
    a_network_with_containers_is_not_removed,
    two_projects_with_the_same_ids_do_not_meet,
    a_successor_takes_over_what_it_is_told_of,
    a_successor_takes_away_what_nobody_told_it_of,
)


async def run_network_check(check: Check, opened: AbstractAsyncContextManager[NetworkLab]) -> None:
    """Run one check, with a deadline: what hangs has failed. The lab is opened within the deadline's scope, because
    `NetworkLab.restart` closes scopes that it opened, and scopes must be closed in order."""
    with trio.fail_after(DEADLINE_S):
        async with opened as lab:
            await check(lab)
