"""Containers that are in namespaces of the host, seen from inside and from outside."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from orchestrator.contracts.runtime import GeneratedFile, VolumeFill
from orchestrator.errors import OperationError
from orchestrator.kernel.caps import CAPABILITIES
from orchestrator.model.names import ContainerId
from orchestrator.oci.confinement import DEFAULT_CAPABILITIES
from orchestrator.values import replace
from tests.kernel.place import HOST_BASE, Place, place, with_lowers
from tests.kernel.test_runtime_confinement import status_of
from tests.kernel.test_runtime_exec import execute

pytestmark = pytest.mark.kernel
BOX = ContainerId("rt-a-1")
USER = ("user",)


@pytest.fixture
async def here(leaves_nothing_behind: None, busybox_rootfs: Path) -> AsyncGenerator[Place, None]:
    async with place(busybox_rootfs) as opened:
        yield opened


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
