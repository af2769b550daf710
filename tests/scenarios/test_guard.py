"""Containers that give themselves addresses: heard if the stack lets them administer their network, and not else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.machine import Pystack

pytestmark = pytest.mark.kernel

STACK = """
services:
  plain: &plain
    image: rootfs:{rootfs}
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    cap_add: [NET_RAW]
  router:
    <<: *plain
    cap_add: [NET_ADMIN]
  asking:
    <<: *plain
networks:
  default: {{ipam: {{config: [{{subnet: 10.77.9.0/24, ip_range: 10.77.9.128/25}}]}}}}
"""


def test_only_who_may_administer_its_network_is_heard_with_an_address_of_its_own_choice(
    pystack: Pystack, busybox_rootfs: Path
) -> None:
    stack = pystack.stack(STACK.format(rootfs=busybox_rootfs))
    stack.must("up", "-d")

    def reaches(address: str) -> bool:
        return stack.run("exec", "-T", "asking", "ping", "-c", "1", "-W", "1", address).code == 0

    # With a right that its processes do not have by themselves, so that the guard alone decides.
    stack.must("exec", "--privileged", "-T", "plain", "ip", "addr", "add", "10.77.9.8/24", "dev", "eth0")
    stack.must("exec", "-T", "router", "ip", "addr", "add", "10.77.9.9/24", "dev", "eth0")
    assert (reaches("10.77.9.8"), reaches("10.77.9.9")) == (False, True)
    assert reaches("plain")
    stack.must("restart", "plain", "router")
    assert reaches("plain")
    assert reaches("router")
