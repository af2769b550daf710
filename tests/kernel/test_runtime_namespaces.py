"""Containers that are in namespaces of the host, seen from inside and from outside."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import trio

from orchestrator.contracts.runtime import GeneratedFile, Run, VolumeFill
from orchestrator.errors import OperationError
from orchestrator.kernel.caps import CAPABILITIES
from orchestrator.kernel.cgroup import detect
from orchestrator.model.names import ContainerId, cgroup_path
from orchestrator.oci.confinement import DEFAULT_CAPABILITIES
from orchestrator.values import replace
from tests.kernel.place import HOST_BASE, Place, place, two_places, with_lowers
from tests.kernel.test_runtime_confinement import status_of
from tests.kernel.test_runtime_exec import execute, execute_in

pytestmark = pytest.mark.kernel
BOX = ContainerId("rt-a-1")
USER = ("user",)


@pytest.fixture
async def here(leaves_nothing_behind: None, busybox_rootfs: Path) -> AsyncGenerator[Place, None]:
    async with place(busybox_rootfs) as opened:
        yield opened


async def state_of(here: Place, container: str) -> Run:
    run = next(state.run for state in await here.runtime.containers() if state.container == container)
    assert run is not None
    return run


def namespaces(pid: int | str) -> dict[str, str]:
    return {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("user", "net", "pid", "mnt", "uts", "ipc", "cgroup")}


def shared_with_us(pid: int) -> set[str]:
    return {kind for kind, found in namespaces(pid).items() if namespaces("self")[kind] == found}


async def test_root_in_the_hosts_user_namespace_is_the_machines_root_and_confined_all_the_same(here: Place) -> None:
    run = await here.begin(["sh", "-c", "cat /proc/self/status; sleep 1000"], hosts=USER)
    assert shared_with_us(run.pid) == {"user"}
    assert Path(f"/proc/{run.pid}").stat().st_uid == 0
    status = status_of(Path(f"/proc/{run.pid}/status").read_text())
    expected = f"{sum(1 << CAPABILITIES[name] for name in DEFAULT_CAPABILITIES):016x}"
    assert {status[name] for name in ("CapPrm", "CapEff", "CapBnd")} == {expected}
    assert (status["Seccomp"], status["CapInh"], status["CapAmb"]) == ("2", "0" * 16, "0" * 16)


async def test_files_belong_to_whom_they_belong_to_on_the_host(here: Place, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "mine").write_text("x")
    os.chown(source / "mine", 77, 100_000)
    mounts = [{"destination": "/data", "type": "bind", "source": str(source), "options": ["rbind", "idmap", "rw"]}]
    script = """
        stat -c '%u:%g %n' /etc/passwd /data/mine /secret /dev/null /dev /proc
        touch /written /data/written; chown 200000:7 /written /data/written; stat -c '%u:%g' /written; cat /secret
    """
    files = (GeneratedFile("/secret", b"hidden\n", 0o400, 70_000, 5),)
    exit_, log = await here.shell(script, hosts=USER, mounts=mounts, files=files)
    assert log.splitlines() == [
        "0:0 /etc/passwd", "77:100000 /data/mine", "70000:5 /secret", "0:0 /dev/null", "0:0 /dev", "0:0 /proc",
        "200000:7", "hidden",
    ]  # fmt: skip
    assert exit_.ok
    upper = Path(here.site.data_dir, "containers", BOX, "upper")
    for path in (upper / "written", source / "written"):
        assert (path.stat().st_uid, path.stat().st_gid) == (200_000, 7)
    assert upper.stat().st_uid == 0


async def test_layers_of_both_kinds_stand_side_by_side_and_go(here: Place) -> None:
    """One image, once with the project's ids and once with the host's, started alternately."""
    for name, hosts in (("rt-a-1", ()), ("rt-b-1", USER), ("rt-c-1", ())):
        _, log = await here.shell("stat -c %u:%g /etc/passwd; echo x > /new; cat /new", name=name, hosts=hosts)
        assert log.split() == ["0:0", "x"]
        assert Path(here.site.data_dir, "containers", name, "upper/new").stat().st_uid == (0 if hosts else HOST_BASE)
    await here.runtime.remove(ContainerId("rt-b-1"))
    _, log = await here.shell("stat -c %u /etc/passwd", name="rt-d-1", hosts=USER)
    assert log.split() == ["0"]
    _, log = await here.shell("stat -c %u /etc/passwd", name="rt-e-1")
    assert log.split() == ["0"]


async def test_a_volume_is_filled_for_the_hosts_user_namespace_as_for_any(here: Place, tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    (layer / "srv").mkdir(parents=True)
    (layer / "srv/file").write_text("content")
    os.chown(layer / "srv/file", 70, 71)
    volume = tmp_path / "volume"
    volume.mkdir()
    mounts = [{"destination": "/srv", "type": "bind", "source": str(volume), "options": ["rbind", "idmap", "rw"]}]
    spec = here.spec(["stat", "-c", "%u:%g", "/srv/file"], mounts=mounts, hosts=USER)
    spec = with_lowers(spec, layer, here.rootfs)
    await here.runtime.create(replace(spec, fills=(VolumeFill("/srv", str(volume)),)))
    await here.runtime.wait(await here.runtime.start(BOX))
    assert here.log(BOX) == b"70:71\n"
    assert (volume / "file").stat().st_uid == 70


async def test_an_ordinary_user_of_the_hosts_ids_can_open_its_output(here: Place) -> None:
    _, log = await here.shell("echo out > /dev/stdout; id -u; grep CapEff /proc/self/status", hosts=USER, uid=70_000)
    assert log.split() == ["out", "70000", "CapEff:", "0" * 16]


async def test_exec_and_probes_join_what_is_the_containers_own(here: Place) -> None:
    run = await here.begin(["sleep", "1000"], hosts=USER)
    script = "for n in user net pid mnt uts ipc cgroup; do readlink /proc/self/ns/$n; done; grep CapBnd /proc/self/status"
    exit_, output = await execute(here, "sh", "-c", script)
    assert exit_.ok
    *found, _, capabilities = output.split()
    assert found == list(namespaces(run.pid).values())
    assert int(capabilities, 16) == sum(1 << CAPABILITIES[name] for name in DEFAULT_CAPABILITIES)
    assert (await here.runtime.probe(BOX, ("true",), 5)).ok
    exit_, output = await execute(here, "id", "-u", user="nobody")
    assert output == "65534\n"


async def test_what_the_monitor_is_made_of_cannot_be_written_by_the_machines_root_in_a_container(here: Place) -> None:
    """CVE-2019-5736: ``#!/proc/self/exe`` is executed as what we are at that moment."""
    monitor = f"/proc/{here.runtime.monitor_pid}/exe"
    assert os.path.samefile(monitor, sys.executable)
    assert os.statvfs(monitor).f_flag & os.ST_RDONLY
    with pytest.raises(OSError, match="Read-only file system"):
        os.chmod(monitor, 0o777)


