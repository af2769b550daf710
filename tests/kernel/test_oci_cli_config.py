"""`pystack-oci` and config.md, config-linux.md: what a config says, looked at from inside of the container."""

from __future__ import annotations

import array
import json
import os
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.kernel import cgroup
from tests.kernel.oci_lab import Lab, lab
from tests.machine import eventually

pytestmark = pytest.mark.kernel


SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")


@pytest.fixture
def here(leaves_nothing_behind: None, busybox_rootfs: Path) -> Iterator[Lab]:
    with tempfile.TemporaryDirectory() as top, lab(Path(top), busybox_rootfs) as opened:
        yield opened


def test_the_process_is_who_it_is_said_to_be(here: Lab) -> None:
    config = here.config()
    config["process"] |= {
        "user": {"uid": 12, "gid": 34, "additionalGids": [56, 78], "umask": 0o027},
        "cwd": "/not/there/yet",
        "env": ["PATH=/bin", "A=b=c"],
        "capabilities": {key: ["CAP_KILL", "CAP_FOWNER"] for key in SETS},
        "oomScoreAdj": 500,
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 128, "hard": 256}],
        "scheduler": {"policy": "SCHED_BATCH", "nice": 5},
        "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 0},
    }  # fmt: skip
    config["root"]["readonly"] = False
    found = here.shell(
        "id -u; id -g; id -G; umask; pwd; echo $A; grep CapEff /proc/self/status; grep CapAmb /proc/self/status;"
        "cat /proc/self/oom_score_adj; ulimit -Sn; ulimit -Hn; cut -d' ' -f19,41 /proc/self/stat; echo $HOME; ionice -p $$",
        config,
    ).splitlines()
    assert found == [
        "12", "34", "34 56 78", "0027", "/not/there/yet", "b=c", "CapEff:\t0000000000000028", "CapAmb:\t0000000000000028",
        "500", "128", "256", "5 3", "/", "idle",
    ]  # fmt: skip


def test_who_may_not_enter_the_working_directory_is_put_there(here: Lab) -> None:
    (here.bundle / "rootfs" / "private").mkdir(mode=0o700)
    config = here.config(cwd="/private", user={"uid": 12, "gid": 34})
    config["process"]["capabilities"] = {}
    assert here.shell("pwd; id -u; ls 2> /dev/null || echo closed", config).split() == ["/private", "12", "closed"]


def test_no_capabilities_are_none_and_no_new_privileges_is_what_is_said(here: Lab) -> None:
    config = here.config()
    del config["process"]["capabilities"]
    config["process"]["noNewPrivileges"] = False
    out = here.shell("grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status", config)
    assert {line.split("\t")[1] for line in out.splitlines()} == {"0" * 16, "0"}


def test_mounts_have_the_options_that_are_said(here: Lab) -> None:
    source = here.top / "source"
    source.mkdir()
    (source / "file").write_text("from the host")
    (here.bundle / "beside").write_text("beside the config")
    config = here.config()
    options = ["rbind", "ro", "nosuid", "nodev", "noexec"]
    config["mounts"] += [
        {"destination": "/bound", "type": "bind", "source": str(source), "options": options},
        {"destination": "relative/file", "type": "bind", "source": "beside", "options": ["bind"]},
        {"destination": "/a/tmpfs", "type": "tmpfs", "source": "t", "options": ["size=64k", "nosymfollow", "mode=0711"]},
        {"destination": "/etc", "type": "tmpfs", "source": "t", "options": ["tmpcopyup", "noatime"]},
    ]  # fmt: skip
    script = "cat /bound/file /relative/file; touch /bound/x 2>&1; stat -c %a /a/tmpfs; ls /etc; cat /proc/self/mountinfo"
    out = here.shell(f"({script})", config)
    assert "from the hostbeside the config" in out
    assert "touch: /bound/x: Read-only file system" in out
    mounts = {fields[4]: fields for fields in (line.split(" ") for line in out.splitlines()) if len(fields) > 8}
    assert mounts["/bound"][5] == "ro,nosuid,nodev,noexec,relatime"
    assert mounts["/bound"][6] == "-"  # Private.
    assert "nosymfollow" in mounts["/a/tmpfs"][5]
    assert "711" in out.splitlines()
    assert "noatime" in mounts["/etc"][5]
    assert set(os.listdir(here.bundle / "rootfs" / "etc")) <= set(out.split())


