"""`pystack-oci` beside Debian's crun and runc: the same configs, and what a program sees and how it ends."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kernel.oci_lab import COMMAND, Config, Lab

pytestmark = pytest.mark.kernel

_WITHOUT_V2 = 'umount /sys/fs/cgroup/unified 2> /dev/null; exec crun "$@"'
OTHERS = {"crun": ("unshare", "-m", "sh", "-c", _WITHOUT_V2, "crun"), "runc": ("runc",)}
"""crun refuses a machine with both versions of cgroups."""
LOOK = (
    "id; pwd; umask; env | sort | grep -v -e ^SHLVL -e ^HOME; hostname; ulimit -n; cat /proc/self/uid_map;"
    "grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups)' /proc/self/status;"
    "ls /dev | grep -v -e core; cut -d' ' -f5,6 /proc/self/mountinfo | grep -v -e cgroup | sort -u;"
    "stat -c '%a %u %g %N' /dev/null /dev/shm /etc /dev/fd /dev/stdin"
)


def _user(config: Config) -> None:
    config["process"]["user"] = {"uid": 7, "gid": 8, "additionalGids": [9]}


def _some_capabilities(config: Config) -> None:
    names = ("bounding", "effective", "permitted", "inheritable", "ambient")
    config["process"]["capabilities"] = {name: ["CAP_CHOWN", "CAP_NET_RAW"] for name in names}


def _writable(config: Config) -> None:
    config["root"]["readonly"] = False
    config["process"] |= {"cwd": "/made/for/it", "noNewPrivileges": False}


def _a_tmpfs(config: Config) -> None:
    config["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "t", "options": ["noexec", "size=1m"]})


def _a_limit(config: Config) -> None:
    config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 100}]


def _an_exit_code(config: Config) -> None:
    config["process"]["args"] = ["sh", "-c", "exit 123"]


def _a_signal(config: Config) -> None:
    config["process"]["args"] = ["sh", "-c", "sh -c 'kill -TERM $$'"]


def _plain(config: Config) -> None:
    """As `spec` has it."""


CONFIGS = (_plain, _user, _some_capabilities, _writable, _a_tmpfs, _a_limit, _an_exit_code, _a_signal)


@pytest.mark.parametrize("change", CONFIGS, ids=lambda change: change.__name__.strip("_"))
@pytest.mark.parametrize("other", OTHERS)
def test_a_program_sees_the_same(
    leaves_nothing_behind: None, busybox_rootfs: Path, other: str, change: Callable[[Config], None]
) -> None:
    if shutil.which(other) is None:
        pytest.skip(f"no {other} (.ci/servers installs it)")
    seen = {}
    for name, command in (("pystack-oci", COMMAND), (other, OTHERS[other])):
        with tempfile.TemporaryDirectory() as top:
            here = Lab(Path(top), busybox_rootfs, command)
            config = here.config("sh", "-c", LOOK)
            # No two mount the hybrid layout of cgroups alike.
            config["mounts"] = [mount for mount in config["mounts"] if mount["type"] != "cgroup"]
            config["linux"] |= {"maskedPaths": [], "readonlyPaths": []}
            config["linux"]["namespaces"] = [item for item in config["linux"]["namespaces"] if item["type"] != "cgroup"]
            config["linux"].pop("resources")
            config["linux"]["cgroupsPath"] = "/box"
            config["ociVersion"] = "1.0.0"
            change(config)
            code, out, err = here.run(config)
            assert code in (0, 123, 143), err
            seen[name] = code, out.splitlines()
    (code, ours), (their_code, theirs) = seen["pystack-oci"], seen[other]
    assert [line for line in ours if line not in theirs] == [line for line in theirs if line not in ours]
    assert code == their_code
