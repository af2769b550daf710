"""IPv6 between real containers, as a stack says it."""

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
    networks: {{back: {{ipv6_address: "fd00:77::9", interface_name: lan0}}}}
  web:
    image: rootfs:{rootfs}
    command: *idle
    stop_signal: SIGKILL
    environment: {{V: "1"}}
    networks: [back, six]
networks:
  back:
    enable_ipv6: true
    ipam: {{config: [{{subnet: "fd00:77::/64"}}, {{subnet: 10.77.7.0/24, ip_range: 10.77.7.128/25}}]}}
  six: {{enable_ipv4: false, enable_ipv6: true}}
"""


def test_a_stack_with_ipv6_is_as_it_says_and_stays_so(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack("services: {}\n")
    text = STACK.format(rootfs=busybox_rootfs)
    (stack.directory / "compose.yaml").write_text(text)
    stack.must("up", "-d")

    def said(service: str, *words: str) -> str:
        return stack.must("exec", "-T", service, *words).stdout

    assert "inet6 fd00:77::9/64" in said("db", "ip", "-6", "addr", "show", "dev", "lan0")
    assert f"fd00:77::9\t{stack.name}-db-1\n" in said("db", "cat", "/etc/hosts")
    # It is there, and nobody listens.
    assert "Connection refused" in stack.run("exec", "-T", "web", "nc", "-w", "2", "fd00:77::9", "9").stderr
    before = said("web", "ip", "addr")
    assert "inet 10.77.7.128/24" in before or "inet 10.77.7.129/24" in before
    assert "inet " not in said("web", "ip", "addr", "show", "dev", "eth1")
    assert "inet6 fd" in said("web", "ip", "addr", "show", "dev", "eth1")
    addresses = [word for word in before.split() if word.startswith(("fd", "10."))]
    (stack.directory / "compose.yaml").write_text(text.replace('V: "1"', 'V: "2"'))
    assert "web" in stack.must("up", "-d").stderr
    assert [word for word in said("web", "ip", "addr").split() if word.startswith(("fd", "10."))] == addresses
    assert said("web", "sh", "-c", "echo $V") == "2\n"
