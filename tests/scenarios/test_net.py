"""`pystack net`: who may talk to whom in a real project, and who did."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.machine import Pystack

pytestmark = pytest.mark.kernel

STACK = """
services:
  web: &plain
    image: rootfs:{rootfs}
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    depends_on: [db, cache]
    ports: ["127.0.0.1::80", "[::1]:8053:53/udp"]
  db:
    <<: *plain
    depends_on: []
    ports: []
  cache:
    <<: *plain
    depends_on: []
    ports: []
"""


def test_a_stack_may_want_to_be_observed_from_its_first_packet(pystack: Pystack, busybox_rootfs: Path) -> None:
    text = STACK.format(rootfs=busybox_rootfs)
    stack = pystack.stack(text)
    stack.must("up", "-d")

    def counting() -> bool:
        return bool(json.loads(stack.must("net", "--observed", "--format", "json").stdout)["counting"])

    assert not counting()
    (stack.directory / "compose.yaml").write_text(text + "x-pystack: {net: {observe: true}}\n")
    before = stack.ps()["web"]["Pid"]
    stack.must("up", "-d")
    assert (counting(), stack.ps()["web"]["Pid"]) == (True, before)
    stack.must("net", "--observe", "off")
    stack.must("up", "-d")
    assert counting()
    stack.must("down")
    stack.must("up", "-d")
    assert counting()


def test_net_tells_what_is_used_and_not_declared_and_what_is_declared_and_never_used(
    pystack: Pystack, busybox_rootfs: Path
) -> None:
    stack = pystack.stack(STACK.format(rootfs=busybox_rootfs))
    # Before it is up: what the files say.
    assert [line.split() for line in stack.must("net").stdout.splitlines()] == [
        ["SERVICE", "default", "PUBLISHED"],
        ["web", "x", "127.0.0.1:->80/tcp,", "[::1]:8053->53/udp"],
        ["db", "x"],
        ["cache", "x"],
        [],
        ["FROM", "TO", "DECLARED", "NETWORKS"],
        ["web", "db", "depends_on", "default"],
        ["web", "cache", "depends_on", "default"],
    ]
    early = stack.run("net", "--observe", "on")
    assert early.code == 1
    assert f"project {stack.name} has no containers on networks" in early.stderr
    stack.must("up", "-d")
    assert "pystack net --observe on" in stack.must("net", "--observed").stderr
    stack.must("net", "--observe", "on")

    def talks(source: str, target: str) -> None:
        """Nobody listens; it was tried."""
        assert "Connection refused" in stack.run("exec", "-T", source, "nc", "-w", "2", target, "80").stderr

    talks("web", "db")
    talks("db", "web")
    stack.must("exec", "-T", "web", "nslookup", "db")
    told = json.loads(stack.must("net", "--observed", "--format", "json").stdout)
    assert told["counting"]
    seen = {(use["source"], use["target"]): use for use in told["used"]}
    assert not any(use["port"] == 53 for use in told["used"]), "the name server is everybody's"
    assert seen["web", "db"]["count"] >= 1
    assert seen["web", "db"]["declared"] == "depends_on"
    assert seen["db", "web"]["declared"] == ""
    assert [(edge["source"], edge["target"]) for edge in told["unused"]] == [("web", "cache")]
    rows = [line.split() for line in stack.must("net", "--observed").stdout.splitlines()]
    assert ["web", "cache", "never", "depends_on"] in rows
    assert [row[-1] for row in rows if row[:2] == ["db", "web"]] == ["no"]
    stack.must("net", "--observe", "off")
    assert not json.loads(stack.must("net", "--observed", "--format", "json").stdout)["counting"]
    stack.must("net", "--observe", "on")
    stack.must("down")
