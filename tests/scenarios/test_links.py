"""`links` and `external_links` between real containers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.machine import Pystack

pytestmark = pytest.mark.kernel

STACK = """
services:
  db:
    image: rootfs:{rootfs}
    command: &idle [sleep, "1000"]
    stop_signal: SIGKILL
  web:
    image: rootfs:{rootfs}
    command: *idle
    stop_signal: SIGKILL
    links: ["db:store"]
    external_links: ["{name}-db-1:elsewhere"]
  lost:
    image: rootfs:{rootfs}
    command: *idle
    profiles: [lost]
    external_links: [stranger-db-1]
"""


def test_a_link_is_a_name_that_one_service_alone_has(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack("services: {}\n")
    (stack.directory / "compose.yaml").write_text(STACK.format(rootfs=busybox_rootfs, name=stack.name))
    stack.must("up", "-d")
    address = stack.must("exec", "-T", "db", "hostname", "-i").stdout.strip()
    for name in ("store", "elsewhere", "db"):
        assert f"PING {name} ({address})" in stack.run("exec", "-T", "web", "ping", "-c", "1", name).stdout
    assert "bad address 'store'" in stack.run("exec", "-T", "db", "ping", "-c", "1", "store").stderr
    lost = stack.run("up", "-d", "lost")
    assert lost.code == 1
    assert "compose.yaml:17:22: services.lost.external_links[0]: this project has no container" in lost.stderr
