"""What a service says of its rights in a compose file, seen from inside its container."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from orchestrator.errors import HostError
from orchestrator.kernel.caps import CAPABILITIES
from orchestrator.oci.confinement import DEFAULT_CAPABILITIES
from orchestrator.runtime.host_check import find_host
from tests.kernel.place import place
from tests.kernel.service_box import Box

pytestmark = pytest.mark.kernel


@pytest.fixture
async def box(leaves_nothing_behind: None, busybox_rootfs: Path, tmp_path: Path) -> AsyncGenerator[Box, None]:
    async with place(busybox_rootfs) as opened:
        yield Box(opened, tmp_path)


def mask(*names: str) -> str:
    return f"{sum(1 << CAPABILITIES[name] for name in names):016x}"


CAPS = "grep -E '^Cap(Bnd|Eff)' /proc/self/status | cut -f2 | uniq"


@pytest.mark.parametrize(
    ("attributes", "held"),
    [
        ("cap_add: [net_admin]", (*DEFAULT_CAPABILITIES, "CAP_NET_ADMIN")),
        ("cap_drop: [CAP_KILL, chown]", tuple({*DEFAULT_CAPABILITIES} - {"CAP_KILL", "CAP_CHOWN"})),
        ("cap_drop: [ALL], cap_add: [Chown]", ("CAP_CHOWN",)),
        ("cap_drop: [all]", ()),
        ("cap_add: [ALL], cap_drop: [sys_admin]", tuple({*CAPABILITIES} - {"CAP_SYS_ADMIN"})),
    ],
)
async def test_capabilities_are_those_asked_for(box: Box, attributes: str, held: tuple[str, ...]) -> None:
    assert await box.run(attributes, CAPS) == [mask(*held)]


async def test_a_capability_opens_the_calls_that_are_for_it(box: Box) -> None:
    script = "mkdir -p /m; mount -t tmpfs t /m && echo mounted; ip link add d type dummy && ip -o link | grep -c d:"
    assert (await box.run("cap_add: [SYS_ADMIN, NET_ADMIN]", script))[0] == "mounted"
    assert all("mounted" not in line for line in await box.run("read_only: false", script))


async def test_no_new_privileges(box: Box) -> None:
    for attributes, said in (
        ("security_opt: ['no-new-privileges:true']", "1"),
        ("security_opt: [no-new-privileges]", "1"),
        ("security_opt: ['no-new-privileges=false']", "0"),
    ):
        assert await box.run(attributes, "grep NoNewPrivs /proc/self/status | cut -f2") == [said]


async def test_filters(box: Box) -> None:
    count = "grep -E '^Seccomp:' /proc/self/status | cut -f2; mkdir /made && echo made"
    assert await box.run("security_opt: ['seccomp=unconfined']", count) == ["0", "made"]
    assert await box.run("security_opt: ['seccomp:builtin']", count.replace("/made", "/more")) == ["2", "made"]
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28, "includes": {"caps": ["CAP_KILL"]}},
            {"name": "rmdir", "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_CHOWN"]}},
        ],
    }  # fmt: skip
    (box.folder / "own.json").write_text(json.dumps(profile))
    script = "rmdir /made && echo removed; mkdir /other"
    assert await box.run("security_opt: ['seccomp=own.json']", script) == [
        "removed",
        "mkdir: can't create directory '/other': No space left on device",
    ]


async def test_system_paths(box: Box) -> None:
    script = "grep -c -E ' /(proc|sys)/' /proc/self/mounts | head -1; head -c 1 /proc/interrupts | grep -q . && echo seen"
    assert (await box.run("read_only: false", script)).count("seen") == 0
    lines = await box.run("security_opt: ['systempaths=unconfined']", script)
    assert lines[-1] == "seen"


async def test_kernel_parameters(box: Box) -> None:
    sysctls = (
        "{net.core.somaxconn: 123, net/ipv4/ip_forward: 1, kernel.msgmax: 9000, kernel.sem: 250 32000 100 129, "
        "kernel.shm_rmid_forced: 1, fs.mqueue.msg_max: 11, kernel.hostname: inner, kernel.domainname: example.test}"
    )
    files = "net/core/somaxconn net/ipv4/ip_forward kernel/msgmax kernel/sem kernel/shm_rmid_forced fs/mqueue/msg_max"
    script = f"cd /proc/sys; cat {files} kernel/hostname kernel/domainname"
    lines = await box.run(f"sysctls: {sysctls}", script)
    assert [" ".join(line.split()) for line in lines] == [
        *("123", "1", "9000", "250 32000 100 129", "1", "11", "inner", "example.test")
    ]  # fmt: skip


async def test_devices_of_the_host(box: Box) -> None:
    if not os.path.exists("/dev/fuse"):
        pytest.skip("no FUSE")
    found = os.stat("/dev/fuse")
    script = "stat -c '%t:%T %a %u' /dev/fuse /dev/other; : <> /dev/fuse && echo opens; (: > /dev/other) 2>&1 | tail -c 24"
    lines = await box.run("devices: ['/dev/fuse', '/dev/fuse:/dev/other:r']", script)
    # Two nodes of one device: the wider of the two rules counts, as in Docker.
    assert lines[:3] == [f"a:e5 {found.st_mode & 0o777:o} 0"] * 2 + ["opens"]
    assert (await box.run("devices: ['/dev/fuse:/dev/other:r']", script))[-1] == "Operation not permitted"
    with pytest.raises(HostError, match="the device /dev/nowhere does not exist") as caught:
        await box.run("devices: [/dev/nowhere]", "true")
    assert caught.value.place == "services.a.devices[0]"
    with pytest.raises(HostError, match="/etc/hosts is not a device"):
        await box.run("devices: [/etc/hosts]", "true")


async def test_a_folder_of_devices(box: Box) -> None:
    if not os.path.exists("/dev/net/tun"):
        pytest.skip("no /dev/net/tun")
    script = "ls /dev/mine; : <> /dev/mine/tun && echo opens"
    assert await box.run("devices: ['/dev/net:/dev/mine']", script) == ["tun", "opens"]


async def test_rules_let_devices_open_that_a_bind_brings(box: Box) -> None:
    if not os.path.exists("/dev/fuse"):
        pytest.skip("no FUSE")
    os.mknod(box.folder / "fuse", stat.S_IFCHR | 0o600, os.makedev(10, 229))
    script = "(: <> /host/fuse && echo opens) 2>&1 | tail -c 24"
    bind = f"volumes: ['{box.folder}:/host']"
    assert await box.run(f"{bind}, device_cgroup_rules: ['c 10:229 rwm']", script) == ["opens"]
    assert await box.run(f"{bind}, device_cgroup_rules: ['c 10:229 r']", script) == ["Operation not permitted"]
    assert (await box.run(bind, script))[0].endswith("ermission denied")


CDI = """\
cdiVersion: "0.7.0"
kind: nvidia.com/gpu
containerEdits:
  env: [ALL=1]
  mounts: [{hostPath: LIB, containerPath: /usr/lib/libcuda.so.1, options: [ro, nosuid, nodev, bind]}]
