"""The three cgroup layouts as mountinfo shows them, and the file operations on a directory tree."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.errors import HostError
from orchestrator.kernel import cgroup
from orchestrator.kernel.cgroup import Layout
from orchestrator.model.names import ProjectKey
from orchestrator.runtime.cgroups import ContainerCgroup, find_leftovers, open_existing

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
V1 = """\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/lib/agent,name=systemd
"""
UNIFIED = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
OTHER = "22 1 8:1 / / rw,relatime - ext4 /dev/root rw,cpu\n"


def test_a_single_unified_hierarchy_is_v2() -> None:
    assert cgroup.detect(OTHER + V2) == Layout("v2", "/sys/fs/cgroup", {})


def test_v1_controllers_are_found_also_when_mounted_together_and_named_hierarchies_are_none() -> None:
    layout = cgroup.detect(OTHER + V1)
    assert layout.mode == "v1"
    assert layout.unified is None
    assert layout.controllers == {
        "cpu": "/sys/fs/cgroup/cpu,cpuacct",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
        "freezer": "/sys/fs/cgroup/freezer",
        "memory": "/sys/fs/cgroup/memory",
        "pids": "/sys/fs/cgroup/pids",
    }
    assert layout.roots().count("/sys/fs/cgroup/cpu,cpuacct") == 1


def test_v1_beside_a_unified_hierarchy_is_hybrid() -> None:
    layout = cgroup.detect(V1 + UNIFIED)
    assert layout.mode == "hybrid"
    assert layout.roots()[0] == "/sys/fs/cgroup/unified"


def test_a_mount_of_the_root_is_preferred_and_escapes_are_undone() -> None:
    part = "50 31 0:38 /docker/abc /mnt/part rw - cgroup2 cgroup2 rw\n"
    whole = "51 31 0:38 / /mnt/with\\040space rw - cgroup2 cgroup2 rw\n"
    assert cgroup.detect(part + whole).unified == "/mnt/with space"


def test_no_cgroup_file_system_is_an_error() -> None:
    with pytest.raises(OSError, match="no cgroup file system"):
        cgroup.detect(OTHER)


def group(path: Path, **files: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (path / name.replace("__", ".")).write_text(text)
    return path


def v2_tree(tmp_path: Path, enabled: str = "cpu memory pids") -> tuple[Layout, Path]:
    """A tree of plain files that looks like a pure v2 hierarchy down to one container's group."""
    empty = {"cgroup__subtree_control": enabled, "cgroup__controllers": "cpuset cpu io memory pids"}
    limits = dict.fromkeys(("memory__max", "memory__swap__max", "pids__max", "cpu__max", "cpu__weight"), "")
    group(tmp_path, **empty)
    group(tmp_path / "pystack", **empty)
    group(tmp_path / "pystack/k", **empty)
    own = group(tmp_path / "pystack/k/web", **limits, cgroup__procs="", cgroup__events="populated 0\n")
    return Layout("v2", str(tmp_path), {}), own


RESOURCES = {
    "memory": {"limit": 64 << 20, "swap": 128 << 20},
    "pids": {"limit": 2048},
    "cpu": {"quota": 150_000, "period": 100_000, "shares": 1024},
}


def test_limits_on_v2_are_written_to_the_unified_group(tmp_path: Path) -> None:
    layout, own = v2_tree(tmp_path)
    with ContainerCgroup.create(layout, "pystack/k/web", RESOURCES) as made:
        assert made.attach_paths == ()
        assert made.unified_fd is not None
        assert os.fstat(made.unified_fd).st_ino == own.stat().st_ino
    values = {path.name: path.read_text() for path in own.iterdir()}
    assert values["memory.max"] == str(64 << 20)
    assert values["memory.swap.max"] == str(64 << 20)
    assert values["pids.max"] == "2048"
    assert values["cpu.max"] == "150000 100000"
    assert values["cpu.weight"] == "39"


def test_unlimited_pids_and_swap_are_max_on_v2(tmp_path: Path) -> None:
    layout, own = v2_tree(tmp_path)
    resources = {"memory": {"limit": 1 << 20, "swap": -1}, "pids": {"limit": -1}}
    ContainerCgroup.create(layout, "pystack/k/web", resources).close()
    assert (own / "memory.swap.max").read_text() == "max"
    assert (own / "pids.max").read_text() == "max"


