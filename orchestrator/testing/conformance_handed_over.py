"""What `Networking.hand_over` must do in every implementation, as `conformance_network` has it."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.contracts.network import Endpoint, Published
from orchestrator.model.names import ContainerId
from orchestrator.model.network import Attachment, PortMapping
from orchestrator.testing.conformance_network import (
    ANY,
    DEFAULT,
    ON_DEFAULT,
    PLACE,
    PORTS,
    WEB,
    Attached,
    Check,
    NetworkLab,
    clear,
    container_named,
    ensure,
    port_of,
    refusal,
    start_container,
)
from orchestrator.values import replace

FIRST, NEXT, LAST = range(PORTS[0], PORTS[1] + 1)
NEW = ContainerId("shop-web-1-b")


async def _beside(lab: NetworkLab, name: ContainerId = NEW) -> Attached:
    """A container that is attached without names and ports, as the scheduler does it."""
    endpoints = _nameless(lab.networking.reserve(name, WEB, [ON_DEFAULT]))
    lab.networking.restore(name, endpoints)
    fd = lab.namespace()
    return Attached(name, fd, endpoints, await lab.networking.attach(name, fd, endpoints, ()))


def _nameless(endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    return tuple(replace(endpoint, names=()) for endpoint in endpoints)


async def _hand_over(
    lab: NetworkLab, old: Attached, new: Attached, ports: Sequence[PortMapping] = (), aliases: tuple[str, ...] = ()
) -> Attached:
    endpoints = lab.networking.reserve(new.name, WEB, [Attachment(DEFAULT, aliases)])
    published = await lab.networking.hand_over(old.name, new.name, endpoints, ports)
    return Attached(new.name, new.netns_fd, endpoints, published)


async def names_move_from_the_one_to_the_other(lab: NetworkLab) -> None:
    await ensure(lab.networking)
    old, peer = await start_container(lab, 1), await start_container(lab, 2, service="peer")
    new = await _beside(lab)
    for name in ("web", old.name):
        assert await lab.resolve(lab.networking, peer, name) == (old.ip,)
    assert await lab.resolve(lab.networking, peer, NEW) == ()
    # It is on its networks all the same, and asks who is there.
    assert await lab.resolve(lab.networking, new, "peer") == (peer.ip,)
    assert await lab.reaches(new, peer)
    announced = await _hand_over(lab, old, new, aliases=(old.name,))
    assert [end.addresses for end in announced.endpoints] == [end.addresses for end in new.endpoints]
    for name in ("web", old.name, NEW):
        assert await lab.resolve(lab.networking, peer, name) == (new.ip,)
    assert await lab.resolve(lab.networking, old, "web") == (new.ip,)
    assert await lab.reaches(old, peer)
    await clear_all(lab, old, new, peer)


async def a_host_port_is_never_anybody_elses_in_between(lab: NetworkLab) -> None:
    await ensure(lab.networking)
    ports = [port_of(FIRST, LAST), port_of(FIRST, protocol="udp"), port_of(target=81)]
    old = await start_container(lab, 1, ports)
    new = await _beside(lab)
    assert new.published == ()
    wanted = [port_of(FIRST, LAST, target=8080), *ports[1:], port_of(NEXT, LAST, target=82)]
    announced = await _hand_over(lab, old, new, wanted)
    assert announced.published == (
        replace(old.published[0], target=8080),
        *old.published[1:],
        Published(ANY, NEXT, 82),
    )
    assert (await refusal(lambda: start_container(lab, 3, [port_of(FIRST)]))).place == PLACE
    await lab.networking.detach(old.name)
    lab.networking.release(old.name)
    for port in (FIRST, NEXT):
        error = await refusal(lambda port=port: start_container(lab, 3, [port_of(port)]))  # type: ignore[misc]
        assert NEW in error.message
    await clear(lab.networking, new.name, container_named(3))
    with lab.occupied(FIRST):
        pass


async def what_cannot_be_handed_over_stays_where_it_is(lab: NetworkLab) -> None:
    await ensure(lab.networking)
    old, new = await start_container(lab, 1, [port_of(FIRST)]), await _beside(lab)
    peer = await start_container(lab, 2, service="peer")
    with lab.occupied(NEXT):
        error = await refusal(lambda: _hand_over(lab, old, new, [port_of(FIRST), port_of(NEXT)]))
    assert (error.place, str(NEXT) in error.message) == (PLACE, True)
    lab.networking.restore(new.name, new.endpoints)
    assert await lab.resolve(lab.networking, peer, "web") == (old.ip,)
    assert (await refusal(lambda: start_container(lab, 3, [port_of(FIRST)]))).place == PLACE
    assert await lab.networking.attach(old.name, old.netns_fd, old.endpoints, [port_of(FIRST)]) == old.published
    await lab.networking.detach(new.name)
    lab.networking.release(new.name)
    await clear_all(lab, old, peer, Attached(container_named(3), 0, (), ()))


async def who_is_gone_already_can_be_succeeded(lab: NetworkLab) -> None:
    await ensure(lab.networking)
    old = await start_container(lab, 1, [port_of(FIRST)])
    new = await _beside(lab)
    await lab.networking.detach(old.name)
    assert (await _hand_over(lab, old, new, [port_of(FIRST)])).published == old.published
    await clear_all(lab, old, new)


async def a_supervisor_that_is_killed_leaves_either(lab: NetworkLab) -> None:
    """What was handed over and not recorded is given back; what was recorded stays."""
    ports = [port_of(FIRST, LAST)]
    for recorded in (False, True):
        await ensure(lab.networking)
        old, new = await start_container(lab, 1, ports), await _beside(lab)
        peer = await start_container(lab, 2, service="peer")
        new = await _hand_over(lab, old, new, ports)
        await lab.restart()
        goes, stays = (old, new) if recorded else (new, old)
        await ensure(lab.networking)
        for box in (old, new, peer):
            lab.networking.restore(box.name, box.endpoints, box.published)
        await lab.networking.detach(goes.name)
        lab.networking.release(goes.name)
        for box in (stays, peer):
            taken = await lab.networking.attach(
                box.name, box.netns_fd, box.endpoints, ports if box is stays else (), box.published
            )
            assert taken == box.published
        assert await lab.resolve(lab.networking, peer, "web") == (stays.ip,)
        await clear_all(lab, stays, peer)
        with lab.occupied(FIRST):
            pass


async def clear_all(lab: NetworkLab, *boxes: Attached) -> None:
    await clear(lab.networking, *(box.name for box in boxes))


HANDED_OVER_CHECKS: tuple[Check, ...] = (
    names_move_from_the_one_to_the_other,
    a_host_port_is_never_anybody_elses_in_between,
    what_cannot_be_handed_over_stays_where_it_is,
    who_is_gone_already_can_be_succeeded,
    a_supervisor_that_is_killed_leaves_either,
)
