"""What every implementation of `contracts.network.Networking` must do with a network that two projects share.

A project learns of the other's names in a moment, and not at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from orchestrator.contracts.network import Networking
from orchestrator.model.names import ContainerId, NetworkName, ServiceName
from orchestrator.model.network import Attachment, Network
from orchestrator.testing.conformance_network import Attached, Check, NetworkLab, refusal

MEETING = NetworkName("meet")
NETWORK = Network(MEETING, "meeting", external=True)
_POLL_S = 0.01


async def _start(
    lab: NetworkLab, networking: Networking, service: str, *, name: str = "", address: str | None = None
) -> Attached:
    container = ContainerId(name or f"shop-{service}-1")
    attachment = Attachment(MEETING, ipv4_address=address)
    endpoints = networking.reserve(container, ServiceName(service), [attachment])
    fd = lab.namespace()
    return Attached(container, fd, endpoints, await networking.attach(container, fd, endpoints, ()))


async def _clear(networking: Networking, *containers: Attached) -> None:
    for container in containers:
        await networking.detach(container.name)
        networking.release(container.name)
    await networking.remove([MEETING])


async def _learns(lab: NetworkLab, networking: Networking, asking: Attached, name: str, wanted: Sequence[str]) -> None:
    """Until it is told `wanted`; the check's deadline ends it."""
    while sorted(await lab.resolve(networking, asking, name)) != sorted(wanted):  # noqa: ASYNC110
        await trio.sleep(_POLL_S)


async def one_that_nobody_made_is_an_error_with_its_place(lab: NetworkLab) -> None:
    error = await refusal(lambda: lab.networking.ensure([NETWORK]))
    assert error.place == "networks.meet"
    assert "pystack network create meeting" in (error.hint or "")
    await lab.networking.remove([MEETING])


async def projects_have_different_addresses_and_know_each_others_names(lab: NetworkLab) -> None:
    with lab.shared("meeting"):
        for networking in (lab.networking, lab.neighbour):
            await networking.ensure([NETWORK])
        mine = [await _start(lab, lab.networking, service) for service in ("web", "db")]
        theirs = [await _start(lab, lab.neighbour, service) for service in ("web", "api")]
        ends = [each.endpoints[0] for each in (*mine, *theirs)]
        assert len({each.ip for each in (*mine, *theirs)} | {end.name_server for end in ends}) == 6
        assert mine[0].endpoints[0].addresses[0].gateway == theirs[0].endpoints[0].addresses[0].gateway
        await _learns(lab, lab.networking, mine[0], "api", [theirs[1].ip])
        await _learns(lab, lab.neighbour, theirs[0], "db", [mine[1].ip])
        # What is a project's own comes first.
        assert await lab.resolve(lab.networking, mine[1], "web") == (mine[0].ip,)
        assert await lab.resolve(lab.neighbour, theirs[1], "web") == (theirs[0].ip,)
        await _clear(lab.networking, *mine)
        await _learns(lab, lab.neighbour, theirs[0], "db", [])
        assert await lab.resolve(lab.neighbour, theirs[0], "api") == (theirs[1].ip,)
        await _clear(lab.neighbour, *theirs)


async def names_of_others_are_told_by_readiness(lab: NetworkLab) -> None:
    with lab.shared("meeting"):
        for networking in (lab.networking, lab.neighbour):
            await networking.ensure([NETWORK])
        asking = await _start(lab, lab.networking, "asks")
        one, two = [await _start(lab, lab.neighbour, "web", name=f"shop-web-{number}") for number in (1, 2)]
        await _learns(lab, lab.networking, asking, "web", [one.ip, two.ip])
        lab.neighbour.set_ready(one.name, False)
        await _learns(lab, lab.networking, asking, "web", [two.ip])
        lab.neighbour.set_ready(one.name, True)
        await _learns(lab, lab.networking, asking, "web", [one.ip, two.ip])
        await _clear(lab.networking, asking)
        await _clear(lab.neighbour, one, two)


async def an_address_that_one_has_is_refused_to_the_other(lab: NetworkLab) -> None:
    with lab.shared("meeting"):
        for networking in (lab.networking, lab.neighbour):
            await networking.ensure([NETWORK])
        mine = await _start(lab, lab.networking, "web")
        error = await refusal(lambda: _start(lab, lab.neighbour, "web", address=mine.ip))
        assert mine.ip in error.message
        await _clear(lab.networking, mine)
        theirs = await _start(lab, lab.neighbour, "web", address=mine.ip)
        assert theirs.ip == mine.ip
        await _clear(lab.neighbour, theirs)


async def a_successor_keeps_the_addresses_and_is_known_meanwhile(lab: NetworkLab) -> None:
    with lab.shared("meeting"):
        for networking in (lab.networking, lab.neighbour):
            await networking.ensure([NETWORK])
        mine, theirs = await _start(lab, lab.networking, "db"), await _start(lab, lab.neighbour, "asks")
        other = await _start(lab, lab.networking, "web")
        await _learns(lab, lab.neighbour, theirs, "web", [other.ip])
        await lab.restart()
        assert await lab.resolve(lab.neighbour, theirs, "db") == (mine.ip,)
        await lab.networking.ensure([NETWORK])
        for each in (mine, other):
            lab.networking.restore(each.name, each.endpoints)
        assert await lab.networking.attach(mine.name, mine.netns_fd, mine.endpoints, ()) == ()
        assert await lab.resolve(lab.neighbour, theirs, "web") == (other.ip,)
        assert await lab.networking.attach(other.name, other.netns_fd, other.endpoints, ()) == ()
        more = await _start(lab, lab.networking, "more")
        assert more.ip not in (mine.ip, other.ip, theirs.ip)
        await _clear(lab.networking, mine, other, more)
        await _clear(lab.neighbour, theirs)


SHARED_NETWORK_CHECKS: tuple[Check, ...] = (
    one_that_nobody_made_is_an_error_with_its_place,
    projects_have_different_addresses_and_know_each_others_names,
    names_of_others_are_told_by_readiness,
    an_address_that_one_has_is_refused_to_the_other,
    a_successor_keeps_the_addresses_and_is_known_meanwhile,
)