def test_controllers_are_delegated_on_the_way_down_only_when_a_control_file_is_missing(tmp_path: Path) -> None:
    layout, own = v2_tree(tmp_path, enabled="")
    (own / "pids.max").unlink()
    made = ContainerCgroup.create(layout, "pystack/k/web", {"pids": {"limit": 5}})
    made.close()
    # The tree of plain files grows no pids.max, so the limit is reported as not kept; the delegation was asked for.
    assert made.unenforced == ("pids",)
    for parent in (tmp_path, tmp_path / "pystack", tmp_path / "pystack/k"):
        assert (parent / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"


def test_memory_is_counted_on_v2_also_where_nothing_of_it_is_limited(tmp_path: Path) -> None:
    layout, own = v2_tree(tmp_path, enabled="")
    ContainerCgroup.create(layout, "pystack/k/web", {}).close()
    assert (own.parent / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"


def test_a_memory_limit_that_cannot_be_kept_is_an_error_that_names_the_controller(tmp_path: Path) -> None:
    layout, own = v2_tree(tmp_path)
    (own / "memory.max").unlink()
    with pytest.raises(HostError, match="memory") as caught:
        ContainerCgroup.create(layout, "pystack/k/web", RESOURCES)
    assert caught.value.hint is not None


def test_limits_on_the_hybrid_layout_go_to_v1_and_membership_to_the_unified_hierarchy(tmp_path: Path) -> None:
    roots = {name: str(tmp_path / name) for name in ("memory", "pids", "cpu", "freezer")}
    layout = Layout("hybrid", str(tmp_path / "unified"), roots)
    relative = "pystack/k/web"
    group(tmp_path / "memory" / relative, memory__limit_in_bytes="", memory__memsw__limit_in_bytes="")
    group(tmp_path / "pids" / relative, pids__max="")
    group(tmp_path / "cpu" / relative, cpu__cfs_quota_us="", cpu__cfs_period_us="", cpu__shares="")
    with ContainerCgroup.create(layout, relative, RESOURCES) as made:
        assert made.unified_fd is not None
        assert made.attach_paths == tuple(f"{roots[name]}/{relative}/tasks" for name in ("cpu", "memory", "pids"))
        probe = made.probe_group("probe-1")
        assert probe.attach_paths == made.attach_paths
        assert (tmp_path / "unified" / relative / "probe-1").is_dir()
        probe.close()
    assert (tmp_path / "memory" / relative / "memory.memsw.limit_in_bytes").read_text() == str(128 << 20)
    assert (tmp_path / "cpu" / relative / "cpu.cfs_quota_us").read_text() == "150000"
    assert not (tmp_path / "freezer").exists()


def test_v1_alone_uses_the_freezer_for_membership_and_probes_get_a_sub_group_of_it(tmp_path: Path) -> None:
    roots = {name: str(tmp_path / name) for name in ("memory", "pids", "freezer")}
    layout = Layout("v1", None, roots)
    relative = "pystack/k/web"
    group(tmp_path / "pids" / relative, pids__max="")
    made = ContainerCgroup.create(layout, relative, {"pids": {"limit": 7}})
    probe = made.probe_group("probe-1")
    assert made.unified_fd is None
    assert probe.attach_paths[0] == f"{roots['freezer']}/{relative}/probe-1/tasks"
    assert f"{roots['pids']}/{relative}/tasks" in probe.attach_paths
    assert f"{roots['freezer']}/{relative}/tasks" not in probe.attach_paths
    probe.remove()
    assert not (tmp_path / "freezer" / relative / "probe-1").exists()
    assert (tmp_path / "pids" / relative).is_dir()


def test_oom_kills_are_counted_in_either_version(tmp_path: Path) -> None:
    v2, own = v2_tree(tmp_path / "two")
    (own / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 2\noom_kill 2\noom_group_kill 0\n")
    assert open_existing(v2, "pystack/k/web").oom_kills() == 2
    v1 = Layout("v1", None, {"memory": str(tmp_path / "one")})
    group(tmp_path / "one/pystack/k/web", memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    assert open_existing(v1, "pystack/k/web").oom_kills() == 1
    assert open_existing(v1, "pystack/k/other").oom_kills() == 0


def test_leftovers_of_a_project_are_found_in_every_hierarchy(tmp_path: Path) -> None:
    layout = Layout("hybrid", str(tmp_path / "unified"), {"pids": str(tmp_path / "pids")})
    group(tmp_path / "unified/pystack/k/web")
    group(tmp_path / "pids/pystack/k/db")
    group(tmp_path / "pids/pystack/other/app")
    assert find_leftovers(layout, ProjectKey("k")) == ("db", "web")
    assert find_leftovers(layout, ProjectKey("none")) == ()


def test_a_deep_tree_is_listed_children_first_without_recursion(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(400):
        deep = deep / "d"
    deep.mkdir(parents=True)
    listed = cgroup.subtree(str(tmp_path / "d"))
    assert len(listed) == 400
    assert listed[0] == str(deep)
    assert cgroup.remove(str(tmp_path / "d"))
    assert not (tmp_path / "d").exists()