devices:
  - {name: 0, containerEdits: {env: [FIRST=1], deviceNodes: [{path: /dev/nvidia0, hostPath: /dev/fuse}]}}
  - {name: "1", containerEdits: {deviceNodes: [{path: /dev/nvidia1, type: c, major: 10, minor: 229, fileMode: 384}]}}
  - {name: all, containerEdits: {additionalGids: [44], deviceNodes: [{path: /dev/nvidia0, hostPath: /dev/fuse}]}}
"""


@pytest.mark.parametrize("form", ["yaml", "json"])
async def test_gpus_are_devices_of_the_container_device_interface(box: Box, form: str) -> None:
    if not os.path.exists("/dev/fuse"):
        pytest.skip("no FUSE")
    (box.folder / "lib").write_text("cuda\n")
    cdi = box.folder / "cdi"
    cdi.mkdir()
    text = CDI.replace("LIB", f"{box.folder}/lib")
    if form == "json":
        import yaml

        text = json.dumps(yaml.safe_load(text))
    (cdi / f"gpu.{form}").write_text(text)
    script = "echo $ALL$FIRST; cat /usr/lib/libcuda.so.1; ls /dev | grep nv; id -G; : <> /dev/nvidia* && echo ok"
    assert await box.run("gpus: all", script, cdi) == ["1", "cuda", "nvidia0", "0 44", "ok"]
    assert await box.run("gpus: [{count: 1}]", script, cdi) == ["11", "cuda", "nvidia0", "0", "ok"]
    devices = "deploy: {resources: {reservations: {devices: [{capabilities: [gpu], device_ids: ['1']}]}}}"
    assert await box.run(devices, script, cdi) == ["1", "cuda", "nvidia1", "0", "ok"]
    assert await box.run("devices: ['nvidia.com/gpu=0']", script, cdi) == ["11", "cuda", "nvidia0", "0", "ok"]


async def test_a_privileged_service_has_the_rights_of_the_host_s_root(box: Box) -> None:
    script = """
        cat /proc/self/uid_map | tr -s ' '; grep -E '^Seccomp:' /proc/self/status | cut -f2
        grep -E '^CapEff' /proc/self/status | cut -f2
        head -c 1 /proc/interrupts | grep -q . && echo unmasked
        grep -E ' /sys (sysfs|.*) ' /proc/mounts | cut -d' ' -f4 | cut -d, -f1
        grep -E ' /proc/sys ' /proc/mounts | wc -l
        mknod /null c 1 3 && echo x > /null && echo opens
        mkdir -p /m && mount -t tmpfs t /m && echo mounted
        cd /sys/fs/cgroup/unified || cd /sys/fs/cgroup; mkdir below && rmdir below && echo grouped
        ls /dev | wc -l
    """
    lines = await box.run("privileged: true", script)
    assert lines[:2] == [" 0 0 4294967295", "0"]
    every = sum(1 << bit for bit in CAPABILITIES.values() if bit <= find_host().last_capability)
    own = next(int(line.split()[1], 16) for line in Path("/proc/self/status").read_text().splitlines() if "CapBnd" in line)
    assert int(lines[2], 16) == every & own
    assert lines[3:-1] == ["unmasked", "rw", "0", "opens", "mounted", "grouped"]
    devices = [name for name in os.listdir("/dev") if Path("/dev", name).is_char_device()]
    assert int(lines[-1]) >= len(devices)
