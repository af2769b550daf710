"""ContainerCgroup on this machine's own hierarchies: joining, limits, killing, OOM, removal. Only below ``pystack/``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest

from orchestrator.errors import HostError
from orchestrator.kernel import cgroup
from orchestrator.kernel.cgroup import Layout
from orchestrator.model.names import CGROUP_ROOT, ContainerId, ProjectKey, cgroup_path
from orchestrator.runtime.cgroups import ContainerCgroup, find_leftovers, open_existing, remove_project

pytestmark = pytest.mark.kernel


@pytest.fixture
def layout() -> Layout:
    return cgroup.detect()


@pytest.fixture
def key(layout: Layout) -> Iterator[ProjectKey]:
    key = ProjectKey(uuid.uuid4().hex[:8])
    yield key
    remove_project(layout, key)
    assert not any(os.path.isdir(f"{root}/{CGROUP_ROOT}/{key}") for root in layout.roots())


class Child(subprocess.Popen[bytes]):
    def end(self) -> int:
        """Wait for the end; the exit code, or minus the signal."""
        code = self.wait(30)
        assert self.stdout is not None
        self.stdout.close()
        return code


def join(group: ContainerCgroup, code: str) -> Child:
    """A Python child that is in `group` before it runs `code`; it says "ready" first."""
    targets = list(group.attach_paths)
    if group.unified_fd is not None:
        targets.append(f"/proc/self/fd/{group.unified_fd}/cgroup.procs")

    def enter() -> None:
        for target in targets:
            fd = os.open(target, os.O_WRONLY)
            os.write(fd, b"0")
            os.close(fd)

    child = Child(
        [sys.executable, "-I", "-S", "-c", f"print('ready', flush=True)\n{code}"], stdout=subprocess.PIPE, preexec_fn=enter
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    return child


FOREVER = "import signal\nsignal.pause()"
FAMILY = "import os, signal\nfor _ in range(4): os.fork()\nsignal.pause()"


def test_kill_ends_a_whole_family_and_remove_leaves_nothing(layout: Layout, key: ProjectKey) -> None:
    path = cgroup_path(key, ContainerId("a-b-1"))
    group = ContainerCgroup.create(layout, path, {"pids": {"limit": 2048}})
    child = join(group, FAMILY)
    assert group.populated()
    assert find_leftovers(layout, key) == ("a-b-1",)
    group.kill()
    assert child.end() == -signal.SIGKILL
    group.remove()
    assert find_leftovers(layout, key) == ()
    assert not any(os.path.exists(f"{root}/{path}") for root in layout.roots())
    group.remove()


def test_remove_kills_what_still_runs_and_a_stranger_can_do_it(layout: Layout, key: ProjectKey) -> None:
    path = cgroup_path(key, ContainerId("a-b-1"))
    with ContainerCgroup.create(layout, path, {}) as group:
        child = join(group, FOREVER)
    open_existing(layout, path).remove()
    assert child.end() == -signal.SIGKILL
    assert find_leftovers(layout, key) == ()


def test_the_pids_limit_stops_a_fork_bomb(layout: Layout, key: ProjectKey) -> None:
    group = ContainerCgroup.create(layout, cgroup_path(key, ContainerId("a-b-1")), {"pids": {"limit": 3}})
    assert group.unenforced == ()
    code = (
        "import os, signal\n"
        "made = 0\n"
        "try:\n"
        "    while made < 50:\n"
        "        if os.fork() == 0: signal.pause()\n"
        "        made += 1\n"
        "except BlockingIOError: pass\n"
        "os._exit(made)"
    )
    assert join(group, code).end() == 2
    group.remove()


def test_an_out_of_memory_kill_is_counted(layout: Layout, key: ProjectKey) -> None:
    limit = 24 << 20
    resources = {"memory": {"limit": limit, "swap": limit}, "pids": {"limit": 100}}
    group = ContainerCgroup.create(layout, cgroup_path(key, ContainerId("a-b-1")), resources)
    assert group.oom_kills() == 0
    assert join(group, "x = bytearray(200 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1").end() == -signal.SIGKILL
    assert group.oom_kills() == 1
    group.remove()


def test_limits_of_a_group_left_over_are_replaced_in_either_direction(layout: Layout, key: ProjectKey) -> None:
    path = cgroup_path(key, ContainerId("a-b-1"))
    for limit in (32 << 20, 256 << 20, 16 << 20):
        ContainerCgroup.create(layout, path, {"memory": {"limit": limit, "swap": limit}}).close()
        directory, name = (
            (layout.controllers["memory"], "memory.limit_in_bytes")
            if "memory" in layout.controllers
            else (layout.unified, "memory.max")
        )
        assert cgroup.read(f"{directory}/{path}/{name}") == str(limit)


def test_a_cpu_quota_is_set_where_the_controller_is(layout: Layout, key: ProjectKey) -> None:
    path = cgroup_path(key, ContainerId("a-b-1"))
    group = ContainerCgroup.create(layout, path, {"cpu": {"quota": 50_000, "period": 100_000}})
    if "cpu" in layout.controllers:
        assert cgroup.read(f"{layout.controllers['cpu']}/{path}/cpu.cfs_quota_us") == "50000"
        assert f"{layout.controllers['cpu']}/{path}/tasks" in group.attach_paths
    else:
        assert cgroup.read(f"{layout.unified}/{path}/cpu.max") == "50000 100000"
    group.close()


def test_a_cpuset_can_be_joined(layout: Layout, key: ProjectKey) -> None:
    group = ContainerCgroup.create(layout, cgroup_path(key, ContainerId("a-b-1")), {"cpu": {"cpus": "0"}})
    child = join(group, "import os\nos._exit(len(os.sched_getaffinity(0)))")
    assert child.end() == 1
    group.remove()


def test_killing_a_probe_group_spares_the_container(layout: Layout, key: ProjectKey) -> None:
    group = ContainerCgroup.create(layout, cgroup_path(key, ContainerId("a-b-1")), {"pids": {"limit": 100}})
    main = join(group, FOREVER)
    probe = group.probe_group("probe-1")
    probing = join(probe, FAMILY)
    probe.kill()
    assert probing.end() == -signal.SIGKILL
    probe.remove()
    assert main.poll() is None
    assert group.populated()
    group.kill()
    assert main.end() == -signal.SIGKILL
    group.remove()


def test_v1_alone_kills_by_freezing(layout: Layout, key: ProjectKey) -> None:
    if "freezer" not in layout.controllers:
        pytest.skip("this machine has no v1 freezer")
    v1 = Layout("v1", None, layout.controllers)
    group = ContainerCgroup.create(v1, cgroup_path(key, ContainerId("a-b-1")), {"pids": {"limit": 100}})
    assert group.unified_fd is None
    child = join(group, FAMILY)
    probe = group.probe_group("probe-1")
    probing = join(probe, FAMILY)
    probe.kill()
    assert probing.end() == -signal.SIGKILL
    probe.remove()
    assert child.poll() is None
    group.kill()
    assert child.end() == -signal.SIGKILL
    group.remove()


def test_v1_without_a_freezer_kills_until_none_is_left(layout: Layout, key: ProjectKey) -> None:
    if "pids" not in layout.controllers:
        pytest.skip("this machine has no v1 pids controller")
    v1 = Layout("v1", None, {"pids": layout.controllers["pids"]})
    group = ContainerCgroup.create(v1, cgroup_path(key, ContainerId("a-b-1")), {"pids": {"limit": 100}})
    child = join(group, FAMILY)
    group.kill()
    assert child.end() == -signal.SIGKILL
    group.remove()


def test_a_group_that_goes_while_it_is_read_has_no_members(
    layout: Layout, key: ProjectKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an exec that is just over, say. The kernel says ENODEV then, and not ENOENT."""
    opened = os.open
    with ContainerCgroup.create(layout, cgroup_path(key, ContainerId("a-b-1")), {}) as group:
        root = f"{next(iter(layout.roots()))}/{group.relative_path}"
        below = f"{root}/exec-1"
        os.mkdir(below)

        def gone_when_opened(path: str, flags: int) -> int:
            fd = opened(path, flags)
            if path.startswith(below):
                os.rmdir(below)
            return fd

        monkeypatch.setattr(os, "open", gone_when_opened)
        assert cgroup.members(root) == []
        assert not os.path.exists(below)
        monkeypatch.undo()


