"""Bind mounts of a stack as `pystack` brings it up: whose the files are, and what is warned of."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.machine import Pystack

pytestmark = pytest.mark.kernel

STACK = """
services:
  app:
    image: rootfs:{image}
    command: [sh, -c, "touch /a/x /new/x /root/x 2>&1; exec sleep 3600"]
    stop_grace_period: 0s
    volumes:
    - ./home:/a
    - ./home/new:/new
    - {{type: bind, source: ./home/roots, target: /root, bind: {{x-pystack.owner: root}}}}
"""
OWNER = 1234, 1235


def test_files_of_a_stack_belong_to_the_owner_of_its_folder(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(STACK.format(image=busybox_rootfs))
    home = stack.directory / "home"
    (home / "roots").mkdir(parents=True)
    for folder in (home, home / "roots"):
        os.chown(folder, *OWNER)
    stack.must("up", "-d", "--wait")
    stack.must("exec", "-T", "app", "touch", "/a/later")
    owners = {name: (home / name).stat() for name in ("x", "later", "new", "new/x")}
    assert {(found.st_uid, found.st_gid) for found in owners.values()} == {OWNER}
    assert (home / "roots/x").stat().st_uid == 0


def test_a_mount_whose_owners_cannot_be_mapped_is_told_once_by_up_and_why(pystack: Pystack, busybox_rootfs: Path) -> None:
    stack = pystack.stack(STACK.format(image=busybox_rootfs))
    nas, lower = stack.directory / "home/nas", stack.directory / "lower"
    for folder in (nas, stack.directory / "home/roots", lower):
        folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "overlay", "-o", f"ro,lowerdir={lower}:{nas}", "none", str(nas)], check=True)
    try:
        said = stack.must("up", "-d", "--wait")
        told = f"{nas} (overlay): all there belongs to nobody in the container"
        assert told in said.stderr + said.stdout
        stack.must("restart", "app")
        assert stack.must("why", "app").stdout.count(told) == 1
    finally:
        stack.must("down")
        subprocess.run(["umount", "-l", str(nas)], check=True)
