"""`pystack timeline` over real containers: what it says is what happened, whoever died meanwhile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.machine import Pystack, Stack, eventually
from tests.scenarios.talk import kill_hard, supervisor_pid

pytestmark = pytest.mark.kernel

STACK = """
services:
  db:
    image: rootfs:{rootfs}
    command: [sh, -c, "echo begun; sleep 0.3; touch /ok; exec sleep 3600"]
    restart: always
    stop_grace_period: 0s
    healthcheck: {{test: [CMD, test, -e, /ok], interval: 50ms, retries: 100}}
  web:
    image: rootfs:{rootfs}
    command: [sleep, "3600"]
    stop_grace_period: 0s
    depends_on: {{db: {{condition: service_healthy}}}}
"""


@pytest.fixture
def stack(pystack: Pystack, busybox_rootfs: Path) -> Stack:
    made = pystack.stack(STACK.format(rootfs=busybox_rootfs))
    made.must("up", "-d")
    return made


def shown(stack: Stack, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(stack.must("timeline", "--format", "json", *words).stdout)
    return found


def test_each_start_of_an_up_is_shown_with_its_first_output_and_its_critical_path(stack: Stack) -> None:
    [episode] = shown(stack)
    db, web = (next(item for item in episode["starts"] if item["service"] == name) for name in ("db", "web"))
    assert [db["end"], web["end"]] == ["ready", "ready"]
    assert {"sandbox", "network", "exec", "ready"} <= {span["phase"] for span in db["phases"]}
    assert "wait" in {span["phase"] for span in web["phases"]}
    assert db["marks"]["starting"] <= db["marks"]["output"] <= db["marks"]["ready"] <= web["marks"]["starting"]
    assert [link["container"] for link in episode["critical_path"]] == [db["container"], web["container"]]
    assert episode["shorten"]["phase"] == "ready"
    text = stack.must("timeline").stdout
    assert "* db" in text
    assert "\x1b" not in text


def test_after_the_supervisors_death_a_restart_is_on_the_new_ones_clock_and_the_up_is_as_it_was(stack: Stack) -> None:
    before = shown(stack)
    kill_hard(supervisor_pid(stack))
    stack.must("up", "-d")
    kill_hard(stack.ps()["db"]["Pid"])
    restarts = eventually(lambda: [item for item in shown(stack, "-a") if item["title"].startswith("restart")])
    eventually(lambda: shown(stack, "-a")[-1]["starts"][0]["end"] == "ready")
    assert shown(stack) == before
    assert len(restarts) == 1
    assert shown(stack, "-a")[-1]["starts"][0]["phases"][0]["phase"] == "backoff"


def test_a_project_in_which_nothing_was_started_is_an_error_that_says_so(pystack: Pystack, busybox_rootfs: Path) -> None:
    made = pystack.stack(STACK.format(rootfs=busybox_rootfs))
    result = made.run("timeline")
    assert result.code == 2
    assert "has no start" in result.stderr
