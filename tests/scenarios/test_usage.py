"""`stats` and `top`: what containers use, and what runs in them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.machine import Pystack, Stack, eventually

pytestmark = pytest.mark.kernel

STACK = """
services:
  busy:
    image: rootfs:{rootfs}
    user: "1234"
    command: [sh, -c, "while :; do :; done"]
    mem_limit: 64m
    stop_grace_period: 0s
  idle:
    image: rootfs:{rootfs}
    command: [sh, -c, "dd if=/dev/zero of=/dev/shm/x bs=1M count=20; exec sleep 3600"]
    scale: 2
    stop_grace_period: 0s
"""


@pytest.fixture
def stack(pystack: Pystack, busybox_rootfs: Path) -> Stack:
    made = pystack.stack(STACK.format(rootfs=busybox_rootfs))
    made.must("up", "-d")
    return made


def stats(stack: Stack, *args: str) -> dict[str, dict[str, Any]]:
    rows = map(json.loads, stack.must("stats", "--no-stream", "--format", "json", *args).stdout.splitlines())
    return {row["Name"].partition("-")[2]: row for row in rows}


def test_stats_show_who_works_and_who_has_the_memory(stack: Stack) -> None:
    eventually(lambda: stats(stack)["idle-1"]["MemUsage"].startswith("2"))
    rows = stats(stack)
    assert set(rows) == {"busy-1", "idle-1", "idle-2"}
    assert list(rows["busy-1"]) == [
        "BlockIO", "CPUPerc", "Container", "ID", "MemPerc", "MemUsage", "Name", "NetIO", "PIDs"
    ]  # fmt: skip
    assert rows["busy-1"]["MemUsage"].endswith(" / 64MiB")
    assert re.fullmatch(r"2\d(\.\d+)?MiB / [\d.]+GiB", rows["idle-1"]["MemUsage"])
    share = {name: float(row["CPUPerc"].rstrip("%")) for name, row in rows.items()}
    assert share["busy-1"] > 5 > share["idle-1"]
    assert {row["PIDs"] for row in rows.values()} == {"1"}
    assert re.fullmatch("[0-9a-f]{12}", rows["busy-1"]["ID"])


def test_stats_of_one_service_of_what_is_stopped_and_as_a_table(stack: Stack) -> None:
    stack.must("stop", "busy")
    assert set(stats(stack)) == {"idle-1", "idle-2"}
    assert stats(stack, "-a", "busy")["busy-1"]["MemUsage"] == "0B / 0B"
    first, *rest = stack.must("stats", "--no-stream").stdout.splitlines()
    assert re.split(" {2,}", first.strip()) == [
        "CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"
    ]  # fmt: skip
    assert len(rest) == 2
    named = stack.must("stats", "--no-stream", "--format", "{{.Name}}: {{.PIDs}}", "idle").stdout.split("\n")
    assert named[0] == f"{stack.name}-idle-1: 1"
    assert stack.run("stats", "--no-stream", "nobody").code == 2


def test_top_shows_the_processes_with_those_of_exec(stack: Stack) -> None:
    stack.must("exec", "-d", "busy", "sleep", "77")

    def shown() -> list[list[str]]:
        return [line.split(None, 9) for line in stack.must("top").stdout.splitlines()]

    eventually(lambda: any(row[9] == "sleep 77" for row in shown()))
    header, *rows = shown()
    assert header == ["SERVICE", "#", "UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    by = {(row[0], row[1], row[9]): row for row in rows}
    assert by["busy", "1", "sleep 77"][2] == "1234"
    main = by["busy", "1", "sh -c while :; do :; done"]
    assert int(main[3]) == stack.ps()["busy"]["Pid"]
    assert by["idle", "2", "sleep 3600"][2] == "root"
    assert [line.split()[0] for line in stack.must("top", "idle").stdout.splitlines()] == ["SERVICE", "idle", "idle"]


GREEDY = """
services:
  greedy:
    image: rootfs:{rootfs}
    command: [sh, -c, "tail /dev/zero; touch /killed; sleep 3600"]
    healthcheck: {{test: [CMD, test, -e, /killed], interval: 0.1s, retries: 100}}
    mem_limit: 16m
    stop_grace_period: 0s
"""


def test_why_tells_of_a_child_that_was_killed_for_memory_while_it_runs_and_afterwards(
    pystack: Pystack, busybox_rootfs: Path
) -> None:
    made = pystack.stack(GREEDY.format(rootfs=busybox_rootfs))
    made.must("up", "-d", "--wait")
    killed = "(before, the kernel killed 1 of its processes for want of memory)"
    assert re.search(rf"uses \S+ of 16MiB of memory {re.escape(killed)}", made.must("why", "greedy").stdout)
    made.must("stop")
    row = made.ps()["greedy"]
    assert (row["OOMKilled"], row["OOMKills"]) == (False, 1)
    assert 15 << 20 <= row["PeakMemory"] <= 16 << 20
    assert "used at most" in made.must("why", "greedy").stdout


def test_what_does_not_run_has_no_processes(pystack: Pystack, busybox_rootfs: Path) -> None:
    made = pystack.stack(STACK.format(rootfs=busybox_rootfs))
    assert made.must("top").stdout == ""
    assert len(made.must("stats", "--no-stream").stdout.splitlines()) == 1
