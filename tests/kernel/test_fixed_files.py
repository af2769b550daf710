"""Generated files of a container whose root is read-only: nobody in it writes them, and they are renewed all the same."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.contracts.runtime import GeneratedFile
from orchestrator.kernel.caps import CAPABILITIES
from orchestrator.model.names import ContainerId
from orchestrator.values import replace
from tests.kernel.place import Place, place, with_lowers
from tests.kernel.service_box import Box
from tests.kernel.test_runtime_exec import execute
from tests.machine import eventually

pytestmark = pytest.mark.kernel

BOX = ContainerId("rt-a-1")
HOSTS = GeneratedFile("/etc/hosts", b"10.1.0.2\tweb\n")
FILES = (HOSTS, GeneratedFile("/etc/resolv.conf", b"nameserver 10.1.0.1\n"), GeneratedFile("/key", b"k", 0o400, 7, 8))
NEW = GeneratedFile("/etc/hosts", b"10.1.0.2\tweb\n10.2.0.2\tweb\n")
WRITE = "for file in /etc/hosts /etc/resolv.conf /key; do echo x > $file; done; mount -o remount,bind,rw /etc/hosts"


@pytest.fixture
async def here(leaves_nothing_behind: None, busybox_rootfs: Path) -> AsyncGenerator[Place, None]:
    async with place(busybox_rootfs) as opened:
        yield opened


@pytest.mark.parametrize(
    "options",
    [{}, {"annotations": {"pystack.init": "true"}}, {"hosts": ("user",)}],
    ids=["by the starter", "by the monitor", "with the host's ids"],
)
async def test_root_cannot_write_them_and_they_are_renewed(here: Place, options: dict[str, Any]) -> None:
    await here.begin(["sleep", "1000"], readonly=True, files=FILES, **options)
    before = (await execute(here, "cat", "/proc/1/mountinfo"))[1]
    for file in (HOSTS, NEW, HOSTS):
        await here.runtime.renew_files(BOX, (file,))
        _, said = await execute(here, "sh", "-c", f"exec 2>&1; {WRITE}; cat /etc/hosts")
        assert said.count("Read-only file system") == 3
        assert "mount: permission denied" in said
        assert file.content is not None
        assert said.endswith(f"\n{file.content.decode()}")
    assert (await execute(here, "cat", "/proc/1/mountinfo"))[1] == before
    await here.runtime.kill(BOX)


async def test_they_can_be_written_where_the_root_can(here: Place) -> None:
    assert (await here.shell("echo x > /etc/hosts; cat /etc/hosts", files=FILES))[1] == "x\n"


async def test_a_privileged_one_has_them_too(here: Place, tmp_path: Path) -> None:
    box = Box(here, tmp_path)
    script = "echo x > /etc/hosts; mount -o remount,bind,rw /etc/hosts; cat /etc/hosts; sleep 1000"
    spec = replace(box.spec("privileged: true, read_only: true", script), files=FILES)
    await here.runtime.create(spec)
    await here.runtime.start(BOX)
    eventually(lambda: here.log(BOX).endswith(b"10.1.0.2\tweb\n"))
    await here.runtime.renew_files(BOX, (NEW,))
    assert (await execute(here, "cat", "/etc/hosts"))[1] == "10.1.0.2\tweb\n10.2.0.2\tweb\n"
    assert b"can't create /etc/hosts: Read-only file system" in here.log(BOX)


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        ("unshare -m", "10.1.0.2\tweb\n10.2.0.2\tweb\n"),
        # Its user namespace has no right to the mounts that it got: they are locked.
        ("unshare -m -U -r", "10.1.0.2\tweb\n"),
    ],
)
async def test_who_goes_to_other_namespaces_harms_himself_alone(here: Place, words: str, seen: str) -> None:
    spec = here.spec(["sh", "-c", f"exec {words} sh -c 'echo there; exec sleep 1000'"], readonly=True, files=FILES)
    spec.config["process"]["capabilities"] = {key: list(CAPABILITIES) for key in ("bounding", "effective", "permitted")}
    spec.config["linux"].pop("seccomp")
    await here.runtime.create(spec)
    run = await here.runtime.start(BOX)
    eventually(lambda: here.log(BOX) == b"there\n")
    await here.runtime.renew_files(BOX, (NEW,))
    assert Path(f"/proc/{run.pid}/root/etc/hosts").read_text() == seen


@pytest.fixture
def canary() -> Iterator[Path]:
    """A folder of the host's on a tmpfs, with a file that belongs to whom the container's root is there."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        Path(folder).chmod(0o755)
        file = Path(folder, "hosts")
        file.write_text("mine\n")
        yield file


@pytest.mark.parametrize("bound", ["folder", "file"])
@pytest.mark.parametrize("hosts", [(), ("user",)], ids=["own ids", "the host's ids"])
async def test_no_link_leads_to_what_is_read_only_for_it(
    here: Place, canary: Path, tmp_path: Path, bound: str, hosts: tuple[str, ...]
) -> None:
    """/etc of the image leads to a folder that can be written: the place of the mount is moved, and a link put there."""
    root = tmp_path / "root"
    shutil.copytree(here.rootfs, root, symlinks=True)
    shutil.rmtree(root / "etc", ignore_errors=True)
    (root / "etc").symlink_to("/run/etc")
    mounts = [
        {"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
        {
            "destination": "/canary" if bound == "folder" else "/canary/hosts",
            "type": "bind",
            "source": str(canary.parent if bound == "folder" else canary),
            "options": ["rbind", "rprivate", "ro", "rro", "idmap"],
        },
    ]
    script = """
        exec 2>&1
        mv /run/etc /run/old && mkdir /run/etc && ln -s /canary/hosts /run/etc/hosts
        cat /etc/hosts; echo x > /etc/hosts; sleep 1000
    """
    spec = here.spec(["sh", "-c", script], readonly=True, files=FILES, mounts=mounts, hosts=hosts)
    await here.runtime.create(with_lowers(spec, root))
    await here.runtime.start(BOX)
    eventually(lambda: b"Read-only" in here.log(BOX))
    assert here.log(BOX).startswith(b"mine\n")
    await here.runtime.renew_files(BOX, (NEW,))
    assert canary.read_text() == "mine\n"
    assert (await execute(here, "cat", "/run/old/hosts"))[1] == "10.1.0.2\tweb\n"
    await here.runtime.kill(BOX)
