"""kill -9 at every state-changing system call of `pystack-oci run`: after `delete --force` nothing is left."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.oci_lab import COMMAND, ROOT, Lab, lab

pytestmark = [pytest.mark.kernel, pytest.mark.soak]

CALLS = (
    "mkdir,mkdirat,unlink,unlinkat,rmdir,rename,renameat2,symlinkat,mknodat,clone3,setns,unshare,mount_setattr,move_mount,"
    "open_tree,fsopen,fsconfig,fsmount,pivot_root,umount2,write,bind,listen,connect,sendto,sendmsg,chdir,fchdir,setsid,keyctl,"
    "sethostname,fchownat,fchown,setresuid,setresgid,setgroups,capset,seccomp,execve,wait4,recvfrom,pidfd_send_signal"
)
LEAST_POINTS = 100
"""Fewer, and the calls were not found in the trace."""


@pytest.fixture
def here(leaves_nothing_behind: None, busybox_rootfs: Path) -> Iterator[Lab]:
    with tempfile.TemporaryDirectory() as top, lab(Path(top), busybox_rootfs) as opened:
        yield opened


def points(here: Lab) -> list[tuple[str, int]]:
    """Each call, and the first, second, ... of them that one process makes."""
    trace = here.top / "trace"
    traced(here, "-e", f"trace={CALLS}", "-o", str(trace))
    made = Counter(found.groups() for found in re.finditer(r"^(\d+) +(\w+)\(", trace.read_text(), re.MULTILINE))
    most: Counter[str] = Counter()
    for (_, call), count in made.items():
        most[call] = max(most[call], count)
    return [(call, number) for call, count in most.items() for number in range(1, count + 1)]


def traced(here: Lab, *options: str) -> None:
    command = ["strace", "-f", "-qq", *options, *COMMAND, "--root", str(here.root), "run", "box"]
    quiet = subprocess.DEVNULL
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=here.bundle, env=environment, stdin=quiet, stdout=quiet, stderr=quiet, timeout=60)


def groups() -> list[str]:
    return [path for path, folders, _ in os.walk("/sys/fs/cgroup") if path.endswith("/box") and not folders]


def test_whatever_is_killed_delete_finds_what_is_left(here: Lab) -> None:
    if shutil.which("strace") is None:
        pytest.skip("no strace")
    here.write(here.config("true"))
    all_points = points(here)
    assert len(all_points) > LEAST_POINTS
    for call, number in all_points:
        traced(here, "-e", "trace=none", "-e", f"inject={call}:signal=KILL:when={number}", "-o", "/dev/null")
        here.oci("delete", "--force", "box")
        assert here.oci("list", "-q") == "", (call, number)
        assert groups() == [], (call, number)