def test_a_tmpfs_has_the_mode_of_what_it_covers_and_is_anyones_where_there_was_nothing(here: Lab) -> None:
    (here.bundle / "rootfs" / "there").mkdir()
    (here.bundle / "rootfs" / "there").chmod(0o2710)
    config = here.config()
    config["root"]["readonly"] = False
    config["mounts"] += [{"destination": at, "type": "tmpfs", "source": "t"} for at in ("/there", "/made/new")]
    for _ in range(2):
        assert here.shell("stat -c %a /there /made /made/new", config).split() == ["2710", "755", "1777"]


def test_a_tmpfs_with_the_content_that_it_covers_may_be_read_only(here: Lab) -> None:
    config = here.config()
    tmpfs = {"destination": "/bin", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "ro"]}
    config["mounts"].append(tmpfs)
    assert here.shell("ls /bin/sh; touch /bin/new 2> /dev/null || echo closed", config).split() == ["/bin/sh", "closed"]


def test_a_bind_of_a_tree_is_read_only_all_the_way_with_rro(here: Lab) -> None:
    config = here.config()
    config["mounts"].append({"destination": "/host", "type": "bind", "source": "/sys/fs", "options": ["rbind", "rro"]})
    out = here.shell("grep ' /host' /proc/self/mountinfo", config)
    assert {line.split(" ")[5].split(",")[0] for line in out.splitlines()} == {"ro"}
    config["mounts"][-1]["options"] = ["rbind", "ro"]
    out = here.shell("grep ' /host' /proc/self/mountinfo", config)
    assert {line.split(" ")[5].split(",")[0] for line in out.splitlines()} == {"ro", "rw"}


