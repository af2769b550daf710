"""A hundred services."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.machine import Pystack

pytestmark = pytest.mark.kernel

MANY = 100


def test_a_hundred_services_come_up_healthy_and_go_down(pystack: Pystack, busybox_rootfs: Path) -> None:
    services = "".join(f"  s{number:03}: *service\n" for number in range(MANY))
    stack = pystack.stack(
        f"""
x-service: &service
  image: rootfs:{busybox_rootfs}
  command: [sleep, "3600"]
  stop_grace_period: 1s
  healthcheck:
    test: ["CMD", "true"]
    interval: 1m
    start_period: 1m
    start_interval: 200ms
services:
{services}"""
    )
    up = stack.must("up", "-d", "--wait")
    rows = stack.ps()
    assert len(rows) == MANY
    assert {(row["State"], row["Health"]) for row in rows.values()} == {("running", "healthy")}
    assert len({address for row in rows.values() for address in row["Addresses"].values()}) == MANY
    down = stack.must("down")
    print(f"{MANY} services: up and healthy {up.seconds:.2f} s, down {down.seconds:.2f} s")
