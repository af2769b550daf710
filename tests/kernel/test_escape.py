"""What a container exposes, by a program inside of it (tests/escape/probe.c): nothing that Docker's defaults hide, shown
beside Debian's crun; and each of our defences taken away in turn is noticed."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.contracts.runtime import OciConfig, SandboxSpec
from orchestrator.errors import HostError
from orchestrator.kernel.caps import CAPABILITIES
from orchestrator.kernel.rangelocks import hold
from orchestrator.oci.confinement import DEFAULT_CAPABILITIES, READONLY_PATHS, masked_paths
from orchestrator.oci.seccomp_profile import default_profile
from orchestrator.values import replace
from tests.kernel.place import Place, place
from tests.kernel.service_box import BOX, Box

pytestmark = pytest.mark.kernel
MASKED = masked_paths(os.cpu_count() or 1)
SUSPECTS = ":".join((*MASKED, *READONLY_PATHS, "/sys", "/sys/fs/cgroup"))
ARGV = ["/probe", SUSPECTS]

DOCKER_CAPABILITIES = [*DEFAULT_CAPABILITIES, "CAP_MKNOD", "CAP_NET_RAW", "CAP_AUDIT_WRITE"]
DOCKER_MASKED = [
    *("/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
    *("/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap"),
    "/sys/firmware",
]
"""moby, oci/defaults.go."""


@pytest.fixture(scope="module")
def probe_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system with nothing but the probe."""
    root = tmp_path_factory.mktemp("escape") / "rootfs"
    for name in ("proc", "dev", "sys", "tmp", "etc"):
        (root / name).mkdir(parents=True)
    source = Path(__file__).parents[1] / "escape" / "probe.c"
    compiler = shutil.which("gcc")
    if compiler is None:
        assert os.environ.get("PYSTACK_KERNEL_MUST_WORK") != "1", "apt install gcc libc6-dev"
        pytest.skip("no C compiler")
    subprocess.run([compiler, "-O1", "-static", "-Wall", "-Werror", "-o", root / "probe", source], check=True)
    for path in (root.parent, root):
        path.chmod(0o755)
    return root


@pytest.fixture
async def here(leaves_nothing_behind: None, probe_root: Path) -> AsyncGenerator[Place, None]:
    async with place(probe_root) as opened:
        yield opened


def exposures(output: str) -> set[str]:
    lines = output.splitlines()
    assert lines[-1] == "end", output[-2000:]
    return set(lines[:-1])


async def run_ours(here: Place, spec: SandboxSpec) -> set[str]:
    await here.runtime.create(spec)
    before = len(here.log(BOX))
    await here.runtime.wait(await here.runtime.start(BOX))
    return exposures(here.log(BOX)[before:].decode())


def our_spec(here: Place, tmp_path: Path, attributes: str = "read_only: false") -> SandboxSpec:
    spec = Box(here, tmp_path).spec(attributes, "")
    spec.config["process"]["args"] = ARGV
    return spec


