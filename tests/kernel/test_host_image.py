"""The real host image, mounted as a container would have it: programs run, data is not there."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.images.host import HostImage

pytestmark = pytest.mark.kernel

ENTER = """
set -e
mount -t overlay overlay -o lowerdir="$1",upperdir="$2/upper",workdir="$2/work" "$2/root"
shift_mounts() { while [ $# -gt 0 ]; do mount --rbind "$1" "$ROOT$2"; mount -o remount,bind,ro "$ROOT$2"; shift 2; done; }
ROOT="$2/root"; export ROOT
script="$3"; shift 3
shift_mounts "$@"
mount -t proc proc "$ROOT/proc"
exec chroot "$ROOT" /usr/bin/env -i PATH=/usr/bin:/bin:/usr/sbin:/sbin sh -c "$script"
"""


@pytest.fixture
def images_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as scratch:
        yield Path(scratch, "images")


def run_in_host_image(images_dir: Path, script: str) -> str:
    """The output of a shell script in a new mount and pid namespace whose root is the host image."""
    image = HostImage(str(images_dir)).make()
    bundle = images_dir.parent / "bundle"
    for name in ("upper", "work", "root"):
        (bundle / name).mkdir(parents=True)
    mounts = [part for mount in image.mounts for part in (mount.source, mount.target)]
    arguments = ["sh", image.lowers[0], str(bundle), script, *mounts]
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--propagation", "private", "sh", "-c", ENTER, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_programs_find_their_libraries_certificates_accounts_and_time_zone(images_dir: Path) -> None:
    script = (
        "id -un; ls -ld /bin/sh >/dev/null && echo shell; cat /etc/os-release >/dev/null && echo os-release; "
        "cat /etc/localtime >/dev/null && echo localtime; touch /tmp/x /var/lib/x && echo writable; "
        "test ! -w /usr/bin && touch /usr/x 2>/dev/null || echo usr-is-read-only"
    )
    lines = run_in_host_image(images_dir, script).split()
    assert lines == ["root", "shell", "os-release", "localtime", "writable", "usr-is-read-only"]


def test_certificates_are_readable_through_their_links(images_dir: Path) -> None:
    if not Path("/etc/ssl/certs/ca-certificates.crt").exists():
        pytest.skip("no ca-certificates on this machine")
    script = 'n=0; for f in /etc/ssl/certs/*.pem; do head -c 1 "$f" >/dev/null || exit 1; n=$((n+1)); done; echo $n'
    shown = int(run_in_host_image(images_dir, script))
    there = [path for path in Path("/etc/ssl/certs").glob("*.pem") if path.exists() and path.stat().st_mode & 0o004]
    assert shown == len(there)


def test_the_host_s_data_is_not_there(images_dir: Path) -> None:
    script = (
        "find /root /home /opt /srv /mnt /media /var /run -mindepth 1 | sort; "
        "for f in shadow gshadow machine-id ssh ssl/private sudoers profile; do test -e /etc/$f && echo /etc/$f; done; "
        "ls / | sort | tr '\\n' ' '"
    )
    *found, top = run_in_host_image(images_dir, script).splitlines()
    assert found == ["/var/cache", "/var/lib", "/var/log", "/var/run", "/var/tmp"]
    allowed = "bin dev etc home lib lib32 lib64 libx32 media mnt opt proc root run sbin srv sys tmp usr var"
    assert set(top.split()) <= set(allowed.split())


def test_people_of_the_host_are_not_known(images_dir: Path) -> None:
    passwd = run_in_host_image(images_dir, "cat /etc/passwd").splitlines()
    ids = [int(line.split(":")[2]) for line in passwd]
    assert 0 in ids
    assert all(number < 1000 or number == 65534 for number in ids)
    assert all(line.split(":")[1] == "x" and line.split(":")[4] == "" for line in passwd)


def test_the_real_skeleton_is_small(images_dir: Path) -> None:
    lower = HostImage(str(images_dir)).make().lowers[0]
    size = sum(path.lstat().st_size for path in Path(lower).rglob("*") if path.is_file() and not path.is_symlink())
    assert size < 16 << 20