def test_removing_a_project_takes_all_its_containers_and_spares_the_others(layout: Layout, key: ProjectKey) -> None:
    other = ProjectKey(uuid.uuid4().hex[:8])
    spared = ContainerCgroup.create(layout, cgroup_path(other, ContainerId("c-d-1")), {})
    children = [
        join(ContainerCgroup.create(layout, cgroup_path(key, ContainerId(f"a-b-{n}")), {}), FOREVER) for n in range(3)
    ]
    remove_project(layout, key)
    assert [child.end() for child in children] == [-signal.SIGKILL] * 3
    assert find_leftovers(layout, key) == ()
    assert find_leftovers(layout, other) == ("c-d-1",)
    spared.close()
    remove_project(layout, other)


def test_a_group_whose_process_does_not_end_is_reported_after_the_deadline(layout: Layout, key: ProjectKey) -> None:
    group = ContainerCgroup.create(layout, cgroup_path(key, ContainerId("a-b-1")), {})
    child = join(group, FOREVER)

    class Unkillable(ContainerCgroup):
        def kill(self) -> None:
            """As if its process slept uninterruptibly."""

    unkillable = Unkillable(layout, group.relative_path, None, (), (), False, group._directories)
    with pytest.raises(HostError, match="still busy"):
        unkillable.remove(timeout_s=0.02)
    assert child.poll() is None
    group.remove()
    assert child.end() == -signal.SIGKILL
