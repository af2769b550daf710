"""Every key of a config is read or refused. That what the table calls read is read is seen by a dict that remembers."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from orchestrator.contracts.runtime import OciConfig, SandboxSpec
from orchestrator.contracts.site import IdMap, Site
from orchestrator.errors import InputError
from orchestrator.kernel.seccomp import program_of
from orchestrator.model.names import ContainerId, ProjectKey, ProjectName, ServiceName, cgroup_path
from orchestrator.model.service import Service
from orchestrator.oci.compile import compile_sandbox
from orchestrator.oci.inputs import SandboxInputs
from orchestrator.oci.namespaces import HOST_IDS, ids_of, own_namespaces
from orchestrator.oci.schema import REFUSED, ROWS, Kind, Row, Use
from orchestrator.oci.terms import ANNOTATION_SUBPATHS, ORDERS
from orchestrator.oci.validate import validate
from orchestrator.runtime import device_rules
from orchestrator.runtime.bundle import make_bind_sources
from orchestrator.runtime.programs import Context, Hierarchy, compile_exec, compile_start
from orchestrator.runtime.resources import settings_of
from tests.unit.oci.test_oci import APP, FULL, FULL_PATHS, HOST

SITE = Site(ProjectName("shop"), ProjectKey("0123abcd"), "/d", "/r", IdMap(1_000_000))
BOX = ContainerId("shop-web-1")
GROUP = cgroup_path(SITE.key, BOX)
MAPPING = [{"containerID": 0, "hostID": 1_000_000, "size": 65536}]
CAPABILITIES = ["CAP_KILL"]

WHOLE: dict[str, Any] = {
    "ociVersion": "1.2.0",
    "process": {
        "terminal": False,
        "user": {"uid": 5, "gid": 6, "umask": 0o77, "additionalGids": [6, 7]},
        "args": ["serve"],
        "env": ["A=1"],
        "cwd": "/srv",
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted", "inheritable", "ambient"), CAPABILITIES),
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 64, "hard": (1 << 64) - 1}],
        "noNewPrivileges": True,
        "oomScoreAdj": 100,
    },
    "root": {"path": "rootfs", "readonly": True},
    "hostname": "h",
    "domainname": "d",
    "mounts": [
        {"destination": "/x", "type": "bind", "source": "/y", "options": ["rbind", "ro"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []},
    ],
    "annotations": dict.fromkeys(sorted(ORDERS), "[]") | {ANNOTATION_SUBPATHS: "{}", "org.example": "x"},
    "linux": {
        "namespaces": [{"type": kind} for kind in ("user", "network", "pid", "mount", "uts", "ipc", "cgroup")],
        "uidMappings": MAPPING,
        "gidMappings": MAPPING,
        "cgroupsPath": f"/{GROUP}",
        "resources": {
            "memory": {
                "limit": 1 << 26, "reservation": 1 << 25, "swap": 1 << 27, "kernel": -1, "kernelTCP": -1, "swappiness": 10,
                "disableOOMKiller": True, "useHierarchy": False, "checkBeforeUpdate": True,
            },
            "pids": {"limit": 100},
            "cpu": {
                "shares": 512, "quota": 50_000, "period": 100_000, "burst": 5, "idle": 1, "cpus": "0-1", "mems": "0",
                "realtimePeriod": 1_000_000, "realtimeRuntime": 500,
            },
            "blockIO": {
                "weight": 10, "leafWeight": 10,
                "weightDevice": [{"major": 8, "minor": 0, "weight": 500, "leafWeight": 300}],
                "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}],
                "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 600}],
                "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 600}],
                "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 600}],
            },
            "hugepageLimits": [{"pageSize": "2MB", "limit": 1 << 21}],
            "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 500}]},
            "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}},
            "unified": {"memory.high": "1000000"},
            "devices": [{"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}],
        },
        "devices": [{"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229, "fileMode": 438, "uid": 5, "gid": 6}],
        "sysctl": {"net.ipv4.ip_forward": "1"},
        "seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 1,
            "architectures": ["SCMP_ARCH_X86_64"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "syscalls": [
                {
                    "names": ["clone"],
                    "action": "SCMP_ACT_ERRNO",
                    "errnoRet": 38,
                    "args": [{"index": 0, "value": 1, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}],
                }
            ],
        },
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
    },
}
"""A config with every key that there is a row for."""


def fresh() -> dict[str, Any]:
    """A copy of WHOLE in which nothing is shared."""
    copied: dict[str, Any] = json.loads(json.dumps(WHOLE))
    return copied


def check(config: dict[str, Any]) -> None:
    validate(OciConfig(config), SITE.ids, GROUP)


def at(config: Any, path: str) -> tuple[Any, Any]:
    """The container and the key of the value at `path` in a copy of WHOLE."""
    steps: list[Any] = []
    for part in path.split("."):
        name, *lists = part.split("[]")
        steps += [name, *([0] * len(lists))] if name else [0] * len(lists)
    if steps[-1] == "*":
        steps[-1] = None
    for step in steps[:-1]:
        config = config[min(config) if step == "*" else step]
    return config, steps[-1] if steps[-1] is not None else min(config)


def test_the_whole_config_passes_and_each_row_is_in_it() -> None:
    check(WHOLE)
    for row in ROWS:
        holder, key = at(WHOLE, row.path)
        assert holder[key] is not None, row.path


def test_what_we_compile_ourselves_passes() -> None:
    plain = Service(ServiceName("web"), "host", command=("sleep", "1"))
    check(compile_sandbox(SandboxInputs(SITE, BOX, plain, HOST)).config)
    check(compile_sandbox(SandboxInputs(SITE, BOX, FULL, APP, volume_paths=FULL_PATHS)).config)


WRONG: dict[Kind, Any] = {
    Kind.OBJECT: ["a"], Kind.MAP: "a", Kind.LIST: {"a": 1}, Kind.TEXT: 7, Kind.FLAG: "yes", Kind.NUMBER: True,
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.path)
def test_a_wrong_type_is_named_with_its_path(row: Row) -> None:
    check(WHOLE)  # Its parts have passed, and are not looked at again as long as they are the same.
    config = fresh()
    holder, key = at(config, row.path)
    holder[key] = WRONG[row.kind]
    with pytest.raises(InputError) as caught:
        check(config)
    place = row.path.replace("[]", "[0]").replace(".*.", ".mlx5_1.").replace("*", str(key))
    assert caught.value.message.startswith(f"{place}: ")
    assert caught.value.message.endswith(f"is not {row.kind.value}")


@pytest.mark.parametrize("row", [row for row in ROWS if row.kind is Kind.NUMBER], ids=lambda row: row.path)
@pytest.mark.parametrize("end", ["low", "high"])
def test_a_number_out_of_range_is_refused(row: Row, end: str) -> None:
    check(WHOLE)
    config = fresh()
    holder, key = at(config, row.path)
    holder[key] = row.low - 1 if end == "low" else row.high + 1
    with pytest.raises(InputError, match="is not between"):
        check(config)


def test_what_equals_what_has_passed_and_is_of_another_type_is_refused() -> None:
    config = fresh()
    config["linux"]["resources"]["pids"] = {"limit": 1}
    check(config)
    config["linux"]["resources"]["pids"]["limit"] = True
    with pytest.raises(InputError, match=r"pids\.limit: True is not"):
        check(config)
    config["linux"]["resources"]["pids"]["limit"] = 1
    check(config)


@pytest.mark.parametrize("path", sorted(REFUSED))
def test_what_is_not_done_is_refused_and_not_ignored(path: str) -> None:
    config = fresh()
    holder, key = at(config, path)
    holder[key] = {}
    with pytest.raises(InputError) as caught:
        check(config)
    assert caught.value.message == f"{path.replace('[]', '[0]')} is not supported"


@pytest.mark.parametrize("row", [row for row in ROWS if row.kind is Kind.OBJECT], ids=lambda row: row.path)
def test_an_unknown_key_is_refused_everywhere(row: Row) -> None:
    config = fresh()
    holder, key = at(config, row.path)
    holder[key]["cgroupPath"] = "/x"
    with pytest.raises(InputError, match="cgroupPath is not known to the runtime-spec"):
        check(config)


@pytest.mark.parametrize("row", [row for row in ROWS if row.needed], ids=lambda row: row.path)
@pytest.mark.parametrize("absent", [True, False])
def test_what_the_spec_requires_is_required(row: Row, absent: bool) -> None:
    config = fresh()
    holder, key = at(config, row.path)
    if absent:
        del holder[key]
    else:
        holder[key] = None
    with pytest.raises(InputError) as caught:
        check(config)
    assert caught.value.message == f"{row.path.replace('[]', '[0]')} is missing"


OTHERWISE: dict[str, Any] = {
    "ociVersion": "2.0.0",
    "linux.uidMappings": [{"containerID": 0, "hostID": 0, "size": 65536}],
    "linux.gidMappings": [],
    "linux.cgroupsPath": "/elsewhere",
}


@pytest.mark.parametrize("path", OTHERWISE)
def test_a_settled_key_that_says_otherwise_is_refused_with_what_is_done(path: str) -> None:
    config = fresh()
    holder, key = at(config, path)
    holder[key] = OTHERWISE[path]
    with pytest.raises(InputError) as caught:
        check(config)
    note = next(row.note for row in ROWS if row.path == path)
    assert caught.value.message.endswith(f"is not supported: {note}")


def test_every_settled_key_has_its_demand_and_every_free_one_its_reason() -> None:
    settled = {row.path.split("[]")[0] for row in ROWS if row.use is Use.SETTLED}
    assert settled == OTHERWISE.keys()
    assert all(row.note for row in ROWS if row.use is not Use.READ)


def test_namespaces_that_are_not_named_are_the_hosts() -> None:
    config = fresh()
    del config["linux"]["uidMappings"], config["linux"]["gidMappings"]
    config["linux"]["namespaces"] = [{"type": "mount"}, {"type": "pid"}]
    check(config)
    assert own_namespaces(config) == {"mount", "pid"}
    assert ids_of(config, SITE.ids) == HOST_IDS
    assert ids_of(WHOLE, SITE.ids) == SITE.ids


@pytest.mark.parametrize(
    ("types", "wrong"),
    [
        (["pid"], r"^linux\.namespaces: a container without a mount namespace is not supported$"),
        ([], "without a mount namespace"),
        (["mount", "time"], r"^linux\.namespaces\[1\]\.type: 'time' is not a namespace: user, network, "),
        (["mount", "pid", "pid"], r"^linux\.namespaces\[2\]\.type: 'pid' is there already$"),
        (["mount"], r"^linux\.uidMappings: the host's user namespace has no id mappings$"),
    ],
)
def test_namespaces_that_cannot_be_are_refused(types: list[str], wrong: str) -> None:
    config = fresh()
    config["linux"]["namespaces"] = [{"type": kind} for kind in types]
    with pytest.raises(InputError) as caught:
        check(config)
    assert re.search(wrong, str(caught.value))


def test_no_command_at_all_is_refused() -> None:
    config = fresh()
    config["process"]["args"] = []
    with pytest.raises(InputError, match=r"process\.args is empty"):
        check(config)


def test_a_nul_in_a_string_is_refused_in_lists_too() -> None:
    for path in ("process.args[]", "process.env[]", "hostname", "mounts[].destination"):
        config = fresh()
        holder, key = at(config, path)
        holder[key] = "a\0b"
        with pytest.raises(InputError, match="NUL"):
            check(config)


# ---- what is read is read ---------------------------------------------------------------------------------------------


class Seen(dict[str, Any]):
    """A dict that remembers which of its keys were asked for, in `seen`, by their path in the schema."""

    def __init__(self, content: dict[str, Any], path: str, seen: set[str]) -> None:
        maps = {row.path for row in ROWS if row.kind is Kind.MAP}
        self._path, self._seen, self._is_map = path, seen, path in maps
        super().__init__({key: _watched(value, self._of(key), seen) for key, value in content.items()})

    def _of(self, key: str) -> str:
        own = "*" if self._is_map else key
        return f"{self._path}.{own}" if self._path else own

    def __getitem__(self, key: str) -> Any:
        self._seen.add(self._of(key))
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self._seen.add(self._of(key))
        return super().get(key, default)

    def items(self) -> Any:
        self._seen.update(self._of(key) for key in self)
        return super().items()


class SeenList(list[Any]):
    def __init__(self, items: list[Any], path: str, seen: set[str]) -> None:
        self._path, self._seen = f"{path}[]", seen
        super().__init__(_watched(item, self._path, seen) for item in items)

    def __iter__(self) -> Iterator[Any]:
        self._seen.add(self._path)
        return super().__iter__()


def _watched(value: Any, path: str, seen: set[str]) -> Any:
    if isinstance(value, dict):
        return Seen(value, path, seen)
    return SeenList(value, path, seen) if isinstance(value, list) else value


def test_every_key_that_the_table_calls_read_decides_something() -> None:
    seen: set[str] = set()
    config = Seen(WHOLE, "", seen)
    filter_: Callable[[Any], bytes] = lambda profile: repr(program_of(profile, os.uname().machine)).encode()  # noqa: E731
    place = Context("/b", 1_000_000, (1,), True, (Hierarchy("memory", ("memory",)),), 40, filter_)
    spec = SandboxSpec(BOX, ("/l",), OciConfig(config))
    compile_start(spec, place)
    compile_exec(config["process"], config, place, terminal=False)
    settings_of(config["linux"]["resources"])
    device_rules.rules_of(config["linux"]["resources"])
    make_bind_sources(spec)
    read = {row.path for row in ROWS if row.use is Use.READ}
    assert read - seen == set()
    assert {path for path in seen - read if not path.startswith("annotations")} == set()
