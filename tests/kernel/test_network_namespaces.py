"""The monitor's helper that makes network namespaces, also when it is killed or the kernel refuses."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.machine import ROOT

pytestmark = pytest.mark.kernel

# In a process of its own: the helper is a clone of a single-threaded process and shares its descriptors.
PROGRAM = """
import os, signal, sys
from orchestrator.kernel import constants, process
from orchestrator.runtime.monitor import store
from orchestrator.runtime.monitor.loop import Loop

count, trouble = int(sys.argv[1]), sys.argv[2]
lines = [[0, 1 << 20, 65536]]
userns = store.make_user_namespace(lines, lines)
loop = Loop()
made = []

def done(fds, error):
    made.append((fds, error))
    loop.stopped = True

if trouble == "limit" and (child := os.fork()) == 0:  # The limit is that of the user namespace that the writer is in.
    process.setns(userns, constants.CLONE_NEWUSER)
    with open("/proc/sys/user/max_net_namespaces", "w") as file:
        file.write("3")
    os._exit(0)
if trouble == "limit":
    assert os.waitpid(child, 0)[1] == 0
store.make_network_namespaces(loop, userns, count, done)
if trouble == "kill":
    (child,) = open(f"/proc/self/task/{os.getpid()}/children").read().split()
    os.kill(int(child), signal.SIGKILL)
loop.run()
(fds, error), = made
assert all(os.readlink(f"/proc/self/fd/{fd}").startswith("net:[") for fd in fds)
assert len({os.fstat(fd).st_ino for fd in fds}) == len(fds)
print(len(fds), error)
"""


def make(count: int, trouble: str = "none") -> tuple[int, int]:
    argv = [sys.executable, "-c", PROGRAM, str(count), trouble]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    made, error = done.stdout.split()
    return int(made), int(error)


def test_each_is_new() -> None:
    assert make(5) == (5, 0)


def test_a_killed_helper_is_told_at_once() -> None:
    made, error = make(400, "kill")
    assert made < 400
    assert error == 130  # EOWNERDEAD


def test_what_was_made_before_the_kernel_s_limit_is_given() -> None:
    assert make(5, "limit") == (3, 28)  # ENOSPC
