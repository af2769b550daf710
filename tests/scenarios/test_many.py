"""A hundred services, and a hundred replicas."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.machine import Pystack

pytestmark = pytest.mark.kernel

MANY = 100


def check_many(pystack: Pystack, rootfs: Path, count: int, replicas: int = 1, deadline_s: float = 120.0) -> None:
    """So many services come up healthy, each container with an address of its own, and go down."""
    services = "".join(f"  s{number:04}: *service\n" for number in range(count))
    stack = pystack.stack(
        f"""
x-service: &service
  image: rootfs:{rootfs}
  command: [sleep, "3600"]
  stop_grace_period: 1s
  scale: {replicas}
  healthcheck:
    test: ["CMD", "true"]
    interval: 1m
    start_period: 1m
    start_interval: 200ms
services:
{services}"""
    )
    up = stack.must("up", "-d", "--wait", timeout_s=deadline_s)
    rows = stack.rows()
    assert len({row["Name"] for row in rows}) == len(rows) == count * replicas
    assert {(row["State"], row["Health"]) for row in rows} == {("running", "healthy")}
    assert len({address for row in rows for address in row["Addresses"].values()}) == len(rows)
    down = stack.must("down", timeout_s=deadline_s)
    print(f"{count} services x {replicas}: up and healthy {up.seconds:.2f} s, down {down.seconds:.2f} s")


def test_a_hundred_services_come_up_healthy_and_go_down(pystack: Pystack, busybox_rootfs: Path) -> None:
    check_many(pystack, busybox_rootfs, MANY)


def test_ten_services_of_ten_replicas_come_up_healthy_and_go_down(pystack: Pystack, busybox_rootfs: Path) -> None:
    check_many(pystack, busybox_rootfs, 10, 10)
