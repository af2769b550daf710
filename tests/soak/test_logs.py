"""200 MB of output, one line a write and 64 KiB a write, complete wherever they are shown; and how long that took."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from tests.machine import Pystack
from tests.scenarios.test_log_volume import check_all, stack_of

pytestmark = [pytest.mark.kernel, pytest.mark.soak]
LINES, BLOCKS = 2_100_000, 24_000_000


@pytest.mark.parametrize("logging", ["", "logging: {options: {max-size: 10m, max-file: '3'}}"])
def test_two_hundred_megabytes_are_complete_everywhere(pystack: Pystack, busybox_rootfs: Path, logging: str) -> None:
    check_all(stack_of(pystack, busybox_rootfs, LINES, BLOCKS, logging), LINES, BLOCKS)


HIDE_V2 = """
for at in $(sed -n 's/^[^ ]* \\([^ ]*\\) cgroup2 .*/\\1/p' /proc/mounts); do umount -l $at; done
exec podman "$@"
"""
"""Debian's crun wants one kind of control groups."""
COMMANDS = {
    "one line a write": f"i=0; while [ $i -lt {LINES} ]; do echo $i {'x' * 90}; i=$((i+1)); done",
    "64 KiB a write": f"seq 1 {BLOCKS} > /numbers; dd if=/numbers bs=65536 2>/dev/null",
}


@pytest.mark.parametrize("what", list(COMMANDS))
def test_as_much_in_podman_for_comparison(pystack: Pystack, busybox_rootfs: Path, tmp_path: Path, what: str) -> None:
    """Its figures are printed (-s): podman with conmon's k8s-file, and ours, one after the other; both must be complete."""
    if shutil.which("podman") is None:
        pytest.skip("no podman")
    command = COMMANDS[what]
    escaped = command.replace("$", "$$")
    stack = pystack.stack(f"services:\n  box:\n    image: rootfs:{busybox_rootfs}\n    command: [sh, -c, '{escaped}']\n")
    name = f"pystack-soak-{os.getpid()}"
    place = tempfile.mkdtemp(prefix="pm", dir="/tmp")  # podman wants a short name.
    podman = ["unshare", "-m", "sh", "-c", HIDE_V2, "podman", "--cgroup-manager=cgroupfs"]
    podman += [f"--root={place}/r", f"--runroot={place}/n", f"--tmpdir={place}/t"]
    limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000", "--cgroups=disabled"]
    create = ["run", "-d", f"--name={name}", "--network=none", *limits, "--log-driver=k8s-file"]
    create += ["--rootfs", f"{busybox_rootfs}:O"]
    took: dict[str, float] = {}
    hashes: dict[str, str] = {}

    def timed(label: str, argv: list[str], **options: object) -> None:
        begin = time.monotonic()
        with (tmp_path / "out").open("wb") as out:
            subprocess.run(argv, stdout=out, check=True, **options)  # type: ignore[call-overload]
        took[label] = time.monotonic() - begin
        hashes[label] = hashlib.sha256((tmp_path / "out").read_bytes()).hexdigest()

    ours = {"cwd": stack.directory, "env": stack.pystack.child_environment()}
    try:
        begin = time.monotonic()
        subprocess.run([*podman, *create, "sh", "-c", command], stdout=subprocess.DEVNULL, check=True)
        subprocess.run([*podman, "wait", name], stdout=subprocess.DEVNULL, check=True)
        took["podman writes"] = time.monotonic() - begin
        timed("podman logs", [*podman, "logs", name])
    finally:
        subprocess.run([*podman, "rm", "-f", name], stdout=subprocess.DEVNULL, check=False)
        subprocess.run([*podman, "system", "reset", "-f"], capture_output=True, check=False)
        shutil.rmtree(place, ignore_errors=True)
    timed("pystack run", stack.pystack.command("-p", stack.name, "run", "-q", "--rm", "-T", "box"), **ours)
    begin = time.monotonic()
    stack.must("up", "-d")
    while stack.ps()["box"]["State"] != "exited":
        time.sleep(0.1)
    took["pystack writes"] = time.monotonic() - begin
    timed("pystack logs", stack.pystack.command("-p", stack.name, "logs", "--no-log-prefix", "box"), **ours)
    print(what, {label: f"{seconds:.2f} s" for label, seconds in took.items()})
    assert len(set(hashes.values())) == 1, hashes
