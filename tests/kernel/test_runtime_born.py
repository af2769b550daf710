"""A stage 1 that is killed between the birth of the final child and anything it could say of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).resolve().parents[2]
NOBODY = """
class Nobody:
    def begin(self, *what):
        return None
"""
MONITOR = NOBODY + """
import errno, json, os, signal, sys
from orchestrator.kernel import constants, process
from orchestrator.runtime.monitor import runs, stage1
from orchestrator.runtime.monitor.loop import Loop

real = process.clone3

def killed(flags, **how):
    pid = real(flags, **how)
    if pid and flags & constants.CLONE_PARENT:
        os.kill(os.getpid(), signal.SIGKILL)
    return pid

process.clone3 = killed
process.setns = lambda *namespaces: None
loop = Loop()
told = []

def ended(*what):
    told.append(what)
    loop.stopped = True

program = json.dumps([["join"], ["execute", ["/bin/sleep", "600"], [], 18]]).encode()
runs.Start(
    loop, None, program, {"target": -1}, [], lambda pid, pidfd: ended("executed"), lambda *why: ended(*why),
    starter=Nobody(),
)
loop.run()
assert [why[:2] for why in told] == [(stage1.BROKEN, errno.EOWNERDEAD)], told
try:
    print("left", os.waitpid(-1, os.WNOHANG))
except ChildProcessError:
    print("nothing left")
"""


def test_what_a_killed_stage_1_has_made_is_ended_and_reaped() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MONITOR], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("nothing left\n", "", 0)


REFUSING = NOBODY + """
import errno, json, os
from orchestrator.runtime.monitor import runs, stage1
from orchestrator.runtime.monitor.loop import Loop

loop = Loop()
told = []

def executed(*what):
    raise OSError(errno.ENOSPC, "no more watches")

def failed(*why):
    told.append(why)
    loop.stopped = True

program = json.dumps([["execute", ["/bin/sleep", "600"], [], 18]]).encode()
runs._clone_within = lambda *where: os.fork()
runs.Start(loop, None, program, {}, [], executed, failed, starter=Nobody(), within=0)
loop.run()
assert [why[:2] for why in told] == [(stage1.BROKEN, errno.ENOSPC)], told
try:
    print("left", os.waitpid(-1, os.WNOHANG))
except ChildProcessError:
    print("nothing left")
"""


def test_what_could_not_be_taken_over_once_it_ran_is_ended_and_told() -> None:
    done = subprocess.run(
        [sys.executable, "-c", REFUSING], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.returncode) == ("nothing left\n", 0), done.stderr
    assert done.stderr.startswith("monitor: a handler failed (told once): OSError in executed: ")