def test_mounts_are_listed_in_the_order_of_the_config(here: Lab) -> None:
    config = here.config()
    (here.top / "given").mkdir()
    config["mounts"] += [
        {"destination": "/mnt/first", "source": str(here.top / "given"), "options": ["bind", "ro"]},
        {"destination": "/mnt/unbindable", "source": str(here.top / "given"), "options": ["rbind", "runbindable"]},
        {"destination": "/mnt/tmpfs", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/mnt/last", "source": "/etc/hostname", "options": ["bind"]},
    ]
    listed = [line.split()[4:7] for line in here.shell("cat /proc/self/mountinfo", config).splitlines()]
    wanted = [mount["destination"] for mount in config["mounts"] if mount["destination"] != "/sys/fs/cgroup"]
    assert [where for where, _, _ in listed if where in wanted] == wanted
    assert ["/mnt/unbindable", "unbindable"] in [[where, kind] for where, _, kind in listed]
    assert next(options for where, options, _ in listed if where == "/mnt/first").startswith("ro")


def test_what_is_mounted_below_a_shared_bind_stays_and_is_a_peer_of_the_hosts(here: Lab) -> None:
    """`here.runtime`: in a mount namespace where /mnt is shared, that tells what is there afterwards."""
    script = 'mount -t tmpfs one /mnt; mount --make-shared /mnt; mkdir /mnt/below; mount -t tmpfs two /mnt/below; "$@"'
    plain = here.runtime
    here.runtime = ("unshare", "-m", "sh", "-ec", f"{script}; cat /proc/self/mountinfo", "sh", *plain)
    config = here.config("cat", "/proc/self/mountinfo")
    config["linux"].pop("rootfsPropagation", None)
    config["mounts"].append({"destination": "/shared", "source": "/mnt", "options": ["rbind", "rshared"]})
    code, out, err = here.run(config)
    here.runtime = plain
    assert (code, err) == (0, "")
    places = ("/mnt", "/mnt/below", "/shared", "/shared/below")
    groups = {line.split()[4]: line.split()[6] for line in out.splitlines() if line.split()[4] in places}
    assert sorted(groups) == list(places)
    assert groups["/shared"] == groups["/mnt"] != groups["/mnt/below"] == groups["/shared/below"]


def test_without_a_mount_namespace_nothing_is_mounted_where_the_host_sees_it(here: Lab) -> None:
    if tuple(map(int, os.uname().release.split(".")[:2])) < (6, 15):
        pytest.skip("nothing can be mounted in what is attached nowhere: needs Linux 6.15")
    (here.top / "given").mkdir()
    config = here.config("sh", "-c", "touch /made /given/made; exec sleep 1000")
    config["linux"]["namespaces"] = [{"type": "pid"}]
    config["root"]["readonly"] = False
    del config["hostname"]
    config["mounts"].append({"destination": "/given", "source": str(here.top / "given"), "options": ["rbind", "rshared"]})
    here.write(config)
    before = Path("/proc/self/mountinfo").read_text()
    here.made.add("box")
    here.oci("create", "box")
    assert here.oci("exec", "box", "ls", "-d", "/proc/1", "/dev/pts/ptmx").split() == ["/dev/pts/ptmx", "/proc/1"]
    assert os.readlink(f"/proc/{here.state()['pid']}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
    here.oci("start", "box")
    eventually((here.top / "given" / "made").exists)
    assert here.oci("exec", "box", "sh", "-c", "pwd; ls -d /bin /made; readlink /proc/1/exe").split() == [
        "/", "/bin", "/made", "/bin/busybox",
    ]  # fmt: skip
    assert Path("/proc/self/mountinfo").read_text() == before
    assert (here.bundle / "rootfs" / "made").exists()


def test_files_of_an_id_mapped_mount_belong_to_whom_the_mapping_says(here: Lab) -> None:
    source = here.top / "source"
    source.mkdir()
    (source / "file").touch()
    config = here.config()
    mapping = [{"containerID": 0, "hostID": 1000, "size": 10}]
    mount = {"destination": "/m", "type": "bind", "source": str(source), "options": ["rbind", "ridmap"]}
    config["mounts"].append({**mount, "uidMappings": mapping, "gidMappings": mapping})
    assert here.shell("stat -c %u:%g /m/file", config) == "1000:1000\n"


def test_what_is_masked_is_empty_and_what_is_read_only_stays(here: Lab) -> None:
    config = here.config()
    config["root"]["readonly"] = False
    config["linux"]["maskedPaths"] = ["/etc", "/bin/busybox-is-not-here", "/proc/keys"]
    config["linux"]["readonlyPaths"] = ["/tmp", "/nothing"]
    config["process"]["env"] = ["PATH=/bin"]
    out = here.shell("ls /etc | wc -l; stat -c '%t:%T' /proc/keys; touch /tmp/x 2>&1; touch /etc/x 2>&1; true", config)
    assert out.splitlines()[:2] == ["0", "1:3"]
    assert out.count("Read-only file system") == 2


def test_devices_are_those_of_every_container_and_those_that_are_said(here: Lab) -> None:
    config = here.config()
    config["linux"]["devices"] = [
        {"path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 3, "gid": 4},
        {"path": "/sub/pipe", "type": "p"},
    ]
    config["root"]["readonly"] = False
    script = "stat -c '%F %a %u:%g %t:%T' /dev/mine; test -p /sub/pipe; head -c 4 /dev/zero | wc -c; ls /dev"
    out = here.shell(script, config)
    assert out.splitlines()[0] == "character special file 640 3:4 1:5"
    devices = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "fd", "stdin", "stdout", "stderr", "mine"}
    assert devices <= set(out.split())


def test_in_a_user_namespace_ids_are_mapped_and_devices_work(here: Lab) -> None:
    config = here.config()
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"]["uidMappings"] = config["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 1000}]
    for path in (here.top, here.bundle):
        path.chmod(0o755)
    assert here.shell("id -u; cat /proc/self/uid_map; head -c 4 /dev/zero | wc -c; echo x > /dev/null", config).split() == [
        "0", "0", "100000", "1000", "4",
    ]  # fmt: skip


