"""Bind mounts: owners of files on both sides, mount by mount; and what cannot be mounted over what."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import AsyncGenerator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.contracts.runtime import GeneratedFile
from orchestrator.errors import HostError
from orchestrator.oci.terms import ANNOTATION_OWNERS, OWNER_BY_SOURCE, OWNER_SOURCE
from tests.kernel.place import HOST_BASE, Place, place

pytestmark = pytest.mark.kernel
TREE = ("rbind", "rprivate", "rnodev", "idmap")


@pytest.fixture
async def here(leaves_nothing_behind: None, busybox_rootfs: Path) -> AsyncGenerator[Place, None]:
    async with place(busybox_rootfs) as opened:
        yield opened


@pytest.fixture
def good(tmp_path: Path) -> Iterator[Path]:
    """A folder whose ids can be mapped, with mounts below: ``nas`` (an overlay, whose ids cannot be, closed to others),
    ``nas/own`` and ``a b`` (whose can), and ``hidden/deep``, which lies under ``hidden``."""
    root = tmp_path / "good"
    made = [root / "nas", root / "a b", root / "hidden", tmp_path / "lower/own", tmp_path / "work"]
    for folder in made:
        folder.mkdir(parents=True)
    with contextlib.ExitStack() as stack:

        def mount(kind: str, where: Path, options: str) -> None:
            subprocess.run(["mount", "-t", kind, "-o", options, "none", str(where)], check=True)
            stack.callback(subprocess.run, ["umount", "-l", str(where)], check=True)

        mount("tmpfs", tmp_path / "work", "mode=755")
        (tmp_path / "work/u").mkdir()
        (tmp_path / "work/w").mkdir()
        layers = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/work/u,workdir={tmp_path}/work/w"
        mount("overlay", root / "nas", layers)
        os.chmod(root / "nas", 0o700)
        mount("tmpfs", root / "nas/own", "mode=700")
        mount("tmpfs", root / "a b", "mode=700")
        mount("tmpfs", root / "hidden", "mode=700")
        (root / "hidden/deep").mkdir()
        mount("tmpfs", root / "hidden/deep", "mode=700")
        mount("tmpfs", root / "hidden", "mode=700")
        yield root


def bind(source: Path, target: str, *options: str) -> Mapping[str, Any]:
    return {"destination": target, "type": "bind", "source": str(source), "options": [*(options or TREE)]}


async def test_a_mount_whose_ids_cannot_be_mapped_takes_them_from_no_other_and_is_told(here: Place, good: Path) -> None:
    script = "cd /good; touch own 'a b/new' hidden/new; stat -c %u . own nas; touch nas/new || echo refused; ls -A hidden"
    spec = here.spec(["sh", "-c", script], mounts=[bind(good, "/good")])
    await here.runtime.create(spec)
    run = await here.runtime.start(spec.container)
    await here.runtime.wait(run)
    assert [line for line in here.log(run.container).decode().split("\n") if "touch" not in line] == [
        "0", "0", "65534", "refused", "new", ""
    ]  # fmt: skip
    assert {(good / name).stat().st_uid for name in ("own", "a b/new", "hidden/new")} == {0}
    (warning,) = run.warnings
    assert warning.startswith(f"mount {good} at /good: ")
    assert f" on {good}/nas (overlay): " in warning


async def test_a_mount_below_one_that_is_closed_is_there_and_mapped(here: Place, good: Path) -> None:
    _, log = await here.shell("cat /proc/self/mountinfo", mounts=[bind(good, "/good")])
    rows = {fields[4]: fields[5] for fields in map(str.split, log.splitlines()) if fields[4].startswith("/good")}
    assert sorted(rows) == ["/good", "/good/a\\040b", "/good/hidden", "/good/nas", "/good/nas/own"]
    assert {place for place, options in rows.items() if "idmapped" not in options.split(",")} == {"/good/nas"}
    assert all("nodev" in options.split(",") for options in rows.values())


async def test_mounts_below_a_read_only_bind_are_read_only_one_by_one_too(here: Place, good: Path) -> None:
    mounts = [bind(good, "/good", *TREE, "ro", "rro")]
    _, log = await here.shell("for n in own nas/own/x 'a b/x'; do touch \"/good/$n\" 2>&1; done", mounts=mounts)
    assert log.count("Read-only file system") == 2  # The overlay in between is closed to it.


async def test_a_shared_tree_stays_as_it_is_and_reaches_nothing_of_the_host(here: Place, good: Path) -> None:
    subprocess.run(["mount", "--rbind", str(good.parent), str(good.parent)], check=True)
    try:
        subprocess.run(["mount", "--make-rshared", str(good.parent)], check=True)
        before = Path("/proc/self/mountinfo").read_text().count(str(good.parent))
        run = await here.begin(["true"], mounts=[bind(good.parent, "/all", "rbind", "rshared", "rnodev", "idmap")])
        await here.runtime.wait(run)
        assert Path("/proc/self/mountinfo").read_text().count(str(good.parent)) == before
        assert "(overlay)" in run.warnings[0]
    finally:
        subprocess.run(["umount", "-R", "-l", str(good.parent)], check=True)


async def test_what_can_be_mapped_is_no_warning(here: Place, tmp_path: Path) -> None:
    run = await here.begin(["true"], mounts=[bind(tmp_path, "/good")])
    await here.runtime.wait(run)
    assert run.warnings == ()


@pytest.mark.parametrize(
    ("source", "target", "says"),
    [
        ("", "/etc/passwd", "what is mounted is a folder, and /etc/passwd in the container is a file"),
        ("file", "/etc", "what is mounted is a file, and /etc in the container is a folder"),
        ("file", "/etc/", "what is mounted is a file, and /etc/ in the container is a folder"),
    ],
)
async def test_a_folder_over_a_file_says_which_is_which(
    here: Place, tmp_path: Path, source: str, target: str, says: str
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError) as caught:
        await here.begin(["true"], mounts=[bind(tmp_path / source, target)])
    assert caught.value.message.endswith(f"cannot mount {tmp_path / source} at {target}: {says}")
    assert caught.value.hint


async def test_a_file_of_ours_over_a_folder_says_so_too(here: Place) -> None:
    with pytest.raises(HostError, match="what is mounted is a file, and /etc in the container is a folder"):
        await here.begin(["true"], files=(GeneratedFile("/etc", b""),))


async def test_a_place_below_a_file_is_still_no_place(here: Place, tmp_path: Path) -> None:
    with pytest.raises(HostError, match="Not a directory"):
        await here.begin(["true"], mounts=[bind(tmp_path, "/etc/passwd/below")])


OWNER = 1234, 1235


@pytest.fixture
def persons(tmp_path: Path) -> Path:
    """A folder of an ordinary user's, with a file of root's in it."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "roots").write_text("secret")
    os.chmod(folder / "roots", 0o600)
    os.chown(folder, *OWNER)
    return folder


