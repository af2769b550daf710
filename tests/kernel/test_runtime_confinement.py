"""What a container can see and do, seen from inside it; and images that mean harm."""

from __future__ import annotations

import os
import re
import shutil
import struct
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import trio

from orchestrator.contracts.runtime import ExecSpec, VolumeFill
from orchestrator.errors import CommandError, HostError
from orchestrator.kernel.caps import CAPABILITIES
from orchestrator.model.names import ContainerId
from orchestrator.oci.confinement import DEFAULT_CAPABILITIES
from orchestrator.values import replace
from tests.kernel.place import HOST_BASE, Place, place, with_lowers
from tests.kernel.test_runtime_exec import execute
from tests.machine import eventually

pytestmark = pytest.mark.kernel
BOX = ContainerId("rt-a-1")


@pytest.fixture
async def here(leaves_nothing_behind: None, busybox_rootfs: Path) -> AsyncGenerator[Place, None]:
    async with place(busybox_rootfs) as opened:
        yield opened


def status_of(log: str) -> dict[str, str]:
    return {key: value.strip() for key, _, value in (line.partition(":") for line in log.splitlines())}


async def test_namespaces_are_its_own(here: Place) -> None:
    kinds = ("pid", "mnt", "uts", "ipc", "cgroup", "net", "user")
    _, log = await here.shell("for n in " + " ".join(kinds) + "; do readlink /proc/self/ns/$n; done")
    for kind, line in zip(kinds, log.split(), strict=True):
        assert line.startswith(f"{kind}:")
        assert line != os.readlink(f"/proc/self/ns/{kind}")


async def test_it_is_pid_1_with_the_host_name_given(here: Place) -> None:
    _, log = await here.shell("echo $$; hostname; cat /proc/sys/kernel/hostname; ps -o pid | wc -l")
    assert log.split()[:3] == ["1", "box", "box"]


async def test_root_in_it_is_nobody_outside(here: Place) -> None:
    run = await here.begin(["sleep", "1000"])
    assert Path(f"/proc/{run.pid}").stat().st_uid == HOST_BASE
    assert Path(f"/proc/{run.pid}/uid_map").read_text().split()[:3] == ["0", str(HOST_BASE), "65536"]


async def test_capabilities_and_the_filter_are_as_configured(here: Place) -> None:
    _, log = await here.shell("cat /proc/self/status")
    status = status_of(log)
    expected = f"{sum(1 << CAPABILITIES[name] for name in DEFAULT_CAPABILITIES):016x}"
    assert {status[name] for name in ("CapPrm", "CapEff", "CapBnd")} == {expected}
    assert {status[name] for name in ("CapInh", "CapAmb")} == {"0" * 16}
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "0")


async def test_a_user_that_is_not_root_has_no_capabilities(here: Place) -> None:
    _, log = await here.shell("cat /proc/self/status; echo; id; echo out > /dev/stdout; touch /x", uid=1000)
    status = status_of(log)
    assert (status["CapEff"], status["CapPrm"], status["Groups"]) == ("0" * 16, "0" * 16, "1000")
    assert "uid=1000 gid=1000" in log
    assert "\nout\n" in log
    assert "Permission denied" in log


async def test_only_the_intended_mounts_are_there(here: Place) -> None:
    _, log = await here.shell("cut -d' ' -f2,3 /proc/mounts")
    table = dict(line.split() for line in log.splitlines())
    allowed = {"/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys"}
    assert allowed <= table.keys()
    extra = {at for at in table.keys() - allowed if not at.startswith(("/proc/", "/sys/"))}
    assert extra == set()
    assert table["/"] == "overlay"


async def test_nothing_of_the_host_can_be_reached(here: Place) -> None:
    marker = Path(here.site.data_dir, "marker")
    marker.write_text("secret")
    _, log = await here.shell(f"ls /; ls {marker} /l /c /d; cat /proc/1/mountinfo | grep -c vda; ls -d /proc/1/root/..")
    assert "marker\n" not in log.replace(f"{marker}: No such", "")
    assert log.count("No such file or directory") == 4


async def test_masked_and_read_only_paths(here: Place) -> None:
    harmful = (
        "echo x > /proc/sys/kernel/core_pattern",
        "echo x > /proc/sysrq-trigger",
        "umount /proc/keys",
        "umount /sys/firmware",
        "mount -o remount,rw /proc/sys",
        "mkdir /sys/fs/cgroup/x",
        "test -s /proc/keys",
        "test -s /proc/timer_list",
        "touch /proc/acpi/x",
    )
    script = "".join(f"({command}) 2>/dev/null && echo '{command}'; " for command in harmful)
    _, log = await here.shell(script + "ls -A /proc/acpi /sys/firmware")
    assert log == "/proc/acpi:\n\n/sys/firmware:\n"


