"""What callers of `pystack-oci` and the runtimes' own suites count on beyond the words of the spec, from inside."""

from __future__ import annotations

import array
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.kernel.cgroup import detect
from tests.kernel.oci_lab import COMMAND, ROOT, Lab, lab
from tests.machine import eventually

pytestmark = pytest.mark.kernel


@pytest.fixture
def here(leaves_nothing_behind: None, busybox_rootfs: Path) -> Iterator[Lab]:
    with tempfile.TemporaryDirectory() as top, lab(Path(top), busybox_rootfs) as opened:
        yield opened


def begun(here: Lab, *words: str, **environment: str) -> subprocess.Popen[bytes]:
    """A command that does not end at once."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    with open(here.top / "begun", "ab") as out:
        return subprocess.Popen([*here.runtime, "--root", str(here.root), *words], cwd=here.bundle, env=env, stdout=out)


def test_the_loopback_device_of_a_new_network_is_up(here: Lab) -> None:
    assert "UP" in here.shell("ip link show lo | head -1")


def test_a_filter_need_not_let_through_what_is_done_before_the_program(here: Lab) -> None:
    config = here.config(noNewPrivileges=False)
    refused = ["close_range", "setresuid", "setresgid", "setgroups", "umask", "setrlimit", "prlimit64"]
    config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": refused, "action": "SCMP_ACT_ERRNO"}],
    }
    config["process"]["user"] = {"uid": 7, "gid": 8}
    out = here.shell("id -u; id -g; grep -E 'NoNewPrivs|Seccomp:|CapEff' /proc/self/status", config)
    assert out.split() == ["7", "8", "CapEff:", "0" * 16, "NoNewPrivs:", "0", "Seccomp:", "2"]


def test_mounts_are_listed_with_their_sources(here: Lab) -> None:
    config = here.config()
    config["mounts"].append({"destination": "/extra", "type": "tmpfs", "source": "mine"})
    lines = [line.split() for line in here.shell("cat /proc/self/mounts", config).splitlines()]
    found = {where: source for source, where, *_ in lines}
    wanted = {"/proc": "proc", "/sys": "sysfs", "/dev/pts": "devpts", "/dev/mqueue": "mqueue", "/dev/shm": "shm"}
    assert {where: found.get(where) for where in wanted} == wanted
    assert found["/extra"] == "mine"
    assert found["/sys/fs/cgroup"] in ("cgroup", "cgroup2")


def test_a_link_that_is_to_be_copied_is_a_link_with_the_same_target(here: Lab) -> None:
    (here.top / "link").symlink_to("to/nowhere")
    config = here.config()
    mount = {"destination": "/copied/here", "type": "bind", "source": str(here.top / "link")}
    config["mounts"].append({**mount, "options": ["rbind", "copy-symlink"]})
    assert here.shell("readlink /copied/here", config) == "to/nowhere\n"
    config["mounts"][-1]["destination"] = "/bin"
    here.refused(config, "cannot mount", "/bin")


def test_a_user_namespace_without_mappings_has_the_caller_as_its_root(here: Lab) -> None:
    config = here.config()
    config["linux"]["namespaces"].append({"type": "user"})
    (terminals,) = [mount for mount in config["mounts"] if mount["type"] == "devpts"]
    terminals["options"].remove("gid=5")
    assert here.shell("id -u; cat /proc/self/uid_map", config).split() == ["0", "0", str(os.geteuid()), "1"]


def test_the_callers_groups_stay_where_an_annotation_says_so(here: Lab) -> None:
    change = f"import os, sys; os.setgroups([7, 8]); os.execv({sys.executable!r}, {list(COMMAND)!r} + sys.argv[1:])"
    here.runtime = (sys.executable, "-c", change)
    config = here.config()
    assert here.shell("id -G", config) == "0\n"
    config["annotations"] = {"run.oci.keep_original_groups": "1"}
    assert here.shell("id -G", config) == "0 7 8\n"
    here.runtime = COMMAND


def test_readiness_goes_on_to_whoever_waits_for_it_and_start_ends_with_it(here: Lab) -> None:
    path = here.top / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        server.settimeout(20)
        here.write(here.config("sh", "-c", "echo $NOTIFY_SOCKET > /dev/shm/said; exec sleep 1000"))
        here.made.add("box")
        here.oci("create", "box", env={"NOTIFY_SOCKET": "/run/of/caller"})
        starting = begun(here, "start", "box", NOTIFY_SOCKET=str(path))
        eventually(lambda: here.status() == "running")
        inside = Path(f"/proc/{here.state()['pid']}/root")
        eventually(lambda: (inside / "dev/shm/said").exists() and (inside / "dev/shm/said").read_text() != "")
        assert (inside / "dev/shm/said").read_text() == "/run/of/caller/notify\n"
        assert starting.poll() is None
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as program:
            program.connect(str(inside / "run/of/caller/notify"))
            program.send(b"STATUS=nearly\nMAINPID=1")
            program.send(b"STATUS=there\nREADY=1\nFDSTORE=1")
        assert server.recv(100) == b"READY=1"
        assert server.recv(100) == f"MAINPID={here.state()['pid']}".encode()
    assert starting.wait(20) == 0
    with pytest.raises(OSError):
        (inside / "run/of/caller/more").touch()


def test_readiness_of_a_program_that_ends_first_is_not_waited_for(here: Lab) -> None:
    here.write(here.config("true"))
    here.made.add("box")
    assert here.ran("run", "--detach", "box", env={"NOTIFY_SOCKET": str(here.top / "nobody")})[0] == 0


def test_start_waits_for_a_create_that_is_still_at_it(here: Lab) -> None:
    config = here.config("touch", "/began")
    config["root"]["readonly"] = False
    wait = f"while [ ! -e {here.top}/go ]; do sleep 0.01; done"
    config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", wait]}]}
    here.write(config)
    here.made.add("box")
    creating = begun(here, "create", "box")
    eventually(lambda: here.ran("state", "box")[0] == 0 and here.status() == "creating")
    starting = begun(here, "start", "box")
    assert starting.poll() is None
    (here.top / "go").touch()
    assert (creating.wait(20), starting.wait(20)) == (0, 0)
    eventually((here.bundle / "rootfs/began").exists)


def test_whoever_an_annotation_names_is_sent_a_pidfd(here: Lab) -> None:
    config = here.config("sleep", "1000")
    config["annotations"] = {"run.oci.pidfd_receiver": str(here.top / "receiver")}
    here.refused(config, "cannot send a pidfd", "receiver")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(here.top / "receiver"))
        server.listen(1)
        here.create(config)
        connection, _ = server.accept()
    with connection:
        _, ancillary, _, _ = connection.recvmsg(100, socket.CMSG_SPACE(4))
    (fd,) = array.array("i", ancillary[0][2])
    told = Path(f"/proc/self/fdinfo/{fd}").read_text()
    os.close(fd)
    assert f"Pid:\t{here.state()['pid']}\n" in told


@pytest.mark.skipif(not Path("/proc/self/numa_maps").exists(), reason="the kernel has no NUMA")
def test_a_memory_policy_is_the_programs(here: Lab) -> None:
    config = here.config()
    for policy, shown in (({"mode": "MPOL_LOCAL"}, " local "), ({"mode": "MPOL_BIND", "nodes": "0"}, " bind:0 ")):
        config["linux"]["memoryPolicy"] = policy
        assert shown in here.shell("cat /proc/self/numa_maps", config)


def test_a_name_that_is_no_id_is_refused_with_what_is_wrong_in_it(here: Lab) -> None:
    here.write(here.config())
    assert "invalid character `/` in the ID" in here.ran("create", "this/is")[2]
    assert json.loads(here.oci("list", "--format", "json")) == []


@pytest.mark.parametrize("path", ["deep/er/box", "/made/for/it/box", "/box"])
def test_of_the_groups_above_one_those_that_were_made_for_it_go_with_it(here: Lab, path: str) -> None:
    """That nothing is left is seen by `leaves_nothing_behind`."""
    config = here.config("true")
    config["linux"]["cgroupsPath"] = path
    assert here.run(config)[0] == 0


def test_groups_above_one_that_others_use_or_made_stay(here: Lab) -> None:
    top = detect().roots()[0]
    there = Path(top, "before")
    there.mkdir()
    try:
        config = here.config("sleep", "1000")
        for name in ("one", "other"):
            config["linux"]["cgroupsPath"] = f"/before/shared/{name}"
            here.create(config, name)
        here.oci("delete", "--force", "one")
        assert Path(there, "shared", "other").is_dir()
        here.oci("delete", "--force", "other")
        assert [entry.name for entry in there.iterdir() if entry.is_dir()] == []
    finally:
        there.rmdir()


def test_a_container_is_in_its_groups_also_where_others_were_killed_before(here: Lab) -> None:
    """Who is born in a group that was killed is killed, too (docs/runtime.md): such a group is entered in the other way."""
    root = detect().unified
    if root is None:
        pytest.skip("no unified hierarchy")
    there = Path(root, "killed-before")
    config = here.config("sleep", "1000")
    config["linux"]["cgroupsPath"] = "/killed-before/box"
    config["linux"]["namespaces"] = [item for item in config["linux"]["namespaces"] if item["type"] != "cgroup"]
    there.mkdir()
    try:
        (there / "box").mkdir()
        (there / "box" / "cgroup.kill").write_text("1")
        here.create(config)
        here.oci("start", "box")
        own = Path(f"/proc/{here.state()['pid']}/cgroup").read_text()
        assert own.count(":/killed-before/box\n") == len(detect().roots())
        assert here.oci("exec", "box", "cat", "/proc/self/cgroup") == own
        here.oci("delete", "--force", "box")
    finally:
        there.rmdir()
