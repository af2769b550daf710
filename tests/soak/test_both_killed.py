"""kill -9 of supervisor and monitor at nearly the same moment, many times, while `up` or `restart` is under way."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
from pathlib import Path
from threading import Event

import pytest

from tests.machine import Pystack, Stack
from tests.scenarios.talk import monitor_pid, supervisor_pid
from tests.scenarios.test_crashes import BOTH, check_down, telling
from tests.soak.sweep import containers_of

pytestmark = [pytest.mark.kernel, pytest.mark.soak]

ROUNDS = int(os.environ.get("SOAK_ROUNDS", "500"))
SERVICES = ("a", "b", "c")
SERVICE = """
  {name}:
    image: rootfs:{rootfs}
    command: [sleep, "3600"]
    stop_grace_period: 0s
    healthcheck: {{test: [CMD, "true"], interval: 100ms}}
"""
VERBS = (("up", "-d"), ("restart",), ("up", "-d", "--force-recreate"), ("up", "-d", "--wait"))
MOST_LINES, MOST_GAP_S, COMMAND_S = 24, 0.03, 20


def kill_both(stack: Stack, choice: random.Random) -> None:
    """In either order."""
    found = sorted((pid, command) for pid, command in stack.pystack.processes().items())
    choice.shuffle(found)
    for pid, _ in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        Event().wait(choice.random() * MOST_GAP_S)  # Not a wait for anything: the gap is what is varied.


def one_round(stack: Stack, number: int) -> None:
    choice = random.Random(number)
    verb = VERBS[number % len(VERBS)]
    with telling(stack, *verb) as (process, lines):
        list(itertools.islice(lines, choice.randrange(MOST_LINES)))
        kill_both(stack, choice)
        list(lines)
        process.wait(timeout=60)
    done = stack.run("up", "-d", "--wait", timeout_s=60)
    assert done.code == 0, f"round {number}, {verb}: {done}"
    assert done.seconds < COMMAND_S, f"round {number}, {verb}: {done}"
    programs = stack.pystack.processes()
    assert sorted(victim for victim in BOTH for command in programs.values() if victim in command) == sorted(BOTH), number
    supervisor_pid(stack), monitor_pid(stack)
    assert sorted(containers_of(stack)) == [f"{stack.name}-{name}-1" for name in SERVICES], f"round {number}, {verb}"


def test_after_the_next_command_there_is_one_of_each_and_nothing_old(pystack: Pystack, busybox_rootfs: Path) -> None:
    services = "".join(SERVICE.format(name=name, rootfs=busybox_rootfs) for name in SERVICES)
    stack = pystack.stack(f"services:{services}")
    for number in range(ROUNDS):
        one_round(stack, number)
        if number % 50 == 49:
            check_down(stack)
    check_down(stack)
