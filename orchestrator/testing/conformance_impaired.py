"""What every implementation of `Networking.impair` must do, for `conformance_network`."""

from __future__ import annotations

from orchestrator.contracts.network import Impairment, Loss, NoNames
from orchestrator.model.names import NetworkName, ServiceName
from orchestrator.model.network import Attachment, Network
from orchestrator.testing.conformance_network import (
    DEFAULT,
    Attached,
    Check,
    NetworkLab,
    clear,
    container_named,
    ensure,
    start_container,
)

BACK = Network(NetworkName("back"), "shop_back")


async def _both(lab: NetworkLab, one: Attached, other: Attached) -> tuple[bool, bool]:
    return await lab.reaches(one, other), await lab.reaches(other, one)


def _cut(one: Attached, other: Attached, *, one_way: bool = False) -> Impairment:
    return Impairment("cut-1", Loss(), (one.name,), (other.name,), one_way=one_way)


async def what_is_stated_is_in_force_and_nothing_else(lab: NetworkLab) -> None:
    await ensure(lab.networking)
    one, two, three = [await start_container(lab, number) for number in (1, 2, 3)]
    assert await _both(lab, one, two) == (True, True)
    for _ in range(2):
        await lab.networking.impair([_cut(one, two)])
        assert await _both(lab, one, two) == (False, False)
        assert await _both(lab, one, three) == (True, True)
    await lab.networking.impair([_cut(two, three, one_way=True)])
    assert await _both(lab, one, two) == (True, True)
    assert await _both(lab, two, three) == (False, True)
    await lab.networking.impair([])
    assert await _both(lab, two, three) == (True, True)
    await clear(lab.networking, one.name, two.name, three.name)


async def names_fail_for_who_is_meant(lab: NetworkLab) -> None:
    await ensure(lab.networking)
    one, two = [await start_container(lab, number) for number in (1, 2)]
    await lab.networking.impair([Impairment("dns-fail-1", NoNames(two.name), (one.name,))])
    assert await lab.resolve(lab.networking, one, two.name) == ()
    assert await lab.resolve(lab.networking, one, one.name) == (one.ip,)
    assert await lab.resolve(lab.networking, two, two.name) == (two.ip,)
    await lab.networking.impair([Impairment("dns-fail-1", NoNames(), (one.name,))])
    assert await lab.resolve(lab.networking, one, one.name) == ()
    await lab.networking.impair([])
    assert await lab.resolve(lab.networking, one, two.name) == (two.ip,)
    await clear(lab.networking, one.name, two.name)


async def who_is_reserved_has_it_from_its_first_packet(lab: NetworkLab) -> None:
    await ensure(lab.networking)
    one, late = await start_container(lab, 1), container_named(2)
    ends = lab.networking.reserve(late, ServiceName("web"), [Attachment(DEFAULT)])
    await lab.networking.impair([Impairment("cut-1", Loss(), (one.name,), (late,))])
    fd = lab.namespace()
    two = Attached(late, fd, ends, await lab.networking.attach(late, fd, ends, []))
    assert await _both(lab, one, two) == (False, False)
    await lab.networking.impair([])
    await clear(lab.networking, one.name, two.name)


async def who_is_rewired_keeps_it_at_its_new_address(lab: NetworkLab) -> None:
    await ensure(lab.networking)
    one, two = [await start_container(lab, number) for number in (1, 2)]
    cut = [_cut(one, two)]
    await lab.networking.impair(cut)
    await lab.networking.ensure([BACK])
    peer = await start_container(lab, 3, service="peer", attachment=Attachment(BACK.key))
    moved: list[Attached] = []
    for box in (one, two):
        endpoints = lab.networking.reserve(box.name, ServiceName("web"), [Attachment(BACK.key)])
        await lab.networking.impair(cut)
        await lab.networking.rewire(box.name, box.netns_fd, endpoints, [])
        moved.append(Attached(box.name, box.netns_fd, endpoints, ()))
        assert await _both(lab, moved[-1], peer) == (True, True)
    assert await _both(lab, *moved) == (False, False)
    await lab.networking.impair([])
    assert await _both(lab, *moved) == (True, True)
    await clear(lab.networking, one.name, two.name, peer.name)
    await lab.networking.remove([BACK.key])


async def a_successor_is_asked_for_none_and_nothing_is_left_of_those_before(lab: NetworkLab) -> None:
    await ensure(lab.networking)
    one, two = [await start_container(lab, number) for number in (1, 2)]
    await lab.networking.impair([_cut(one, two), Impairment("dns-fail-2", NoNames(), (one.name,))])
    await lab.restart()
    for box in (one, two):
        lab.networking.restore(box.name, box.endpoints)
    await ensure(lab.networking)
    for box in (one, two):
        await lab.networking.attach(box.name, box.netns_fd, box.endpoints, [])
    await lab.networking.impair([])
    assert await _both(lab, one, two) == (True, True)
    assert await lab.resolve(lab.networking, one, two.name) == (two.ip,)
    await clear(lab.networking, one.name, two.name)


async def impairments_end_with_the_networks(lab: NetworkLab) -> None:
    await ensure(lab.networking)
    one, two = [await start_container(lab, number) for number in (1, 2)]
    await lab.networking.impair([_cut(one, two)])
    await clear(lab.networking, one.name, two.name)


IMPAIRED_CHECKS: tuple[Check, ...] = (
    what_is_stated_is_in_force_and_nothing_else,
    names_fail_for_who_is_meant,
    who_is_reserved_has_it_from_its_first_packet,
    who_is_rewired_keeps_it_at_its_new_address,
    a_successor_is_asked_for_none_and_nothing_is_left_of_those_before,
    impairments_end_with_the_networks,
)
