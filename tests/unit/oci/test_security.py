"""Filters in Docker's format, CDI files, device lists and rights, as configs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.errors import HostError, InputError
from orchestrator.kernel.caps import CAPABILITIES
from orchestrator.kernel.device_filter import DeviceFilterRule
from orchestrator.model.devices import DeviceGrant, DeviceNode, DeviceRequest, DeviceRule, Devices
from orchestrator.model.namespaces import Namespace, Namespaces, Sharing
from orchestrator.model.seccomp import parse_profile, translate
from orchestrator.model.security import Security
from orchestrator.model.volume import Mount, MountKind
from orchestrator.oci.cdi import Edits, chosen, edits_of, parse_spec
from orchestrator.oci.confinement import privileged_process
from orchestrator.oci.devices import HostParts, PartMount
from orchestrator.oci.seccomp_profile import default_profile
from orchestrator.runtime import device_rules
from tests.unit.oci.test_oci import config, mount_at, service

ALLOW = "SCMP_ACT_ALLOW"
PROFILE: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 1,
    "archMap": [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
    ],
    "syscalls": [
        {"names": ["always"], "action": ALLOW, "comment": "", "includes": {}, "excludes": {}, "args": None},
        {"names": ["mount"], "action": ALLOW, "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["clone"], "action": ALLOW, "excludes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["arm64"]}},
        {"names": ["ptrace"], "action": ALLOW, "includes": {"minKernel": "4.8"}},
        {"names": ["old"], "action": ALLOW, "excludes": {"minKernel": "5.0"}},
        {"name": "arch_prctl", "action": ALLOW, "includes": {"arches": ["amd64", "x32"]}},
    ],
}


@pytest.mark.parametrize(
    ("machine", "held", "kernel", "names"),
    [
        ("x86_64", {"CAP_KILL"}, (6, 1), ["always", "clone", "ptrace", "arch_prctl"]),
        ("x86_64", {"CAP_SYS_ADMIN"}, (4, 7), ["always", "mount", "old", "arch_prctl"]),
        ("aarch64", set(), (4, 8), ["always", "ptrace", "old"]),
    ],
)
def test_entries_count_by_machine_capabilities_and_kernel(
    machine: str, held: set[str], kernel: tuple[int, int], names: list[str]
) -> None:
    made = translate(parse_profile(json.dumps(PROFILE)), machine, held, kernel)
    assert [name for call in made["syscalls"] for name in call["names"]] == names
    assert all(call.keys() == {"names", "action"} for call in made["syscalls"])
    assert made["architectures"][0] == {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}[machine]
    assert (made["defaultAction"], made["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 1)


def test_the_default_filter_knows_the_capabilities_that_are_added() -> None:
    plain = default_profile("x86_64")
    assert plain is default_profile("x86_64", ["CAP_KILL"])
    opened = default_profile("x86_64", ["CAP_SYS_ADMIN"])
    always = [call for call in opened["syscalls"] if call["action"] == ALLOW and not call.get("args")]
    allowed = {name for call in always for name in call["names"]}
    assert {"mount", "unshare", "clone3", "setns"} <= allowed
    assert "init_module" not in allowed


def test_the_filter_of_a_service() -> None:
    assert "seccomp" not in config(service(security=Security(seccomp="unconfined")))["linux"]
    assert "seccomp" not in config(service(security=Security(privileged=True)))["linux"]
    own = Security(privileged=True, seccomp=json.dumps({"defaultAction": ALLOW}))
    assert config(service(security=own))["linux"]["seccomp"] == {"defaultAction": ALLOW, "syscalls": []}


def test_a_privileged_config() -> None:
    bind = Mount(MountKind.BIND, "/x", "/host/x")
    host = Namespaces(user=Namespace(Sharing.HOST))
    made = config(service(security=Security(privileged=True), namespaces=host, volumes=(bind,)))
    linux = made["linux"]
    assert made["process"]["capabilities"]["effective"] == list(CAPABILITIES)
    assert (linux["maskedPaths"], linux["readonlyPaths"]) == ([], [])
    assert linux["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert "ro" not in mount_at(made, "/sys")["options"] + mount_at(made, "/sys/fs/cgroup")["options"]
    assert "nodev" not in mount_at(made, "/x")["options"]
    assert {"type": "user"} not in linux["namespaces"]


def test_without_devices_there_is_no_list_and_no_device_opens_below_a_bind() -> None:
    made = config(service(volumes=(Mount(MountKind.BIND, "/x", "/host/x"),)))
    assert "devices" not in made["linux"]["resources"]
    assert "devices" not in made["linux"]
    assert "rnodev" in mount_at(made, "/x")["options"]


def test_devices_become_nodes_and_rules() -> None:
    wanted = Devices((DeviceGrant("/dev/x", "/dev/y", "r"),), (DeviceRule("c", 89, -1, "rw"),))
    parts = HostParts(
        (DeviceNode("/dev/y", "c", 10, 229, 0o660, 0, 44, "r"),),
        ("A=2",),
        (PartMount("/lib/a", "/lib/b", ("ro", "nosuid")),),
        (44,),
    )
    made = config(service(devices=wanted, environment={"A": "1"}), parts=parts)
    node = {"path": "/dev/y", "type": "c", "major": 10, "minor": 229, "fileMode": 0o660, "uid": 0, "gid": 44}
    assert made["linux"]["devices"] == [node]
    assert made["linux"]["resources"]["devices"] == [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "r"},
        {"allow": True, "type": "c", "major": 89, "access": "rw"},
    ]
    assert "A=2" in made["process"]["env"]
    assert 44 in made["process"]["user"]["additionalGids"]
    assert mount_at(made, "/lib/b")["options"] == ["rbind", "rprivate", "idmap", "ro", "nosuid"]


def test_exec_privileged_has_every_capability() -> None:
    made = privileged_process({"args": ["x"], "capabilities": {"bounding": []}})
    assert made["args"] == ["x"]
    assert made["capabilities"]["effective"] == made["capabilities"]["bounding"] == list(CAPABILITIES)


# ---- the container device interface -------------------------------------------------------------------------------------


def spec(kind: str, *names: str, **edits: Any) -> Any:
    data = {"cdiVersion": "0.6.0", "kind": kind, "devices": [{"name": name, "containerEdits": edits} for name in names]}
    return parse_spec(f"/etc/cdi/{kind.replace('/', '-')}.json", data)


NVIDIA = spec("nvidia.com/gpu", "0", "1", "GPU-2f", "all")
OTHER = spec("acme.com/gpu", "x")
CARD = spec("acme.com/card", "x")


@pytest.mark.parametrize(
    ("specs", "request_", "names"),
    [
        ([NVIDIA], DeviceRequest(("gpu",)), ("nvidia.com/gpu=all",)),
        ([OTHER, NVIDIA], DeviceRequest(("gpu",)), ("nvidia.com/gpu=all",)),
        ([OTHER, CARD], DeviceRequest(("gpu",)), ("acme.com/gpu=x",)),
        ([NVIDIA], DeviceRequest(("gpu",), count=2), ("nvidia.com/gpu=0", "nvidia.com/gpu=1")),
        ([NVIDIA, OTHER], DeviceRequest(("gpu",), driver="nvidia", ids=("1",)), ("nvidia.com/gpu=1",)),
        ([CARD], DeviceRequest(driver="acme.com"), ("acme.com/card=x",)),
        ([CARD], DeviceRequest(driver="cdi", ids=("acme.com/card=x",)), ("acme.com/card=x",)),
    ],
)
def test_a_request_chooses_devices(specs: list[Any], request_: DeviceRequest, names: tuple[str, ...]) -> None:
    assert chosen(specs, request_) == names


def test_what_nobody_has_is_an_error_that_names_the_folders() -> None:
    with pytest.raises(HostError, match="/etc/cdi and /var/run/cdi have no CDI files"):
        chosen([], DeviceRequest(("gpu",), place="services.a.gpus[0]"))
    with pytest.raises(HostError, match=r'no CDI device "a.com/b=c": there are acme.com/card=x'):
        edits_of([CARD], "a.com/b=c")
    with pytest.raises(HostError, match=r"3 devices nvidia.com/gpu are asked for, and there are 2"):
        chosen([NVIDIA], DeviceRequest(("gpu",), count=3))


def test_a_later_folder_s_device_wins() -> None:
    assert edits_of([spec("a.com/b", "c", env=["A=1"]), spec("a.com/b", "c", env=["A=2"])], "a.com/b=c") == Edits(("A=2",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cdiVersion": "1.0.0"}, "cdiVersion '1.0.0' is not supported"),
        ({"kind": "gpu"}, "kind 'gpu' is not vendor.com/class"),
        ({"devices": [{}]}, r"devices\[0\] has no name"),
        ({"containerEdits": {"netDevices": []}}, "containerEdits.netDevices is not supported"),
        ({"containerEdits": {"intelRdt": {"closID": "x"}}}, "intelRdt is not supported"),
        ({"containerEdits": {"env": [1]}}, "env: 1 is not a string"),
        ({"containerEdits": {"deviceNodes": [{"path": "x"}]}}, "x is not an absolute path"),
        ({"containerEdits": {"deviceNodes": [{"path": "/x", "permissions": "x"}]}}, "the permissions 'x' are not made of"),
        ({"containerEdits": {"mounts": [{"hostPath": "/a", "containerPath": "/b", "type": "tmpfs"}]}}, "type 'tmpfs'"),
        ({"containerEdits": {"hooks": [{"hookName": "x"}]}}, "'x' is not the name of a hook"),
        ({"containerEdits": {"additionalGids": [-1]}}, "-1 is not a number"),
    ],
)
def test_a_file_that_says_something_else_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse_spec("/etc/cdi/x.json", {"cdiVersion": "0.5.0", "kind": "a.com/b", "devices": [], **change})
    assert "/etc/cdi/x.json" in caught.value.message


# ---- the list of a group ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"allow": True, "type": "x"}, "is not a kind of device"),
        ({"allow": True, "access": "rx"}, "is not made of r, w and m"),
        ({"allow": True, "major": -2}, "-2 is not the number of a device"),
    ],
)
def test_a_rule_that_says_nothing_is_refused(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        device_rules.rules_of({"devices": [rule]})


def test_all_is_refused_before_the_list_begins_and_the_usual_devices_come_last() -> None:
    rules = device_rules.rules_of({"devices": []})
    assert rules is not None
    assert rules[0] == DeviceFilterRule(False)
    assert DeviceFilterRule(True, 2, 1, 3) in rules
    assert not any(rule.allow and rule.major == 10 for rule in rules)
    assert device_rules.rules_of({}) is None