async def test_no_descriptor_leaks_in(here: Place) -> None:
    # No pipeline: the shell would have a pipe of its own for a moment.
    _, log = await here.shell("ls -l /proc/$$/fd; true")
    names = [line.rpartition(" -> ")[2] for line in log.splitlines() if not line.startswith("total")]
    assert names[0] == "/dev/null"
    assert [name.partition(":")[0] for name in names[1:]] == ["pipe", "pipe"]
    _, log = await here.shell("exec ls /proc/self/fd")
    assert "4" not in log.split()[3:]


async def test_signals_and_masks_are_as_at_birth(here: Place) -> None:
    _, log = await here.shell("grep -E '^Sig(Ign|Blk)' /proc/self/status; umask")
    assert log.split() == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16, "0022"]


async def test_the_session_and_keyring_are_its_own(here: Place) -> None:
    _, log = await here.shell("cut -d' ' -f1,5,6 /proc/self/stat; cut -d' ' -f1,6 /proc/1/stat")
    assert log.splitlines()[1] == "1 1"


async def test_its_keyring_counts_for_the_hosts_root_who_may_have_many(here: Place) -> None:
    """All containers of a project are one user of the host, and any user but root may have 200 keys (keyrings(7))."""
    run = await here.begin(["sleep", "1000"])
    users = Path("/proc/key-users")
    await trio.to_thread.run_sync(eventually, lambda: f"{HOST_BASE}:" not in users.read_text().split())
    assert Path(f"/proc/{run.pid}").stat().st_uid == HOST_BASE


async def test_devices(here: Place) -> None:
    script = """
        echo x > /dev/null; head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c
        echo x > /dev/full; mknod /dev/mem c 1 1; echo one > /dev/fd/1; test -c /dev/pts/ptmx && echo ptmx
        echo e > /dev/stderr
    """
    _, log = await here.shell(script)
    # Two pipes: the order is kept within each of them alone.
    errors = [line for line in log.splitlines() if line not in ("4", "one", "ptmx")]
    assert [line for line in log.splitlines() if line not in errors] == ["4", "4", "one", "ptmx"]
    assert "No space left" in errors[0]
    assert "Operation not permitted" in errors[1]
    assert errors[2:] == ["e"]


async def test_ping_and_low_ports_need_no_capability(here: Place) -> None:
    _, log = await here.shell("cat /proc/sys/net/ipv4/ping_group_range /proc/sys/net/ipv4/ip_unprivileged_port_start")
    assert log.split() == ["0", "65535", "0"]


async def test_the_cgroup_tree_is_its_own(here: Place) -> None:
    _, log = await here.shell("cat /proc/self/cgroup")
    for line in log.splitlines():
        number, controllers, path = line.split(":", 2)
        if number != "0" and not {"memory", "pids"} & set(controllers.split(",")):
            continue
        assert path == "/", line


def hostile(rootfs: Path, scratch: Path) -> Path:
    copy = scratch / "rootfs"
    shutil.copytree(rootfs, copy, symlinks=True)
    return copy


