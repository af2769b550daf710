"""Namespaces of the host and of other services, by the real command: from the compose file to the process."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from orchestrator.kernel.cgroup import detect
from tests.machine import Pystack, Stack, eventually
from tests.scenarios.talk import kill_hard, supervisor_pid

pytestmark = pytest.mark.kernel

STACK = """
x-service: &service
  image: rootfs:{rootfs}
  stop_grace_period: 0s
  command: [sh, -c, "hostname; sleep 3600"]
services:
  owner: {{<<: *service, hostname: the-owner, restart: always, cgroup_parent: "{parent}/web"}}
  guest: {{<<: *service, network_mode: "service:owner"}}
  debug: {{<<: *service, pid: "service:owner", ipc: "service:owner"}}
  machine: {{<<: *service, network_mode: host, pid: host, uts: host, ports: ["80:80"]}}
  root: {{<<: *service, userns_mode: host, command: [sh, -c, "echo x > /f; chown 200000:7 /f; sleep 3600"]}}
  alone: {{<<: *service, network_mode: none}}
"""
PARENT = f"t-{os.getpid()}"


@pytest.fixture
def stack(pystack: Pystack, busybox_rootfs: Path) -> Stack:
    return pystack.stack(STACK.format(rootfs=busybox_rootfs, parent=PARENT))


def namespaces(pid: int) -> dict[str, str]:
    return {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("user", "net", "pid", "uts", "ipc", "cgroup")}


def shared(one: int, other: int) -> set[str]:
    theirs = namespaces(other)
    return {kind for kind, found in namespaces(one).items() if theirs[kind] == found}


def pids(stack: Stack) -> dict[str, int]:
    return {row["Service"]: row["Pid"] for row in stack.rows() if row["State"] == "running"}


def test_each_is_in_the_namespaces_that_its_service_names(stack: Stack) -> None:
    up = stack.must("up", "-d")
    assert "published ports are discarded when using host network mode" in up.stderr
    found = pids(stack)
    assert shared(found["guest"], found["owner"]) == {"user", "net"}
    assert shared(found["debug"], found["owner"]) == {"user", "pid", "ipc"}
    assert shared(found["alone"], found["owner"]) == {"user"}
    supervisor = supervisor_pid(stack)
    assert shared(found["machine"], supervisor) == {"user", "net", "pid", "uts"}
    assert shared(found["root"], supervisor) == {"user"}
    assert stack.must("exec", "-T", "guest", "cat", "/etc/hostname").stdout == "the-owner\n"
    assert stack.must("exec", "-T", "alone", "sh", "-c", "ls /sys/class/net").stdout == "lo\n"
    assert any(os.path.isdir(f"{root}/{PARENT}/web/pystack") for root in detect().roots())
    archive = stack.directory / "root.tar"
    stack.must("export", "-o", str(archive), "root")
    with tarfile.open(archive) as tar:
        assert (tar.getmember("f").uid, tar.getmember("f").gid) == (200_000, 7)
    assert not any(row["Publishers"] for row in stack.rows())
    stack.must("down")
    assert not any(os.path.isdir(f"{root}/{PARENT}") for root in detect().roots())


def test_who_shares_follows_whose_it_is_over_its_end_the_supervisors_and_a_change(stack: Stack) -> None:
    stack.must("up", "-d", "guest", "debug")
    before = pids(stack)
    kill_hard(supervisor_pid(stack))
    os.kill(before["owner"], 9)

    def again() -> bool:
        now = pids(stack)
        return now.keys() == before.keys() and now["debug"] != before["debug"] and now["owner"] != before["owner"]

    eventually(again)
    now = pids(stack)
    assert now["guest"] == before["guest"]
    assert shared(now["guest"], now["owner"]) == {"user", "net"}
    assert shared(now["debug"], now["owner"]) == {"user", "pid", "ipc"}
    assert "nothing to do" in stack.must("plan", "up", "guest", "debug").stdout
    file = stack.directory / "compose.yaml"
    file.write_text(file.read_text().replace("the-owner", "other"))
    assert "debug: owner, whose pid namespace it is in, is replaced" in stack.must("plan", "up", "owner").stdout
    stack.must("up", "-d", "owner")
    last = pids(stack)
    assert shared(last["guest"], last["owner"]) == {"user", "net"}
    assert shared(last["debug"], last["owner"]) == {"user", "pid", "ipc"}
    assert stack.must("exec", "-T", "guest", "hostname").stdout == "other\n"


def test_namespaces_of_another_project_are_had_by_name(pystack: Pystack, busybox_rootfs: Path, stack: Stack) -> None:
    stack.must("up", "-d", "owner")
    text = """
services:
  peer:
    image: rootfs:{rootfs}
    command: [sleep, "3600"]
    stop_grace_period: 0s
    {more}
    network_mode: container:{owner}-owner-1
"""
    other = pystack.stack(text.format(rootfs=busybox_rootfs, owner=stack.name, more=""))
    refused = other.run("up", "-d")
    assert refused.code == 1
    assert f"cannot be in the network namespace of {stack.name}-owner-1, which is of another project" in refused.stderr
    assert "userns_mode: host" in refused.stderr
    file = other.directory / "compose.yaml"
    file.write_text(text.format(rootfs=busybox_rootfs, owner=stack.name, more="userns_mode: host"))
    other.must("up", "-d")
    assert shared(pids(other)["peer"], pids(stack)["owner"]) == {"net"}
    assert other.must("exec", "-T", "peer", "cat", "/etc/hostname").stdout == "the-owner\n"
