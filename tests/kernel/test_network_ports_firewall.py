"""What a host's own firewall does to published ports: what docs/networking.md says about it."""

from __future__ import annotations

import shutil
import subprocess

import pytest
import trio

from tests.kernel.network_lab import HOST, HOST6, Lab, ask, echo, start, stop, tcp
from tests.kernel.test_network_ports import project

pytestmark = [pytest.mark.kernel, pytest.mark.skipif(shutil.which("nft") is None, reason="no nft program")]

INPUT = "table inet own {{ chain in {{ type filter hook input priority 0; policy drop; {}\n}}\n}}"
FORWARD = "table inet own {{ chain through {{ type filter hook forward priority 0; policy drop; {}\n}}\n}}"
EARLY = "table inet own {{ chain pre {{ type filter hook prerouting priority raw; {}\n}}\n}}"
USUAL = "ct state established accept; icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept;"


def firewall(world: Lab, text: str) -> None:
    """The host's rules, in place of those before."""
    with world.inside(world.host):
        script = f"table inet own\ndelete table inet own\n{text}"
        subprocess.run(["nft", "-f", "-"], input=script, text=True, check=True)


async def reached(world: Lab, address: str) -> bool:
    with trio.move_on_after(0.4):
        return bool(await ask(world, world.outside, address, 8080))
    return False


async def test_rules_for_input_see_the_proxy_and_rules_for_forwarding_what_is_translated() -> None:
    async with project() as (world, networking):
        web = await start(world, networking, "web", ports=[tcp(80, 8080)])
        async with echo(await world.listen(web.fd, 80)):
            for rules, by_ipv4, by_ipv6 in [
                ("", True, True),
                (INPUT.format(USUAL), True, False),
                (INPUT.format(f"{USUAL} tcp dport 8080 accept;"), True, True),
                (FORWARD.format(""), False, True),
                (FORWARD.format("ct status dnat accept; ct state established accept;"), True, True),
                (FORWARD.format('iifname "psb*" accept; oifname "psb*" accept;'), True, True),
                (EARLY.format("tcp dport 8080 drop;"), False, False),
            ]:
                firewall(world, rules)
                assert (await reached(world, HOST), await reached(world, HOST6)) == (by_ipv4, by_ipv6), rules
                # The machine itself reaches it whatever is forwarded: by its own rules for output, and the way back.
                if "hook input" not in rules:
                    assert await ask(world, world.host, "127.0.0.1", 8080)
        await stop(world, networking, web)
