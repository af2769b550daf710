"""A process that the kernel's OOM killer ends on purpose: in real control groups, with limits and without."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.contracts.site import IdMap, Site
from orchestrator.errors import HostError, OperationError
from orchestrator.kernel import cgroup, oom
from orchestrator.kernel.cgroup import Layout
from orchestrator.model.names import ContainerId, ProjectKey, ProjectName, cgroup_path
from orchestrator.runtime.cgroups import ContainerCgroup, remove_project
from orchestrator.runtime.shortage import run_out
from tests.kernel.test_cgroups import FOREVER, Child, join
from tests.machine import ROOT, eventually

pytestmark = pytest.mark.kernel
CONTAINER = ContainerId("a-b-1")
BY_ITSELF = (1, 2)
"""How many the kernel kills where nobody else is in the group: who fills it may be the second."""
EIGHT = {"memory": {"limit": 8 << 20, "swap": 8 << 20}}
LARGE = {"memory": {"limit": 256 << 20}}
SMALL = "import os\nos.execv('/bin/sleep', ['sleep', '1000'])"
CACHE = """
import os, signal
with open({path!r}, 'wb') as file:
    file.write(bytes(96 << 20))
    os.fsync(file.fileno())
signal.pause()
"""
FAMILY = """
import os, signal
def fill():
    open('/proc/self/oom_score_adj', 'w').write('1000')
    kept = bytearray(os.urandom(8 << 20))
    signal.pause()
for _ in range(3):
    os.fork() or fill()
signal.pause()
"""
FORKS = """
import os
while True:
    if not (child := os.fork()):
        os._exit(0)
    os.waitpid(child, 0)
