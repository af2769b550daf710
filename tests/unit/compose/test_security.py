"""Rights and devices of a service: what is read, and where each mistake is written."""

from __future__ import annotations

import json
import os

import pytest

from orchestrator.model.devices import ALL_OF_THEM, ANY, DeviceGrant, DeviceRequest, DeviceRule
from orchestrator.model.names import ServiceName
from orchestrator.model.namespaces import Sharing
from orchestrator.model.service import Service
from orchestrator.plan.hashing import config_hash
from tests.unit.compose.stacks import Stack


def service(stack: Stack, text: str) -> Service:
    return stack.load(f"services: {{a: {{image: host, {text}}}}}\n").project.services[ServiceName("a")]


def test_capabilities_in_every_spelling(stack: Stack) -> None:
    read = service(stack, "cap_add: [NET_RAW, cap_net_admin, Cap_Kill, all], cap_drop: [ALL, mknod]")
    assert read.cap_add == ("CAP_NET_RAW", "CAP_NET_ADMIN", "CAP_KILL", "ALL")
    assert read.cap_drop == ("ALL", "CAP_MKNOD")


def test_a_privileged_service_is_in_the_host_s_user_namespace(stack: Stack) -> None:
    read = service(stack, "privileged: true")
    assert read.security.privileged
    assert read.namespaces.user.sharing is Sharing.HOST
    assert service(stack, "privileged: false").namespaces.user.sharing is Sharing.PRIVATE


def test_what_a_privileged_service_would_drop_is_told_to_stay(stack: Stack) -> None:
    text = "services:\n  a:\n    image: host\n    privileged: {}\n    cap_drop: [ALL]\n"
    (warning,) = stack.load(text.format("true")).warnings
    assert (warning.line, warning.path) == (5, "services.a.cap_drop")
    assert not stack.load(text.format("false")).warnings


def test_devices_rules_and_requests(stack: Stack) -> None:
    read = service(
        stack,
        "devices: [/dev/fuse, '/dev/a:/dev//b/:r', 'vendor.com/class=name'], "
        "device_cgroup_rules: ['c 89:* wr', 'a *:* m'], "
        "gpus: [{driver: nvidia, device_ids: ['0']}], "
        "deploy: {resources: {reservations: {devices: [{capabilities: [gpu], count: 2}]}}}",
    ).devices
    assert read.grants == (
        DeviceGrant("/dev/fuse", "/dev/fuse", "rwm", "services.a.devices[0]"),
        DeviceGrant("/dev/a", "/dev/b", "r", "services.a.devices[1]"),
        DeviceGrant("vendor.com/class=name", "vendor.com/class=name", "rwm", "services.a.devices[2]"),
    )
    assert read.rules == (DeviceRule("c", 89, ANY, "rw"), DeviceRule("a", ANY, ANY, "m"))
    assert read.requests == (
        DeviceRequest(("gpu",), "nvidia", ALL_OF_THEM, ("0",), {}, "services.a.gpus[0]"),
        DeviceRequest(("gpu",), "", 2, (), {}, "services.a.deploy.resources.reservations.devices[0]"),
    )


def test_a_filter_counts_with_its_content(stack: Stack) -> None:
    text = "services: {a: {image: host, security_opt: ['seccomp:own.json']}}\n"
    hashes = []
    for content in ('{"defaultAction": "X"}', '{ "defaultAction":"X" }', '{"defaultAction": "SCMP_ACT_LOG"}'):
        stack.write("own.json", content.replace("X", "SCMP_ACT_ALLOW"))
        project = stack.load(text).project
        hashes.append(config_hash(project, project.services[ServiceName("a")], ""))
    assert hashes[0] == hashes[1] != hashes[2]


