"""What a container uses, where machines have it: unified, v1 and hybrid hierarchies as folders of files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.kernel.cgroup import Layout
from orchestrator.runtime.usage import Usage, peak_memory_bytes, usage_of

GROUP = "pystack/k/web"


def filled(root: Path, files: dict[str, str]) -> str:
    (root / GROUP).mkdir(parents=True)
    (root / GROUP / "cgroup.procs").write_text("")
    for name, text in files.items():
        (root / GROUP / name).write_text(text)
    return str(root)


@pytest.fixture
def unified(tmp_path: Path) -> Layout:
    files = {
        "memory.current": "5000\n",
        "memory.max": "20000\n",
        "memory.peak": "9000\n",
        "memory.stat": "anon 3000\ninactive_file 1500\n",
        "pids.current": "7\n",
        "cpu.stat": "usage_usec 2500000\nuser_usec 1\n",
        "io.stat": "8:0 rbytes=100 wbytes=30 rios=1\n8:16 rbytes=5 wbytes=7 rios=1\n",
    }
    return Layout("v2", filled(tmp_path / "unified", files), {})


@pytest.fixture
def v1(tmp_path: Path) -> Layout:
    files = {
        "memory": {
            "memory.usage_in_bytes": "5000\n",
            "memory.limit_in_bytes": "20000\n",
            "memory.max_usage_in_bytes": "9000\n",
            "memory.stat": "inactive_file 1\ntotal_inactive_file 1500\n",
        },
        "pids": {"pids.current": "7\n"},
        "cpuacct": {"cpuacct.usage": "2500000000\n"},
        "blkio": {
            "blkio.throttle.io_service_bytes_recursive": "8:0 Read 100\n8:0 Write 30\n8:8 Read 5\n8:8 Write 7\nTotal 142\n"
        },
    }
    return Layout("v1", None, {name: filled(tmp_path / name, each) for name, each in files.items()})


def test_a_machine_with_the_unified_hierarchy(unified: Layout) -> None:
    found = usage_of(unified, GROUP, os.getpid())
    assert found == Usage(found.at_s, 2.5, 3500, 20000, 0, 0, 105, 37, 7)
    assert peak_memory_bytes(unified, GROUP) == 9000


def test_a_machine_with_v1_hierarchies(v1: Layout) -> None:
    found = usage_of(v1, GROUP, os.getpid())
    assert found == Usage(found.at_s, 2.5, 3500, 20000, 0, 0, 105, 37, 7)
    assert peak_memory_bytes(v1, GROUP) == 9000


def test_without_a_limit_it_is_the_machines_memory(unified: Layout) -> None:
    Path(f"{unified.unified}/{GROUP}/memory.max").write_text("max\n")
    assert usage_of(unified, GROUP, 0).limit_bytes == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_without_counters_the_processes_are_added_up(tmp_path: Path) -> None:
    root = filled(tmp_path / "freezer", {"cgroup.procs": f"{os.getpid()}\n"})
    found = usage_of(Layout("v1", None, {"freezer": root}), GROUP, os.getpid())
    assert found.cpu_s > 0
    assert found.pids >= 1
    assert peak_memory_bytes(Layout("v1", None, {"freezer": root}), GROUP) is None


def test_what_has_just_ended_uses_nothing(tmp_path: Path) -> None:
    found = usage_of(Layout("v2", str(tmp_path), {}), GROUP, 0)
    assert (found.cpu_s, found.memory_bytes, found.pids, found.received_bytes) == (0, 0, 0, 0)


def test_the_share_of_processors_between_two_looks() -> None:
    assert Usage(12.0, 5.0).cpu_share(Usage(10.0, 2.0)) == 1.5
    assert Usage(12.0, 0.5).cpu_share(Usage(10.0, 2.0)) == 0, "another container of that name"
    assert Usage(10.0, 5.0).cpu_share(Usage(10.0, 2.0)) == 0