def docker_config() -> dict[str, Any]:
    """What Docker gives to a container that asks for nothing (moby, oci/defaults.go), with our filter."""
    mounts = [
        ("/proc", "proc", ["nosuid", "noexec", "nodev"]),
        ("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        ("/sys", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
        ("/dev/mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
        ("/dev/shm", "tmpfs", ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ]
    held = dict.fromkeys(("bounding", "effective", "permitted"), DOCKER_CAPABILITIES)
    return {
        "ociVersion": "1.0.2",
        "process": {"user": {"uid": 0, "gid": 0}, "args": ARGV, "env": ["PATH=/"], "cwd": "/", "capabilities": held},
        "root": {"path": "rootfs"},
        "mounts": [{"destination": at, "type": kind, "source": kind, "options": o} for at, kind, o in mounts],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
            "maskedPaths": DOCKER_MASKED,
            "readonlyPaths": list(READONLY_PATHS),
            "seccomp": default_profile(os.uname().machine),
        },
    }


def run_crun(bundle: Path) -> set[str]:
    (bundle / "config.json").write_text(json.dumps(docker_config()))
    # It does not know the hybrid layout: in a mount namespace with v2 alone.
    run = 'exec crun --root "$0/state" --cgroup-manager=disabled run -b "$0" "$1"'
    script = f"mount -t cgroup2 none /sys/fs/cgroup && {run}"
    command = ["unshare", "--mount", "sh", "-c", script, str(bundle), f"escape-{os.getpid()}"]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert result.returncode == 0, result.stderr
    return exposures(result.stdout)


STRICTER = ("namespace ", "mount ", "capability ")
"""Named otherwise in the two, and looked at in the tests below."""


async def test_nothing_is_exposed_that_docker_hides(here: Place, tmp_path: Path) -> None:
    if shutil.which("crun") is None:
        assert os.environ.get("PYSTACK_KERNEL_MUST_WORK") != "1", "apt install crun"
        pytest.skip("no crun")
    with (tmp_path / "lock").open("w+") as locked:  # Such a lock has no owner, and is in everybody's /proc/locks.
        hold(locked.fileno(), 0)
        ours = await run_ours(here, our_spec(here, tmp_path))
        theirs = run_crun(here.rootfs.parent)
    more = {line for line in ours - theirs if not line.startswith(STRICTER)} - {"visible /sys/fs/cgroup"}
    assert more == set()
    # Not for want of looking: it sees what they differ in.
    assert {"root is the machine's", "can make raw sockets", "mknod c 1:1 in /tmp"} <= theirs - ours


async def test_capabilities_mounts_and_namespaces_are_the_intended_ones(here: Place, tmp_path: Path) -> None:
    found = await run_ours(here, our_spec(here, tmp_path))
    bits = [CAPABILITIES[name] for name in DEFAULT_CAPABILITIES]
    held = {f"capability {kind} {bit}" for kind in ("CapPrm", "CapEff", "CapBnd") for bit in bits}
    assert {line for line in found if line.startswith("capability ")} == held
    own = {os.readlink(f"/proc/self/ns/{kind}") for kind in ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")}
    spaces = {line.removeprefix("namespace ") for line in found if line.startswith("namespace ")}
    assert len(spaces) == 7
    assert not spaces & own
    files = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
    mounts = {line.removeprefix("mount ") for line in found if line.startswith("mount ")}
    assert not {line for line in mounts if line.endswith(("propagates", " dev")) and not line.startswith("/dev")}
    assert {line for line in mounts if line.endswith(" suid")} <= {"/ suid"}
    assert {line for line in mounts if line.endswith(" dev")} <= {"/dev dev", "/dev/pts dev"}
    assert {line.split()[0] for line in mounts if line.endswith(" exec")} <= {"/", "/dev", *files}
    never = ("descriptor", "opens", "mknod", "can make a user", "unfiltered", "root is")
    assert not {line for line in found if line.startswith(never)}
    numbers = {line.split()[2] for line in found if line.startswith("device ")}
    assert numbers <= {"1:3", "1:5", "1:7", "1:8", "1:9", "5:0", "5:2"}


# ---- each defence taken away --------------------------------------------------------------------------------------------

Change = Callable[[dict[str, Any]], None]


def without(section: str, path: str) -> Change:
    return lambda config: config["linux"][section].remove(path)


def with_capability(name: str) -> Change:
    def change(config: dict[str, Any]) -> None:
        for names in ("bounding", "effective", "permitted"):
            config["process"]["capabilities"][names] = [*config["process"]["capabilities"][names], name]

    return change


def without_option(target: str, option: str) -> Change:
    def change(config: dict[str, Any]) -> None:
        (mount,) = (mount for mount in config["mounts"] if mount["destination"] == target)
        mount["options"] = [each for each in mount["options"] if each != option]

    return change


def allowing(*names: str) -> Change:
    def change(config: dict[str, Any]) -> None:
        profile = copy.deepcopy(config["linux"]["seccomp"])
        profile["syscalls"] = [call for call in profile["syscalls"] if not set(call["names"]) & set(names)]
        profile["syscalls"].append({"names": list(names), "action": "SCMP_ACT_ALLOW"})
        config["linux"]["seccomp"] = profile

    return change


def without_filter(config: dict[str, Any]) -> None:
    del config["linux"]["seccomp"]


def sharing(kind: str) -> Change:
    def change(config: dict[str, Any]) -> None:
        linux = config["linux"]
        linux["namespaces"] = [item for item in linux["namespaces"] if item["type"] != kind]
        if kind == "user":
            del linux["uidMappings"], linux["gidMappings"]
        if kind == "network":
            linux.pop("sysctl", None)
        if kind == "uts":  # The name would be the machine's.
            del config["hostname"]

    return change


def with_device(config: dict[str, Any]) -> None:
    config["linux"]["devices"] = [{"type": "c", "path": "/dev/net/tun", "major": 10, "minor": 200}]


def below_a_bind(config: dict[str, Any]) -> None:
    options = ["rbind", "rprivate", "idmap"]
    config["mounts"].append({"destination": "/dev/host", "type": "bind", "source": "/dev", "options": options})


def inheriting(config: dict[str, Any]) -> None:
    for name in ("inheritable", "ambient"):
        config["process"]["capabilities"][name] = ["CAP_CHOWN"]


def mutations() -> Iterator[tuple[str, Change]]:
    for path in MASKED:
        if os.path.exists(path):
            yield f"{path} is not masked", without("maskedPaths", path)
    for path in READONLY_PATHS:
        if os.path.exists(path):
            yield f"{path} is not read-only", without("readonlyPaths", path)
    for name in CAPABILITIES:
        if name not in DEFAULT_CAPABILITIES:
            yield f"{name} is held", with_capability(name)
    yield "capabilities are inherited", inheriting
    for target, options in {
        "/proc": ("nosuid", "noexec", "nodev"),
        "/dev": ("nosuid",),
        "/dev/pts": ("nosuid", "noexec"),
        "/dev/shm": ("nosuid", "noexec", "nodev"),
        "/dev/mqueue": ("nosuid", "noexec", "nodev"),
        "/sys": ("nosuid", "noexec", "nodev", "ro"),
        "/sys/fs/cgroup": ("nosuid", "noexec", "nodev", "ro"),
    }.items():
        for option in options:
            yield f"{target} without {option}", without_option(target, option)
    yield "there is no filter", without_filter
    for name in (
        *("add_key", "bpf", "io_uring_setup", "keyctl", "mount", "open_tree", "setns", "perf_event_open", "quotactl"),
        *("request_key", "unshare", "userfaultfd", "clone", "clone3", "socket", "personality", "umount2"),
    ):
        yield f"{name} is allowed", allowing(name)
    for kind in ("user", "network", "pid", "ipc", "uts", "cgroup"):
        yield f"the {kind} namespace is the host's", sharing(kind)
    yield "a device", with_device
    yield "devices open below a bind", below_a_bind


@pytest.mark.parametrize("name", ["fsopen", "pivot_root", "move_mount", "sethostname"])
async def test_the_filter_holds_back_what_a_capability_would_allow(here: Place, tmp_path: Path, name: str) -> None:
    """Without the capability the kernel says no in any case."""
    spec = our_spec(here, tmp_path)
    spec.config["process"]["args"] = [*ARGV, "quick"]
    with_capability("CAP_SYS_ADMIN")(spec.config)
    before = await run_ours(here, spec)
    config = copy.deepcopy(dict(spec.config))
    allowing(name)(config)
    after = await run_ours(here, replace(spec, config=OciConfig(config)))
    assert f"call {name}" in after - before


async def test_each_defence_that_is_taken_away_is_noticed(here: Place, tmp_path: Path) -> None:
    spec = our_spec(here, tmp_path)
    spec.config["process"]["args"] = [*ARGV, "quick"]
    whole = {line for line in await run_ours(here, spec) if not line.startswith("namespace ")}
    own = {os.readlink(f"/proc/self/ns/{kind}") for kind in ("cgroup", "ipc", "net", "pid", "user", "uts")}
    unnoticed = []
    for what, change in mutations():
        config = copy.deepcopy(dict(spec.config))
        change(config)
        try:
            found = await run_ours(here, replace(spec, config=OciConfig(config)))
        except HostError:
            # The kernel sees to these: what is mounted would show more than the user namespace may see.
            kinds = tuple(f"the {kind} namespace" for kind in ("network", "pid", "ipc", "cgroup"))
            assert what.startswith(("/proc without", "/sys without", *kinds)), what
            continue
        more = {line for line in found if not line.startswith("namespace ")} - whole
        shared = {line.removeprefix("namespace ") for line in found} & own
        if not (more or shared):
            unnoticed.append(what)
    assert not unnoticed, "; ".join(unnoticed)