def test_namespaces_are_new_or_anothers_or_the_hosts(here: Lab) -> None:
    holder = here.config("sleep", "1000")
    here.create(holder, "holder")
    pid = here.state("holder")["pid"]
    config = here.config()
    config["linux"]["namespaces"] = [
        {"type": "mount"},
        {"type": "network", "path": f"/proc/{pid}/ns/net"},
        {"type": "pid", "path": f"/proc/{pid}/ns/pid"},
        {"type": "ipc"},
    ]
    config["hostname"] = ""
    found = here.shell("for kind in net pid ipc uts; do readlink /proc/self/ns/$kind; done", config).split()
    of_holder = [os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("net", "pid")]
    assert found[:2] == of_holder
    assert found[2] not in (os.readlink(f"/proc/{pid}/ns/ipc"), os.readlink("/proc/self/ns/ipc"))
    assert found[3] == os.readlink("/proc/self/ns/uts")


def test_in_anothers_user_and_pid_namespace_it_is_known_by_its_pid_out_here(here: Lab) -> None:
    mappings = [{"containerID": 0, "hostID": 0, "size": 65536}]
    holder = here.config("sleep", "1000")
    holder["linux"] |= {"uidMappings": mappings, "gidMappings": mappings}
    holder["linux"]["namespaces"].append({"type": "user"})
    here.create(holder, "holder")
    pid = here.state("holder")["pid"]
    config = here.config("sleep", "1000")
    theirs = [{"type": kind, "path": f"/proc/{pid}/ns/{kind}"} for kind in ("user", "pid")]
    config["linux"]["namespaces"] = [{"type": "mount"}, {"type": "ipc"}, *theirs]
    config["hostname"] = ""
    here.create(config, "box")
    found = here.state()["pid"]
    for kind in ("user", "pid"):
        assert os.readlink(f"/proc/{found}/ns/{kind}") == os.readlink(f"/proc/{pid}/ns/{kind}")
    assert here.oci("exec", "box", "sh", "-c", "echo $PPID").strip() == "0"


def test_clocks_are_set_forward_in_a_time_namespace(here: Lab) -> None:
    config = here.config()
    config["linux"]["namespaces"].append({"type": "time"})
    config["linux"]["timeOffsets"] = {"boottime": {"secs": 1_000_000, "nanosecs": 0}}
    assert float(here.shell("cut -d' ' -f1 /proc/uptime", config)) > 1_000_000


def test_sysctls_are_of_the_containers_namespaces(here: Lab) -> None:
    config = here.config()
    config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.msgmax": "4096", "kernel.domainname": "here"}
    out = here.shell("cd /proc/sys; cat net/ipv4/ip_forward kernel/msgmax kernel/domainname", config)
    assert out.split() == ["1", "4096", "here"]


def test_limits_are_in_the_containers_cgroup_and_can_be_changed(here: Lab) -> None:
    config = here.config("sleep", "1000")
    config["linux"]["resources"]["pids"] = {"limit": 50}
    config["linux"]["resources"]["memory"] = {"limit": 64 << 20}
    here.create(config)
    here.oci("start", "box")
    look = "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/memory/memory.limit_in_bytes"
    if not Path("/sys/fs/cgroup/pids").exists():
        look = "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/memory.max"
    assert here.oci("exec", "box", "sh", "-c", look).split() == ["50", str(64 << 20)]
    here.oci("update", "--pids-limit", "60", "box")
    here.oci("update", "-r", "-", "box", given=json.dumps({"memory": {"limit": 32 << 20}}))
    assert here.oci("exec", "box", "sh", "-c", look).split() == ["60", str(32 << 20)]


