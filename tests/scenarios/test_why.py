"""`why` across services, over real containers: with the supervisor, and without."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.machine import Pystack, Stack

pytestmark = pytest.mark.kernel

STACK = """
services:
  db:
    image: rootfs:{rootfs}
    command: [sh, -c, "sleep 1; echo FATAL no disk; exit 1"]
    healthcheck: {{test: [CMD, "true"], interval: 100ms}}
  api:
    image: rootfs:{rootfs}
    command: [sh, -c, "sleep 1.5; echo cannot reach db; exit 3"]
    depends_on: {{db: {{condition: service_healthy}}}}
    healthcheck: {{test: [CMD, "false"], interval: 1m}}
  web:
    image: rootfs:{rootfs}
    command: [sleep, "3600"]
    depends_on: {{api: {{condition: service_healthy}}}}
  lasting:
    image: rootfs:{rootfs}
    command: [sleep, "3600"]
    stop_grace_period: 0s
"""


def told(stack: Stack) -> list[tuple[str, list[str]]]:
    causes = json.loads(stack.must("why", "web", "--format", "json").stdout)["causes"]
    return [(link["service"], link.get("output", [])) for link in causes]


@pytest.mark.parametrize("alive", [True, False])
def test_the_causes_of_a_blocked_service_are_told_with_what_each_wrote_last(
    pystack: Pystack, busybox_rootfs: Path, alive: bool
) -> None:
    stack: Stack = pystack.stack(STACK.format(rootfs=busybox_rootfs))
    assert stack.run("up", "-d").code == 1
    if not alive:
        stack.must("stop", "lasting")  # Nothing runs any more, and the supervisor ends.
    assert told(stack) == [("web", []), ("api", ["cannot reach db"]), ("db", ["FATAL no disk"])]
    text = stack.must("why", "web").stdout
    assert "web is blocked: it needs api to be healthy" in text
    assert "before that: db exited with code 1" in text
