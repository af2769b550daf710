"""A process that is killed for want of memory on purpose, by control groups v2: files as cgroup-v2.rst has them, in a
folder, and a kernel of the test's own. It does what that of Linux does when ``memory.max`` becomes 0: who is the first to
be killed is killed, and ``memory.events`` counts it. `tests/kernel/test_oom.py` is about real groups, of either version."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.contracts.site import IdMap, Site
from orchestrator.errors import HostError
from orchestrator.kernel import oom
from orchestrator.kernel.cgroup import Layout
from orchestrator.kernel.inotify import Inotify
from orchestrator.model.names import ContainerId, ProjectKey, ProjectName, cgroup_path
from orchestrator.runtime.cgroups import open_existing
from orchestrator.runtime.shortage import run_out

CONTAINER = ContainerId("a-b-1")
KEY = ProjectKey("abcdef01")
IN_MODIFY = 2
UNLIMITED = {"memory.max": "max\n", "memory.swap.max": "max\n"}
LITTLE = {"memory.max": "8388608\n", "memory.swap.max": "0\n"}
NO_SWAP = {"memory.max": "8388608\n"}
"""A kernel without CONFIG_SWAP, or with ``swapaccount=0``."""


@pytest.fixture
def site() -> Iterator[Site]:
    with tempfile.TemporaryDirectory() as data:
        Path(data, "containers", CONTAINER).mkdir(parents=True)
        yield Site(ProjectName("p"), KEY, data, "", IdMap(1 << 30))


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


class Group:
    """The group of the container, below `root`. Its files are plain ones, where a shorter value leaves the end of a longer
    one."""

    def __init__(self, root: Path, files: dict[str, str]) -> None:
        self.layout = Layout("v2", str(root), {})
        self.path = root / cgroup_path(KEY, CONTAINER)
        self.path.mkdir(parents=True)
        events = "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n"
        for name, text in {**files, "memory.events": events, "cgroup.procs": "", "cgroup.events": "populated 1\n"}.items():
            (self.path / name).write_text(text)

    def limits(self) -> dict[str, str]:
        return {name: (self.path / name).read_text() for name in oom.FILES[2] if (self.path / name).exists()}


@contextmanager
def kernel(group: Group, process: subprocess.Popen[bytes]) -> Iterator[list[tuple[str, str]]]:
    """Kills when there is no memory left. Yields what it has seen by then: what there was of swap, and who was to go
    first."""
    seen: list[tuple[str, str]] = []
    reader, writer = os.pipe()
    limit = group.path / "memory.max"

    def work(inotify: Inotify) -> None:
        while reader not in select.select([inotify.fileno(), reader], [], [])[0]:
            inotify.clear()
            if not limit.read_text().startswith("0") or seen:
                continue
            swap = group.limits().get("memory.swap.max", "")
            seen.append((swap[:1], Path(f"/proc/{process.pid}/oom_score_adj").read_text().strip()))
            events = group.path / "memory.events"
            events.write_text(events.read_text().replace("oom_kill 0", "oom_kill 1"))
            process.send_signal(signal.SIGKILL)

    with Inotify() as inotify:
        inotify.watch(str(limit), IN_MODIFY)
        thread = threading.Thread(target=work, args=(inotify,))
        thread.start()
        try:
            yield seen
        finally:
            os.write(writer, b"x")
            thread.join()
            os.close(reader)
            os.close(writer)


def exhaust(site: Site, group: Group, pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        run_out(site, CONTAINER, group.layout, pid, pidfd)
    finally:
        os.close(pidfd)


@pytest.mark.parametrize("files", [UNLIMITED, LITTLE, NO_SWAP], ids=["unlimited", "little", "no swap"])
def test_it_is_the_first_to_go_when_nothing_is_left_and_limits_come_back(
    tmp_path: Path, site: Site, process: subprocess.Popen[bytes], files: dict[str, str]
) -> None:
    group = Group(tmp_path, files)
    with kernel(group, process) as seen:
        exhaust(site, group, process.pid)
    assert process.wait() == -signal.SIGKILL
    assert seen == [("0" if "memory.swap.max" in files else "", str(oom.FIRST))]
    assert group.limits() == files
    with open_existing(group.layout, cgroup_path(KEY, CONTAINER)) as opened:
        assert opened.oom_kills() == 1


def test_a_kernel_that_kills_nobody_is_told_and_nothing_is_left_as_it_was_made(
    tmp_path: Path, site: Site, process: subprocess.Popen[bytes]
) -> None:
    group = Group(tmp_path, LITTLE)
    with pytest.raises(HostError, match="the kernel has not killed it"):
        exhaust(site, group, process.pid)
    assert process.poll() is None
    assert group.limits() == LITTLE
    assert oom.score_of(process.pid) == "0"


def test_limits_of_a_group_that_is_gone_are_nobodys(tmp_path: Path) -> None:
    oom.restore(str(tmp_path / "gone"), (("memory.max", "max"), ("memory.swap.max", "max")))
    assert not (tmp_path / "gone").exists()


def test_a_hierarchy_without_the_controller_cannot(
    tmp_path: Path, site: Site, process: subprocess.Popen[bytes]
) -> None:
    """As beside v1 controllers, or where nobody has enabled it in ``cgroup.subtree_control``."""
    group = Group(tmp_path, {})
    with pytest.raises(HostError, match="cannot limit memory"):
        exhaust(site, group, process.pid)
    assert process.poll() is None