"""
CALLER = """
import os, sys
from orchestrator.contracts.site import IdMap, Site
from orchestrator.kernel import cgroup
from orchestrator.runtime.shortage import run_out
pid = int(sys.argv[3])
print("begins", flush=True)
run_out(Site("p", sys.argv[1], sys.argv[2], "", IdMap(1 << 30)), "a-b-1", cgroup.detect(), pid, os.pidfd_open(pid))
"""


@pytest.fixture
def layout() -> Layout:
    return cgroup.detect()


@pytest.fixture
def site(leaves_nothing_behind: None, layout: Layout) -> Iterator[Site]:
    key = ProjectKey(uuid.uuid4().hex[:8])
    with tempfile.TemporaryDirectory() as data:
        Path(data, "containers", CONTAINER).mkdir(parents=True)
        yield Site(ProjectName("p"), key, data, "", IdMap(1 << 30))
    remove_project(layout, key)


def limits(layout: Layout, site: Site) -> tuple[tuple[str, str], ...]:
    path = cgroup_path(site.key, CONTAINER)
    if "memory" in layout.controllers:
        return oom.limits_of(f"{layout.controllers['memory']}/{path}", 1)
    return oom.limits_of(f"{layout.unified}/{path}", 2)


def exhaust(layout: Layout, site: Site, child: Child) -> None:
    pidfd = os.pidfd_open(child.pid)
    try:
        run_out(site, CONTAINER, layout, child.pid, pidfd)
    finally:
        os.close(pidfd)


@pytest.mark.parametrize(
    ("resources", "code"),
    [({}, SMALL), ({}, FOREVER), (EIGHT, SMALL), (LARGE, FOREVER), (LARGE, FORKS)],
    ids=["unlimited-small", "unlimited", "little", "much", "forking"],
)
def test_it_is_killed_alone_and_the_limits_are_what_they_were(
    layout: Layout, site: Site, resources: dict[str, Any], code: str
) -> None:
    with ContainerCgroup.create(layout, cgroup_path(site.key, CONTAINER), resources) as group:
        before = limits(layout, site)
        child = join(group, code)
        exhaust(layout, site, child)
        assert child.end() == -signal.SIGKILL
        assert group.oom_kills() in (BY_ITSELF if code != FORKS else range(1, 100))
        assert limits(layout, site) == before
        again = join(group, FOREVER)  # There is memory again.
        group.kill()
        again.end()


def test_pages_of_files_are_no_way_out(layout: Layout, site: Site) -> None:
    with ContainerCgroup.create(layout, cgroup_path(site.key, CONTAINER), {}) as group:
        child = join(group, CACHE.format(path=f"{site.data_dir}/cache"))
        written = Path(site.data_dir, "cache")
        eventually(lambda: written.exists() and written.stat().st_size == 96 << 20)
        exhaust(layout, site, child)
        assert child.end() == -signal.SIGKILL
        assert group.oom_kills() in BY_ITSELF


def test_others_of_it_that_are_to_be_killed_first_do_not_save_it(layout: Layout, site: Site) -> None:
    with ContainerCgroup.create(layout, cgroup_path(site.key, CONTAINER), {}) as group:
        before = limits(layout, site)
        child = join(group, FAMILY)
        exhaust(layout, site, child)
        assert child.end() == -signal.SIGKILL
        assert group.oom_kills() >= 1
        assert limits(layout, site) == before
        group.kill()


def test_where_the_kernel_kills_nobody_it_is_refused(layout: Layout, site: Site) -> None:
    if "memory" not in layout.controllers:
        pytest.skip("control groups v2 have no oom_kill_disable")
    resources = {"memory": {"disableOOMKiller": True}}
    with ContainerCgroup.create(layout, cgroup_path(site.key, CONTAINER), resources) as group:
        child = join(group, FOREVER)
        with pytest.raises(OperationError, match="has oom_kill_disable"):
            exhaust(layout, site, child)
        assert child.poll() is None
        group.kill()
        child.end()


def test_a_machine_that_cannot_limit_memory_says_so(layout: Layout, site: Site) -> None:
    with pytest.raises(HostError, match="cannot limit memory"):
        run_out(site, CONTAINER, Layout("v2", "/nowhere", {}), 1, 0)


@pytest.mark.parametrize("is_of_it", [True, False], ids=["", "and-who-carries-it-out"])
def test_the_limits_come_back_when_who_wanted_it_is_killed(layout: Layout, site: Site, is_of_it: bool) -> None:
    """Where the process is not of the group, nobody else is there to be killed but who fills it."""
    with (
        ContainerCgroup.create(layout, cgroup_path(site.key, CONTAINER), LARGE) as group,
        ContainerCgroup.create(layout, cgroup_path(site.key, ContainerId("a-b-2")), {}) as elsewhere,
    ):
        before = limits(layout, site)
        child = join(group if is_of_it else elsewhere, FOREVER)
        words = [sys.executable, "-c", CALLER, site.key, site.data_dir, str(child.pid)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}) as caller:
            assert caller.stdout is not None
            assert caller.stdout.readline() == b"begins\n"
            eventually(lambda: limits(layout, site) != before or child.poll() is not None)
            caller.kill()
        if is_of_it:
            assert child.end() == -signal.SIGKILL
        eventually(lambda: limits(layout, site) == before)
        if not is_of_it:
            elsewhere.kill()
            child.end()


def test_who_wants_it_need_not_be_who_reaps_it(layout: Layout, site: Site) -> None:
    """A supervisor reaps whatever child of its own has ended (`runtime.reaping`)."""
    with ContainerCgroup.create(layout, cgroup_path(site.key, CONTAINER), EIGHT) as group:
        child = join(group, SMALL)
        reaps = "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        words = [sys.executable, "-c", reaps + CALLER, site.key, site.data_dir, str(child.pid)]
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(words, capture_output=True, text=True, env=environ, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        assert child.end() == -signal.SIGKILL
        assert group.oom_kills() in BY_ITSELF


def test_the_limits_come_back_when_who_carries_it_out_is_killed(layout: Layout, site: Site) -> None:
    """The kernel kills us, for nobody else is in the group."""
    other = ContainerId("a-b-2")
    with (
        ContainerCgroup.create(layout, cgroup_path(site.key, CONTAINER), LARGE) as group,
        ContainerCgroup.create(layout, cgroup_path(site.key, other), {}) as elsewhere,
    ):
        before = limits(layout, site)
        child = join(elsewhere, FOREVER)
        with pytest.raises(HostError, match=r"cannot have container a-b-1 run out of memory: "):
            exhaust(layout, site, child)
        assert child.poll() is None
        assert limits(layout, site) == before
        assert Path(f"/proc/{child.pid}/oom_score_adj").read_text() == "0\n"
        for each in (group, elsewhere):
            each.kill()
        child.end()
