"""OCI resources as writes to control files: conversions, what each version has, and changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import HostError, InputError
from orchestrator.kernel.cgroup import Layout
from orchestrator.runtime.cgroup_limits import Places, apply, change
from orchestrator.runtime.resources import settings_of

DEVICE = {"major": 8, "minor": 0}


def v2_files(resources: dict[str, Any]) -> dict[str, str]:
    """First file and value on v2."""
    return {setting.v2[0].name: setting.v2[0].value for setting in settings_of(resources) if setting.v2}


@pytest.mark.parametrize(
    ("resources", "files"),
    [
        ({"cpu": {"shares": 2}}, {"cpu.weight": "1"}),
        ({"cpu": {"shares": 1024}}, {"cpu.weight": "39"}),
        ({"cpu": {"shares": 262_144}}, {"cpu.weight": "10000"}),
        ({"cpu": {"shares": 0}}, {}),
        ({"cpu": {"quota": 5, "period": 10}}, {"cpu.max": "5 10"}),
        ({"cpu": {"quota": -1}}, {"cpu.max": "max 100000"}),
        ({"cpu": {"period": 70}}, {"cpu.max": "max 70"}),
        ({"cpu": {"burst": 7, "idle": 1}}, {"cpu.max.burst": "7", "cpu.idle": "1"}),
        ({"cpu": {"cpus": "0-1", "mems": ""}}, {"cpuset.cpus": "0-1"}),
        ({"memory": {"limit": -1, "reservation": 9}}, {"memory.max": "max", "memory.low": "9"}),
        ({"memory": {"limit": 10, "swap": 10}}, {"memory.max": "10", "memory.swap.max": "0"}),
        ({"memory": {"limit": 10, "swap": 30}}, {"memory.max": "10", "memory.swap.max": "20"}),
        ({"memory": {"useHierarchy": True, "disableOOMKiller": False}}, {}),
        ({"pids": {"limit": 0}}, {"pids.max": "max"}),
        ({"blockIO": {"weight": 10}}, {"io.bfq.weight": "10"}),
        ({"blockIO": {"throttleReadBpsDevice": [{**DEVICE, "rate": 5}]}}, {"io.max": "8:0 rbps=5"}),
        ({"blockIO": {"throttleWriteIOPSDevice": [{**DEVICE, "rate": 0}]}}, {"io.max": "8:0 wiops=max"}),
        ({"hugepageLimits": [{"pageSize": "2MB", "limit": 4}]}, {"hugetlb.2MB.max": "4", "hugetlb.2MB.rsvd.max": "4"}),
        ({"rdma": {"mlx": {"hcaHandles": 3}}}, {"rdma.max": "mlx hca_handle=3"}),
        ({"unified": {"memory.high": "7"}}, {"memory.high": "7"}),
    ],
)
def test_conversions_to_v2(resources: dict[str, Any], files: dict[str, str]) -> None:
    assert v2_files(resources) == files


def test_a_weight_of_block_devices_has_two_scales_on_v2() -> None:
    (setting,) = settings_of({"blockIO": {"weight": 1000}})
    assert [(file.name, file.value) for file in setting.v2] == [("io.bfq.weight", "1000"), ("io.weight", "10000")]


@pytest.mark.parametrize(
    "resources",
    [
        {"unified": {"cgroup.freeze": "1"}},
        {"unified": {"../memory.high": "1"}},
        {"unified": {"tasks": "1"}},
        {"hugepageLimits": [{"pageSize": "2M/../x", "limit": 4}]},
        {"network": {"priorities": [{"name": "a b", "priority": 1}]}},
        {"rdma": {"a b": {}}},
        {"memory": {"swap": 5}},
    ],
)
def test_what_could_be_another_file_or_line_is_refused(resources: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        settings_of(resources)


def places(tmp_path: Path, *files: str) -> tuple[Places, Path]:
    """A v1 group made of plain files."""
    group = tmp_path / "a"
    group.mkdir()
    for name in files:
        (group / name).write_text("old")
    controllers = dict.fromkeys(("memory", "cpu", "blkio", "pids"), str(tmp_path))
    return Places(Layout("v1", None, controllers), "a", dict.fromkeys(controllers, str(group))), group


def test_what_is_said_no_more_is_lifted_and_what_stays_is_not_written(tmp_path: Path) -> None:
    at, group = places(tmp_path, "cpu.shares", "pids.max", "memory.swappiness", "blkio.throttle.read_bps_device")
    (tmp_path / "memory.swappiness").write_text("60")
    before = {
        "cpu": {"shares": 5}, "pids": {"limit": 9}, "memory": {"swappiness": 1},
        "blockIO": {"throttleReadBpsDevice": [{**DEVICE, "rate": 5}]},
    }  # fmt: skip
    change(settings_of(before), settings_of({"pids": {"limit": 9}}), at)
    assert (group / "cpu.shares").read_text() == "1024"
    assert (group / "blkio.throttle.read_bps_device").read_text() == "8:0 0"
    assert (group / "memory.swappiness").read_text() == "60d"
    assert (group / "pids.max").read_text() == "old"


def test_a_limit_below_the_present_use_is_refused_where_that_is_to_be_checked(tmp_path: Path) -> None:
    at, group = places(tmp_path, "memory.limit_in_bytes", "memory.usage_in_bytes")
    (group / "memory.usage_in_bytes").write_text("100")
    checked = {"memory": {"limit": 99, "checkBeforeUpdate": True}}
    with pytest.raises(HostError, match="100 bytes are in use"):
        apply(settings_of(checked), at)
    apply(settings_of({"memory": {"limit": 100, "checkBeforeUpdate": True}}), at)


def test_a_controller_that_is_missing_is_named(tmp_path: Path) -> None:
    at, _ = places(tmp_path)
    with pytest.raises(HostError, match=r'"network.classID" needs the cgroup controller net_cls') as caught:
        apply(settings_of({"network": {"classID": 1}}), at)
    assert caught.value.hint
    assert caught.value.place == "linux.resources.network.classID"