BAD = {
    "cap_add: [NET_ADMN]": ('cap_add[0]: there is no capability "NET_ADMN" (did you mean "NET_ADMIN"?)',),
    "cap_drop: [x, KILL]": ('cap_drop[0]: there is no capability "x"',),
    "security_opt: [seccmp=x]": ('security_opt[0]: there is no security option "seccmp" (did you mean "seccomp"?)',),
    "security_opt: ['no-new-privileges:yes']": ('security_opt[0]: "yes" is neither true nor false',),
    "security_opt: [systempaths=open]": ('security_opt[0]: "open" is not unconfined',),
    "security_opt: [seccomp=gone.json]": ('security_opt[0]: the file "gone.json" does not exist',),
    "security_opt: [seccomp]": ("security_opt[0]: seccomp needs a file, unconfined or builtin",),
    "security_opt: ['label:']": ('security_opt[0]: "label:" says no label',),
    "sysctls: {kernel.core_pattern: x}": (
        'sysctls.kernel.core_pattern: "kernel.core_pattern" belongs to the whole machine, '
        "and no container has one of its own",
    ),
    "sysctls: [vm.swappiness=1]": (
        'sysctls.vm.swappiness: "vm.swappiness" belongs to the whole machine, and no container has one of its own',
    ),
    "sysctls: {net/../kernel/core_pattern: x}": (
        'sysctls.net/../kernel/core_pattern: "net.//.kernel.core_pattern" is not the name of a kernel parameter',
    ),
    "sysctls: {net.core.somaxconn: ''}": ('sysctls.net.core.somaxconn: "net.core.somaxconn" has no value',),
    "devices: [fuse]": ('devices[0]: "fuse" is not the path of a device',),
    "devices: ['/dev/fuse:x']": ('devices[0]: the target "x" is not an absolute path',),
    "devices: ['/dev/fuse:/dev/shm/x']": (
        "devices[0]: a device cannot be made at /dev/shm/x: another file system is mounted there",
    ),
    "devices: ['/dev/fuse:/dev']": ("devices[0]: a device cannot be made at /dev",),
    "devices: ['/dev/fuse:/dev/fuse:rx']": (
        'devices[0]: "rx" is not what one may do with a device (of r, w and m: rwm)',
    ),
    "device_cgroup_rules: ['c 1:3']": (
        'device_cgroup_rules[0]: "c 1:3" is not a device rule (write TYPE MAJOR:MINOR ACCESS: c 89:* rwm)',
    ),
    "device_cgroup_rules: ['c 9999999999:3 r']": ("device_cgroup_rules[0]: 9999999999 is not the number of a device",),
    "gpus: [{count: 0}]": ('gpus[0].count: "0" is not a number of devices, nor all',),
}  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_each_mistake_is_named_with_its_place(stack: Stack, text: str) -> None:
    messages = stack.messages(f"services:\n  a:\n    image: host\n    {text}\n")
    assert [message.partition("services.a.")[2] for message in messages] == list(BAD[text])
    assert all(message.startswith("compose.yaml:4:") for message in messages)


BAD_PROFILES = {
    "[": "is not JSON",
    "[]": "is not a JSON object",
    '{"defaultAction": "SCMP_ACT_KILLED"}': "defaultAction: 'SCMP_ACT_KILLED' is not an action",
    '{"defaultAction": "SCMP_ACT_NOTIFY"}': "SCMP_ACT_NOTIFY is not supported: nobody listens here",
    '{"defaultAction": "SCMP_ACT_ALLOW", "syscall": []}': "syscall is not known to the format",
    '{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["X"]}': "flags: 'X' is not one of",
    '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": "a", "action": "SCMP_ACT_LOG"}]}': "names is not a list",
    '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_ALLOW", "args": [{"index": 9}]}]}': (
        "there is no argument 9"
    ),
    '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "x"}}]}': (
        "minKernel: 'x' is not a version"
    ),
    '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_ALLOW", "includes": {"cap": []}}]}': (
        "syscalls[0].includes.cap is not known"
    ),
    '{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["a"], "archMap": [{"architecture": "b"}]}': "exclude each other",
    '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "a", "names": ["b"], "action": "SCMP_ACT_ALLOW"}]}': (
        "name and names exclude each other"
    ),
}


@pytest.mark.parametrize("content", BAD_PROFILES)
def test_a_filter_that_cannot_be_compiled_is_refused_at_load(stack: Stack, content: str) -> None:
    stack.write("own.json", content)
    (message,) = stack.messages("services: {a: {image: host, security_opt: [seccomp=own.json]}}\n")
    assert 'security_opt[0]: the seccomp profile "own.json"' in message
    assert BAD_PROFILES[content] in message


def test_a_filter_is_a_regular_file_of_bounded_size(stack: Stack) -> None:
    text = "services: {a: {image: host, security_opt: [seccomp=own.json]}}\n"
    os.mkfifo(stack.folder / "own.json")
    assert "is a FIFO, not a regular file" in stack.messages(text)[0]
    (stack.folder / "own.json").unlink()
    (stack.folder / "own.json").write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "x": "y" * 2**20}))
    assert "is too large" in stack.messages(text)[0]


def test_what_would_have_no_effect_is_said(stack: Stack) -> None:
    loaded = stack.load(
        "services: {a: {image: host, cap_add: [SYS_TIME, NET_ADMIN], device_cgroup_rules: ['c 1:3 r'], "
        "volumes: ['/dev:/dev2']}, b: {image: host, privileged: true, cap_add: [SYS_TIME]}}\n"
    )
    assert [(item.path, item.code) for item in loaded.warnings] == [
        ("services.a.cap_add[0]", "no-effect"),
        ("services.a.volumes[0]", "no-effect"),
    ]