async def test_a_dev_that_is_a_link_to_the_host_harms_nothing(here: Place, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    copy = hostile(here.rootfs, tmp_path)
    for name in ("dev", "proc", "sys"):
        shutil.rmtree(copy / name)
        (copy / name).symlink_to("../../../../../../../../../.." + str(victim / name))
    spec = with_lowers(here.spec(["sh", "-c", "ls -d /dev/. && ls /dev/null && echo fine"]), copy)
    await here.runtime.create(spec)
    exit_ = await here.runtime.wait(await here.runtime.start(BOX))
    assert os.listdir(victim) == []
    assert (exit_.code, here.log(BOX).endswith(b"fine\n")) == (0, True)


async def test_a_passwd_that_is_a_fifo_hangs_nothing(here: Place, tmp_path: Path) -> None:
    copy = hostile(here.rootfs, tmp_path)
    (copy / "etc/passwd").unlink()
    os.mkfifo(copy / "etc/passwd")
    spec = with_lowers(here.spec(["sleep", "1000"]), copy)
    await here.runtime.create(spec)
    await here.runtime.start(BOX)
    with trio.fail_after(30):
        result = await here.runtime.probe(BOX, ("true",), 5)
        assert result.ok
        null = os.open("/dev/null", os.O_RDWR)
        with pytest.raises(CommandError, match="there is no user"):
            await here.runtime.exec(BOX, ExecSpec(("true",), (null, null, null), user="bob"))
        os.close(null)


async def test_a_mount_point_that_leads_out_stays_inside(here: Place, tmp_path: Path) -> None:
    copy = hostile(here.rootfs, tmp_path)
    victim = tmp_path / "victim"
    victim.mkdir()
    source = tmp_path / "source"
    source.mkdir()
    (copy / "data").symlink_to(f"../../../../../..{victim}")
    (copy / "loop").symlink_to("loop")
    mounts = [{"destination": "/data", "type": "bind", "source": str(source), "options": ["rbind", "idmap"]}]
    spec = with_lowers(here.spec(["touch", "/data/file"], mounts=mounts), copy)
    await here.runtime.create(spec)
    assert (await here.runtime.wait(await here.runtime.start(BOX))).ok
    assert os.listdir(victim) == []
    assert os.listdir(source) == ["file"]
    mounts[0]["destination"] = "/loop/x"
    await here.runtime.create(with_lowers(here.spec(["true"], mounts=mounts), copy))
    with pytest.raises(HostError, match="Too many levels of symbolic links"):
        await here.runtime.start(BOX)


async def test_an_empty_volume_is_filled_from_the_image_once(here: Place, tmp_path: Path) -> None:
    copy = hostile(here.rootfs, tmp_path)
    (copy / "srv/deep").mkdir(parents=True)
    (copy / "srv/deep/file").write_text("content")
    (copy / "srv/link").symlink_to("/etc/shadow")
    os.mkfifo(copy / "srv/fifo")
    os.chown(copy / "srv/deep", 70, 71)
    (copy / "srv").chmod(0o750)
    volume = tmp_path / "volume"
    volume.mkdir()
    spec = with_lowers(here.spec(["true"]), copy)
    spec = replace(spec, fills=(VolumeFill("/srv", str(volume)), VolumeFill("/missing", str(tmp_path / "none"))))
    await here.runtime.create(spec)
    assert sorted(os.listdir(volume)) == ["deep", "fifo", "link"]
    assert (volume / "deep/file").read_text() == "content"
    assert os.readlink(volume / "link") == "/etc/shadow"
    assert ((volume / "deep").stat().st_uid, (volume / "deep").stat().st_gid) == (70, 71)
    assert volume.stat().st_mode & 0o777 == 0o750
    (volume / "deep/file").write_text("changed")
    await here.runtime.create(spec)
    assert (volume / "deep/file").read_text() == "changed"


async def test_layers_are_stacked_topmost_first(here: Place, tmp_path: Path) -> None:
    lowers = []
    for number in range(30):
        layer = tmp_path / f"layer{number}"
        layer.mkdir()
        (layer / "same").write_text(f"{number}")
        (layer / f"own{number}").write_text("")
        lowers.append(layer)
    spec = with_lowers(here.spec(["sh", "-c", "cat /same; ls / | grep -c own"]), *lowers, here.rootfs)
    await here.runtime.create(spec)
    await here.runtime.wait(await here.runtime.start(BOX))
    assert re.match(rb"0\s*30\n", here.log(BOX))


async def test_the_monitor_cannot_be_read_from_a_container(here: Place) -> None:
    """What an exec of ours is before its execve must not be open to processes in the container (CVE-2019-5736)."""
    script = """
        i=0; while [ $i -lt 300 ]; do
            for p in /proc/[0-9]*; do readlink $p/exe 2>/dev/null; done; i=$((i+1))
        done | sort | uniq -c
    """
    run = await here.begin(["sh", "-c", script])
    with trio.move_on_after(20):
        while (await here.runtime.containers())[0].run is not None:
            try:
                await here.runtime.probe(BOX, ("true",), 5)  # By a fork of the monitor.
                await execute(here, "true")  # By the starter.
            except Exception:
                break
    await here.runtime.kill(BOX)
    await here.runtime.wait(run)
    assert b"busybox" in here.log(BOX)
    assert b"python" not in here.log(BOX)
    assert b"pystack-start" not in here.log(BOX)


@pytest.mark.parametrize("user", [0, 1000])
async def test_a_program_runs_without_its_capability_unless_its_file_demands_it(
    here: Place, tmp_path: Path, user: int
) -> None:
    """As of Ubuntu's ping (``cap_net_raw=p``) and Debian's (``=ep``): execve(2), capabilities(7)."""
    layer = tmp_path / "layer"
    for name, effective in (("p", 0), ("ep", 1)):
        program = layer / "bin" / name / "true"
        program.parent.mkdir(parents=True)
        shutil.copy(here.rootfs / "bin/busybox", program)
        permitted = 1 << CAPABILITIES["CAP_NET_RAW"]
        os.setxattr(program, "security.capability", struct.pack("<5I", 0x02000000 | effective, permitted, 0, 0, 0))
    lowers = (str(layer), str(here.rootfs))
    _, log = await here.shell("for n in p ep; do /bin/$n/true 2>/dev/null; echo $?; done", uid=user, lowers=lowers)
    assert log.split() == ["0", "126"]
    with pytest.raises(CommandError, match="Operation not permitted") as caught:
        await here.begin(["/bin/ep/true"], uid=user, lowers=lowers)
    assert "cap_add" in (caught.value.hint or "")