async def test_a_monitor_that_knows_no_plain_layers_is_not_asked_for_them(here: Place) -> None:
    (await here.runtime._session.link()).version = 4
    with pytest.raises(OperationError, match="was started by an older pystack"):
        await here.runtime.create(here.spec(["true"], hosts=USER))


# Other namespaces of the host.


async def test_the_hosts_processes_and_what_outlives_a_run_among_them(here: Place) -> None:
    """Without a PID namespace to end with, the run's end is the end of its cgroup."""
    marker = f"{987_000 + os.getpid() % 1000}"
    script = f"test -d /proc/{os.getpid()}/ns && echo seen; (setsid sleep {marker} </dev/null >/dev/null 2>&1 &); sleep 0.2"
    run = await here.begin(["sh", "-c", script], hosts=("user", "pid"))
    assert shared_with_us(run.pid) == {"user", "pid"}
    assert (await here.runtime.wait(run)).ok
    assert here.log(BOX) == b"seen\n"
    with trio.fail_after(10):
        while any(marker in command for command in commands()):
            await trio.sleep(0.02)
    run = await here.runtime.start(BOX)
    await here.runtime.kill(BOX)
    assert (await here.runtime.wait(run)).signal == 9


def commands() -> list[str]:
    """The command lines of all processes; a zombie has none."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


async def test_what_an_init_starts_in_the_hosts_pid_namespace_is_reaped_by_it(here: Place) -> None:
    script = "(sleep 0.1 &); sleep 0.4; ps -o stat,ppid | grep -c '^Z'; true"
    annotations = {"pystack.init": "true"}
    run = await here.begin(["sh", "-c", script], hosts=("user", "pid"), annotations=annotations)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children")
    with trio.fail_after(10):
        while len(children.read_text().split()) < 2:  # The orphan has come to it.
            await trio.sleep(0.005)
        while len(children.read_text().split()) > 1:
            await trio.sleep(0.005)
    await here.runtime.wait(run)


async def test_each_other_namespace_can_be_the_hosts(here: Place) -> None:
    for kinds, names in (("ipc", {"ipc"}), ("uts", {"uts"}), ("cgroup", {"cgroup"}), ("network", {"net"})):
        spec = here.spec(["sh", "-c", "hostname; sleep 1000"], hosts=("user", kinds))
        if kinds == "uts":
            del spec.config["hostname"]
        await here.runtime.create(spec)
        run = await here.runtime.start(BOX)
        assert shared_with_us(run.pid) == {"user", *names}
        _, output = await execute(here, "hostname")
        assert output.strip() == (os.uname().nodename if kinds == "uts" else "box")
        _, output = await execute(here, "ls", "/sys/class/net")
        assert output.split() == (sorted(name for _, name in socket.if_nameindex()) if kinds == "network" else ["lo"])
        await here.runtime.remove(BOX)


@pytest.mark.parametrize("kind", ["uts", "cgroup"])
async def test_who_is_nobody_outside_can_be_in_the_hosts_namespace(here: Place, kind: str) -> None:
    script = "cat /proc/self/cgroup; ls /sys/fs/cgroup/*/cgroup.procs | head -1; id -u"
    spec = here.spec(["sh", "-c", script], hosts=(kind,))
    if kind == "uts":
        del spec.config["hostname"]
    await here.runtime.create(spec)
    run = await here.runtime.start(BOX)
    assert (await here.runtime.wait(run)).ok
    lines = here.log(BOX).decode().splitlines()
    assert any(line.endswith(f"/{BOX}") for line in lines) == (kind == "cgroup")
    assert lines[-1] == "0"


# Another container's.


async def owner_and_guest(here: Place, kind: str, script: str = "sleep 1000", **options: Any) -> tuple[Run, Run]:
    owner = await here.begin(["sh", "-c", "echo 127.0.0.9 it >> /etc/hosts; sleep 1000"], **options)
    spec = here.spec(["sh", "-c", script], "rt-b-1", **options)
    await here.runtime.create(replace(spec, shares={kind: BOX}))
    return owner, await here.runtime.start(ContainerId("rt-b-1"))


@pytest.mark.parametrize("hosts", [(), USER])
@pytest.mark.parametrize(("kind", "name"), [("network", "net"), ("pid", "pid"), ("ipc", "ipc")])
async def test_one_namespace_is_shared_and_no_other(here: Place, kind: str, name: str, hosts: tuple[str, ...]) -> None:
    owner, guest = await owner_and_guest(here, kind, hosts=hosts)
    ours, theirs = namespaces(guest.pid), namespaces(owner.pid)
    assert {key for key, found in ours.items() if theirs[key] == found} == {"user", name}
    _, output = await execute_in(here, "rt-b-1", "readlink", f"/proc/self/ns/{name}")
    assert output.strip() == theirs[name]


async def test_the_shared_memory_goes_with_the_ipc_namespace(here: Place) -> None:
    await owner_and_guest(here, "ipc", "echo hello > /dev/shm/word; sleep 1000")
    _, output = await execute(here, "sh", "-c", "until cat /dev/shm/word 2>/dev/null; do sleep 0.05; done")
    assert output == "hello\n"


async def test_processes_see_and_end_each_other_in_a_shared_pid_namespace(here: Place) -> None:
    owner, guest = await owner_and_guest(here, "pid", "exec sleep 777")
    last = "$(pidof sleep | tr ' ' '\\n' | sort -n | tail -1)"
    await execute(here, "sh", "-c", f"until ps | grep -q '[s]leep 777'; do :; done; kill -9 {last}")
    assert (await here.runtime.wait(guest)).signal == 9
    guest = await here.runtime.start(guest.container)
    await here.runtime.kill(BOX)
    assert (await here.runtime.wait(guest)).signal == 9
    with pytest.raises(OperationError, match=r"whose (pid namespace|namespaces) it is in,? (does not run|has just ended)"):
        await here.runtime.start(guest.container)
    await here.runtime.wait(owner)
    with pytest.raises(OperationError, match=r"^cannot start rt-b-1: rt-a-1, whose pid namespace it is in, does not run$"):
        await here.runtime.start(ContainerId("rt-b-1"))
    await here.runtime.start(BOX)
    again = await here.runtime.start(ContainerId("rt-b-1"))
    assert namespaces(again.pid)["pid"] == namespaces((await state_of(here, BOX)).pid)["pid"]


async def test_names_and_the_resolver_come_with_the_network(here: Place) -> None:
    files = (GeneratedFile("/etc/hosts", b"10.0.0.1 owner\n"), GeneratedFile("/etc/resolv.conf", b"nameserver 10.0.0.2\n"))
    await here.begin(["sleep", "1000"], files=files)
    guest = here.spec(["cat", "/etc/hosts", "/etc/resolv.conf"], "rt-b-1")
    asked = (GeneratedFile("/etc/hosts"), GeneratedFile("/etc/hostname"), GeneratedFile("/etc/resolv.conf"))
    await here.runtime.create(replace(guest, files=asked, shares={"network": BOX}))
    await here.runtime.wait(await here.runtime.start(ContainerId("rt-b-1")))
    assert here.log("rt-b-1") == b"10.0.0.1 owner\nnameserver 10.0.0.2\n"


async def test_who_is_mapped_is_not_put_into_the_namespaces_of_the_machines_root(here: Place) -> None:
    await here.begin(["sleep", "1000"], hosts=USER)
    with pytest.raises(OperationError, match="which is in the host's user namespace") as caught:
        await here.runtime.create(replace(here.spec(["true"], "rt-b-1"), shares={"pid": BOX}))
    assert "userns_mode: host" in str(caught.value.hint)
    await here.begin(["sleep", "1000"], "rt-c-1", hosts=("user", "pid"))
    spec = replace(here.spec(["true"], "rt-b-1", hosts=USER), shares={"pid": ContainerId("rt-c-1")})
    with pytest.raises(OperationError, match="has no pid namespace of its own"):
        await here.runtime.create(spec)
    assert not Path(here.site.data_dir, "containers/rt-b-1").exists()


async def test_namespaces_of_another_project_by_the_containers_name(
    leaves_nothing_behind: None, busybox_rootfs: Path
) -> None:
    async with two_places(busybox_rootfs) as (one, other):
        owner = await one.begin(["sleep", "1000"], "rt-owner-1")
        name = ContainerId("rt-owner-1")
        with pytest.raises(OperationError, match="which is of another project"):
            await other.runtime.create(replace(other.spec(["true"], "rt-b-1"), shares={"network": name}))
        spec = other.spec(["sleep", "1000"], "rt-b-1", hosts=USER)
        await other.runtime.create(replace(spec, shares={"network": name, "pid": name, "ipc": name}))
        guest = await other.runtime.start(ContainerId("rt-b-1"))
        ours, theirs = namespaces(guest.pid), namespaces(owner.pid)
        assert {key for key, found in ours.items() if theirs[key] == found} == {"net", "pid", "ipc"}
        await one.runtime.kill(name)
        await one.runtime.wait(owner)
        assert (await other.runtime.wait(guest)).signal == 9
        with pytest.raises(OperationError, match="rt-owner-1, whose network namespace it is in, does not run"):
            await other.runtime.start(ContainerId("rt-b-1"))
        with pytest.raises(OperationError, match=r'^there is no container "nobody"$'):
            await other.runtime.create(replace(spec, shares={"pid": ContainerId("nobody")}))


# Cgroups.


async def test_a_parent_cgroup_is_made_when_it_is_missing_and_removed_only_when_it_was(here: Place) -> None:
    layout = detect()
    parent = f"rt-{os.urandom(4).hex()}"
    group = f"{parent}/deep/{cgroup_path(here.site.key, BOX)}"
    spec = here.spec(["sh", "-c", "sleep 1000"])
    spec.config["linux"]["cgroupsPath"] = f"/{group}"
    there = [root for root in layout.roots() if "memory" in root]
    os.mkdir(f"{there[0]}/{parent}")
    try:
        await here.runtime.create(spec)
        run = await here.runtime.start(BOX)
        for root in layout.roots():
            if os.path.isdir(f"{root}/{parent}/deep"):
                assert str(run.pid) in Path(root, group, "cgroup.procs").read_text().split()
        assert os.path.isdir(f"{layout.roots()[0]}/{group}")
        await here.runtime.remove(BOX)
        left = [root for root in layout.roots() if os.path.isdir(f"{root}/{parent}")]
        assert left == there
        assert not os.path.isdir(f"{there[0]}/{parent}/deep")
    finally:
        os.rmdir(f"{there[0]}/{parent}")