def test_a_cgroup_with_somebody_in_it_is_not_taken_and_who_is_there_lives(here: Lab) -> None:
    layout = cgroup.detect()
    group = Path(layout.controllers.get("pids") or layout.unified or "") / f"oci-cli-{os.getpid()}"
    group.mkdir()
    with subprocess.Popen(["sleep", "1000"]) as somebody:
        try:
            (group / "cgroup.procs").write_text(str(somebody.pid))
            config = here.config("true")
            config["linux"]["cgroupsPath"] = f"/{group.name}"
            here.refused(config, "somebody is in the cgroup")
            assert somebody.poll() is None
        finally:
            somebody.kill()
    group.rmdir()


def test_below_a_frozen_cgroup_nothing_is_born(here: Lab) -> None:
    layout = cgroup.detect()
    v1 = layout.controllers.get("freezer")
    group = Path(v1 or layout.unified or "") / f"oci-cli-{os.getpid()}"
    group.mkdir()
    try:
        (group / ("freezer.state" if v1 else "cgroup.freeze")).write_text("FROZEN" if v1 else "1")
        config = here.config("true")
        config["linux"]["cgroupsPath"] = f"/{group.name}/box"
        here.refused(config, "is frozen")
    finally:
        (group / ("freezer.state" if v1 else "cgroup.freeze")).write_text("THAWED" if v1 else "0")
        group.rmdir()


def test_devices_that_are_not_allowed_do_not_open(here: Lab) -> None:
    config = here.config()
    config["linux"]["devices"] = [{"path": "/dev/mem2", "type": "c", "major": 1, "minor": 1, "fileMode": 0o666}]
    out = here.shell("head -c 1 /dev/mem2 2>&1; head -c 1 /dev/zero | wc -c", config)
    assert "Operation not permitted" in out
    assert out.splitlines()[-1] == "1"


def test_the_filter_is_the_configs(here: Lab) -> None:
    config = here.config()
    config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}],
    }
    assert "not supported" in here.shell("mkdir /tmp/x 2>&1; true", config).lower()


def test_a_listener_gets_the_filters_descriptor_and_the_state(here: Lab) -> None:
    path = here.top / "listener"
    config = here.config("true")
    config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": str(path),
        "listenerMetadata": "100%",
        "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_NOTIFY"}],
    }
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen(1)
        here.create(config)
        pid = here.state()["pid"]
        here.oci("start", "box")
        connection, _ = server.accept()
    with connection:
        data, ancillary, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(4))
    (fd,) = array.array("i", ancillary[0][2])
    assert os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:seccomp notify"
    os.close(fd)
    told = json.loads(data)
    assert (told["fds"], told["pid"], told["metadata"]) == (["seccompFd"], pid, "100%")
    assert (told["state"]["id"], told["state"]["pid"], told["state"]["status"]) == ("box", pid, "creating")


def test_only_descriptors_that_are_preserved_reach_the_program(here: Lab) -> None:
    assert here.shell("ls -1 /proc/$$/fd; true").split() == ["0", "1", "2"]


def test_the_masters_of_terminals_go_to_the_console_socket(here: Lab) -> None:
    path = here.top / "console"
    config = here.config("sh", "-c", "tty; stty size; read word; echo got $word")
    config["process"] |= {"terminal": True, "consoleSize": {"height": 33, "width": 99}}
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen(1)
        here.create(config, "box", "--console-socket", str(path))
        connection, _ = server.accept()
    with connection:
        _, ancillary, _, _ = connection.recvmsg(100, socket.CMSG_SPACE(4))
    (master,) = array.array("i", ancillary[0][2])
    assert stat.S_ISCHR(os.fstat(master).st_mode)
    with os.fdopen(master, "r+b", buffering=0) as terminal:
        here.oci("start", "box")
        terminal.write(b"hello\n")
        seen = b""
        while b"got hello" not in seen:
            seen += terminal.read(1024)
    assert b"/dev/pts/0" in seen
    assert b"33 99" in seen


HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def test_hooks_run_in_order_with_the_state_on_stdin(here: Lab) -> None:
    log = here.top / "hooks"
    (here.bundle / "rootfs" / "log").mkdir()
    config = here.config("true")
    config["mounts"].append({"destination": "/log", "type": "bind", "source": str(here.top), "options": ["bind"]})
    config["root"]["readonly"] = False
    config["hooks"] = {}
    for kind in HOOKS:
        target = "/log/hooks" if kind == "startContainer" else str(log)
        script = f"(echo -n '{kind} '; cat; echo \" $WORD\") >> {target}; echo $WORD"
        environment = [f"WORD={kind}", "PATH=/bin:/usr/bin"]
        config["hooks"][kind] = [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": environment}]
    assert here.run(config) == (0, "", "")
    seen = [line.partition(" ") for line in log.read_text().splitlines()]
    assert [kind for kind, _, _ in seen] == list(HOOKS)
    states = [json.loads(rest.rpartition(" ")[0]) for _, _, rest in seen]
    assert [state["status"] for state in states] == ["creating", "creating", "creating", "created", "running", "stopped"]
    assert {state["id"] for state in states} == {"box"}
    assert [state["pid"] for state in states[:-1]] == [states[0]["pid"]] * 5


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_a_failing_hook_ends_creation_and_poststop_runs(here: Lab, kind: str) -> None:
    mark = here.top / "poststop"
    config = here.config("true")
    poststop = {"path": "/bin/sh", "args": ["sh", "-c", f"touch {mark}"]}
    config["hooks"] = {kind: [{"path": "/bin/false"}], "poststop": [poststop]}
    here.refused(config, "hook /bin/false", kind)
    assert mark.exists()


def test_a_hook_that_takes_too_long_is_killed(here: Lab) -> None:
    config = here.config("true")
    config["hooks"] = {"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]}
    here.refused(config, "timed out")


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a root that is missing": (
        {"root": {"path": "nowhere"}},
        "is not a directory",
    ),
    "a path that is no namespace": (
        {"hostname": "", "linux": {"namespaces": [{"type": "mount"}, {"type": "network", "path": "/etc/passwd"}]}},
        "is not a namespace",
    ),
    "a namespace of another kind": (
        {"hostname": "", "linux": {"namespaces": [{"type": "mount"}, {"type": "network", "path": "/proc/self/ns/uts"}]}},
        "is not a net namespace",
    ),
    "a bind of what is not there": (
        {"mounts": [{"destination": "/x", "type": "bind", "source": "/no/such", "options": ["bind"]}]},
        "No such file",
    ),
    "a file over a directory": (
        {"mounts": [{"destination": "/bin", "source": "/etc/hostname", "options": ["bind"]}]},
        "cannot mount /etc/hostname at /bin: Not a directory",
    ),
    "a file system that nobody knows": (
        {"mounts": [{"destination": "/x", "type": "nofs", "source": "x"}]},
        "nofs",
    ),
    "a cgroup that leads out": (
        {"hostname": "", "linux": {"namespaces": [{"type": "mount"}], "cgroupsPath": "/a/../../b"}},
        "leads out of the hierarchy",
    ),
    "a cgroup that is everybody's": (
        {"hostname": "", "linux": {"namespaces": [{"type": "mount"}], "cgroupsPath": "/."}},
        "a container needs a cgroup of its own",
    ),
    "an action that nobody knows": (
        {"hostname": "", "linux": {"namespaces": [{"type": "mount"}], "seccomp": {"defaultAction": "SCMP_ACT_X"}}},
        "SCMP_ACT_X",
    ),
}
"""What is seen only on the machine; the others are in tests/unit/standalone."""


@pytest.mark.parametrize("mistake", BAD)
def test_a_bad_config_is_one_error_and_nothing_is_left(here: Lab, mistake: str) -> None:
    changes, words = BAD[mistake]
    here.refused(here.config() | changes, words)


def test_unknown_properties_are_ignored(here: Lab) -> None:
    config = here.config("true")
    config["x"] = {"y": 1}
    config["process"]["x"] = config["linux"]["x"] = [None]
    assert here.run(config)[0] == 0
