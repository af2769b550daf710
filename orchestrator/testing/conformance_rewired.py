"""What `Networking.rewire` must do in every implementation, as `conformance_network` has it."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.contracts.network import Published
from orchestrator.errors import OperationError
from orchestrator.model.names import NetworkName
from orchestrator.model.network import Attachment, Network, PortMapping
from orchestrator.testing.conformance_network import (
    ANY,
    DEFAULT,
    NETWORK,
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

BACK = NetworkName("back")
NETWORKS = (NETWORK, Network(BACK, "shop_back"))
FIRST, NEXT, LAST = range(PORTS[0], PORTS[1] + 1)


async def _rewire(
    lab: NetworkLab, box: Attached, attachments: Sequence[Attachment], ports: Sequence[PortMapping] = ()
) -> Attached:
    """Reserve and rewire, as the scheduler does."""
    try:
        endpoints = lab.networking.reserve(box.name, WEB, attachments)
        published = await lab.networking.rewire(box.name, box.netns_fd, endpoints, ports, box.published)
    except OperationError:
        lab.networking.restore(box.name, box.endpoints, box.published)
        raise
    return Attached(box.name, box.netns_fd, endpoints, published)


async def a_container_joins_and_leaves_networks(lab: NetworkLab) -> None:
    await lab.networking.ensure(NETWORKS)
    one, peer = await start_container(lab, 1), await start_container(lab, 2, service="peer", attachment=Attachment(BACK))
    joined = await _rewire(lab, one, [Attachment(DEFAULT), Attachment(BACK, ("www",))])
    assert joined.endpoints[0] == one.endpoints[0]
    assert joined.endpoints[1].interface == "eth1"
    there = joined.endpoints[1].addresses[0].ip
    for name in ("web", "www", one.name):
        assert await lab.resolve(lab.networking, peer, name) == (there,)
    assert await lab.resolve(lab.networking, joined, "peer") == (peer.ip,)
    await lab.networking.rewire(one.name, one.netns_fd, joined.endpoints, ())
    moved = await _rewire(lab, joined, [Attachment(BACK)])
    assert moved.endpoints[0] == replace(joined.endpoints[1], names=("web", one.name))
    assert await lab.resolve(lab.networking, peer, "web") == (there,)
    assert await lab.resolve(lab.networking, peer, "www") == ()
    await lab.networking.remove([DEFAULT])
    await lab.networking.ensure([NETWORK])
    back = await _rewire(lab, moved, [Attachment(DEFAULT), Attachment(BACK)])
    assert [end.interface for end in back.endpoints] == ["eth0", "eth1"]
    for box in (one, peer):
        await lab.networking.detach(box.name)
        lab.networking.release(box.name)
    await lab.networking.remove([DEFAULT, BACK])


async def what_cannot_be_rewired_is_as_it_was(lab: NetworkLab) -> None:
    await lab.networking.ensure(NETWORKS)
    ports = [port_of(FIRST)]
    one, other = await start_container(lab, 1, ports), await start_container(lab, 2, service="other")
    with lab.occupied(NEXT):
        error = await refusal(lambda: _rewire(lab, one, [Attachment(BACK)], [port_of(NEXT)]))
    assert (error.place, str(NEXT) in error.message) == (PLACE, True)
    await refusal(lambda: _rewire(lab, one, [Attachment(BACK), Attachment(DEFAULT, ipv4_address="1.2.3.4")], ports))
    await refusal(lambda: _rewire(lab, one, [Attachment(DEFAULT, ipv4_address=other.ip)], ports))
    assert await lab.resolve(lab.networking, other, "web") == (one.ip,)
    assert (await refusal(lambda: start_container(lab, 3, ports))).place == PLACE
    assert await lab.networking.attach(one.name, one.netns_fd, one.endpoints, ports) == one.published
    await lab.networking.remove([BACK])
    await clear(lab.networking, one.name, other.name, container_named(3))


async def ports_are_exchanged(lab: NetworkLab) -> None:
    await ensure(lab.networking)
    one = await start_container(lab, 1, [port_of(FIRST), port_of(target=81), port_of(LAST, protocol="udp")])
    local = replace(port_of(LAST, protocol="udp"), host_ip="127.0.0.1")
    wanted = [port_of(target=81), port_of(NEXT), local]
    changed = await _rewire(lab, one, [ON_DEFAULT], wanted)
    assert changed.published == (
        one.published[1],
        Published(ANY, NEXT, 80),
        Published("127.0.0.1", LAST, 80, "udp"),
    )
    with lab.occupied(FIRST):
        pass
    assert (await refusal(lambda: start_container(lab, 2, [port_of(NEXT)]))).place == PLACE
    assert (await _rewire(lab, changed, [ON_DEFAULT])).published == ()
    with lab.occupied(NEXT):
        pass
    again = await _rewire(lab, changed, [ON_DEFAULT], wanted)
    assert again.published == changed.published
    await clear(lab.networking, one.name, container_named(2))


async def a_successor_completes_what_was_being_rewired(lab: NetworkLab) -> None:
    """Whether all of it was done when the supervisor was killed, or nothing."""
    await lab.networking.ensure(NETWORKS)
    before, after = [Attachment(DEFAULT, ("old",))], [Attachment(BACK, ("new",))]
    for done in (False, True):
        one = await start_container(lab, 1, [port_of(FIRST)], attachment=before[0])
        endpoints = lab.networking.reserve(one.name, WEB, after)
        if done:
            await lab.networking.rewire(one.name, one.netns_fd, endpoints, [port_of(NEXT)])
        await lab.restart()
        lab.networking.restore(one.name, endpoints, one.published)
        await lab.networking.ensure(NETWORKS)
        published = await lab.networking.rewire(one.name, one.netns_fd, endpoints, [port_of(NEXT)], one.published)
        assert published == (Published(ANY, NEXT, 80),)
        with lab.occupied(FIRST):
            pass
        peer = await start_container(lab, 2, service="peer", attachment=Attachment(BACK))
        assert await lab.resolve(lab.networking, peer, "new") == (endpoints[0].addresses[0].ip,)
        await lab.networking.remove([DEFAULT])
        await lab.networking.ensure(NETWORKS)
        for box in (one, peer):
            await lab.networking.detach(box.name)
            lab.networking.release(box.name)
    await lab.networking.remove([DEFAULT, BACK])


REWIRED_CHECKS: tuple[Check, ...] = (
    a_container_joins_and_leaves_networks,
    what_cannot_be_rewired_is_as_it_was,
    ports_are_exchanged,
    a_successor_completes_what_was_being_rewired,
)