def owned(folder: Path, target: str = "/home", owner: str = OWNER_BY_SOURCE) -> dict[str, Any]:
    return {"mounts": [bind(folder, target)], "annotations": {ANNOTATION_OWNERS: json.dumps({target: owner})}}


def owner_of(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid


async def test_what_containers_root_writes_belongs_to_the_sources_owner(here: Place, persons: Path) -> None:
    script = "cd /home; touch new; mkdir sub; ln -s x link; cp /bin/true set; chmod 4755 set; stat -c %u:%g . new set"
    _, log = await here.shell(script, **owned(persons))
    assert log.split() == ["0:0"] * 3
    assert {owner_of(persons / name) for name in ("new", "sub", "link", "set")} == {OWNER}


async def test_root_of_the_host_is_nobody_there(here: Place, persons: Path) -> None:
    script = "cd /home; stat -c %u roots; cat roots; chown 1234 . ; touch new; chown 1234 new; chmod 4755 roots"
    _, log = await here.shell(f"{{ {script}; }} 2>&1", **owned(persons))
    assert log.split()[0] == "65534"
    assert log.count("Permission denied") == 1
    assert log.count("Value too large for defined data type") == 3  # Who has the owner's number has no place there.
    assert owner_of(persons) == owner_of(persons / "new") == OWNER
    assert (persons / "roots").stat().st_mode & 0o7777 == 0o600


@pytest.mark.parametrize("uid", [1234, 77])
async def test_what_another_user_of_the_container_writes_belongs_to_the_owner_too(
    here: Place, persons: Path, uid: int
) -> None:
    _, log = await here.shell("touch /home/new; stat -c %u:%g /home/new", uid=uid, **owned(persons))
    assert log.split() == [f"{uid}:{uid}"]
    assert owner_of(persons / "new") == OWNER


async def test_other_users_keep_their_numbers(here: Place, persons: Path) -> None:
    script = "cd /home; touch low high; chown 999:998 low; chown 1000650000 high"
    await here.shell(script, **owned(persons))
    assert (owner_of(persons / "low"), (persons / "high").stat().st_uid) == ((999, 998), 1000650000)


async def test_a_source_of_roots_or_of_the_systems_keeps_all_numbers(here: Place, tmp_path: Path) -> None:
    for uid in (0, 999, 65534, HOST_BASE):
        folder = tmp_path / str(uid)
        folder.mkdir()
        os.chown(folder, uid, uid)
        await here.shell("touch /home/new", **owned(folder))
        assert owner_of(folder / "new") == (0, 0)


async def test_source_is_of_the_systems_users_too(here: Place, tmp_path: Path) -> None:
    os.chown(tmp_path, 999, 0)
    await here.shell("touch /home/new", **owned(tmp_path, owner=OWNER_SOURCE))
    assert owner_of(tmp_path / "new") == (999, 0)


async def test_one_user_namespace_serves_all_runs_and_outlives_the_monitor(here: Place, persons: Path) -> None:
    run = await here.begin(["sh", "-c", "touch /home/$(date +%N)-$RANDOM"], **owned(persons))
    await here.runtime.wait(run)
    kept = await here.runtime.fetch("ids:1234=0,1235=0")
    namespace = os.readlink(f"/proc/self/fd/{kept[0]}")
    os.kill(here.runtime.monitor_pid, signal.SIGKILL)
    await here.runtime.wait(await here.runtime.start(run.container))
    assert os.readlink(f"/proc/self/fd/{(await here.runtime.fetch('ids:1234=0,1235=0'))[0]}") == namespace
    assert {owner_of(path) for path in persons.iterdir() if path.name != "roots"} == {OWNER}


async def test_the_owner_is_asked_for_anew_with_each_run(here: Place, persons: Path) -> None:
    run = await here.begin(["touch", "/home/new"], **owned(persons))
    await here.runtime.wait(run)
    (persons / "new").unlink()
    os.chown(persons, 4321, 4321)
    await here.runtime.wait(await here.runtime.start(run.container))
    assert owner_of(persons / "new") == (4321, 4321)


async def test_owners_of_a_disk_that_cannot_map_them_are_a_warning(here: Place, good: Path) -> None:
    os.chown(good / "nas", *OWNER)
    run = await here.begin(["true"], **owned(good / "nas"))
    await here.runtime.wait(run)
    assert "(overlay)" in run.warnings[0]
