"""A hundred services."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.machine import Pystack

pytestmark = pytest.mark.kernel

MANY = 100


def check_many(pystack: Pystack, rootfs: Path, count: int, deadline_s: float = 120.0) -> None:
    """So many services come up healthy, each with an address of its own, and go down."""
    services = "".join(f"  s{number:04}: *service\n" for number in range(count))
    stack = pystack.stack(
        f"""
x-service: &service
  image: rootfs:{rootfs}
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
    up = stack.must("up", "-d", "--wait", timeout_s=deadline_s)
    rows = stack.ps()
    assert len(rows) == count
    assert {(row["State"], row["Health"]) for row in rows.values()} == {("running", "healthy")}
    assert len({address for row in rows.values() for address in row["Addresses"].values()}) == count
    down = stack.must("down", timeout_s=deadline_s)
    print(f"{count} services: up and healthy {up.seconds:.2f} s, down {down.seconds:.2f} s")


def test_a_hundred_services_come_up_healthy_and_go_down(pystack: Pystack, busybox_rootfs: Path) -> None:
    check_many(pystack, busybox_rootfs, MANY)
