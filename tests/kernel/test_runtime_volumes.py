"""Volumes: their first content, folders of them, and images as mounts."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.contracts.runtime import SandboxSpec, VolumeFill
from orchestrator.errors import InputError, OperationError
from orchestrator.model.names import ContainerId
from orchestrator.oci.terms import ANNOTATION_SUBPATHS, LOWER
from orchestrator.runtime.programs import Context, compile_start
from orchestrator.runtime.rootfs import fill_volume
from tests.kernel.place import config_of, place

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("busybox_rootfs")]
MARK = ".pystack-filling"


@pytest.fixture
def layers(tmp_path: Path) -> list[str]:
    """An image of two layers, topmost first: the upper one hides a file, and replaces a directory."""
    low, high = tmp_path / "low", tmp_path / "high"
    for layer in (low, high):
        (layer / "srv").mkdir(parents=True)
    data = low / "srv"
    (data / "first").write_text("first")
    os.chown(data / "first", 1000, 70_000)
    os.chmod(data / "first", 0o4750)
    os.utime(data / "first", ns=(7, 1_500_000_000_123_456_789))
    os.setxattr(data / "first", "user.note", b"kept")
    (data / "sub").mkdir()
    os.link(data / "first", data / "sub" / "second")
    os.link(data / "first", data / "third")
    os.symlink("/etc/passwd", data / "link")
    os.mkfifo(data / "pipe")
    (data / "hidden").write_text("hidden")
    (data / "opaque").mkdir()
    (data / "opaque" / "old").write_text("old")
    os.mknod(high / "srv" / "hidden", 0o20600, os.makedev(0, 0))
    (high / "srv" / "opaque").mkdir()
    os.setxattr(high / "srv" / "opaque", "trusted.overlay.opaque", b"y")
    (high / "srv" / "opaque" / "new").write_text("new")
    os.chown(high / "srv", 33, 34)
    os.chmod(high / "srv", 0o1775)
    os.utime(high / "srv", ns=(9, 1_400_000_000_000_000_000))
    return [str(high), str(low)]


def fresh(tmp_path: Path) -> Path:
    volume = tmp_path / "volume"
    volume.mkdir()
    return volume


def test_an_empty_volume_gets_the_merged_view_with_owners_modes_times_and_links(
    tmp_path: Path, layers: list[str]
) -> None:
    volume = fresh(tmp_path)
    inode = volume.stat().st_ino
    assert fill_volume(VolumeFill("/srv", str(volume)), layers)
    assert sorted(os.listdir(volume)) == ["first", "link", "opaque", "pipe", "sub", "third"]
    first = os.stat(volume / "first")
    assert (first.st_uid, first.st_gid, first.st_mode & 0o7777, first.st_nlink) == (1000, 70_000, 0o4750, 3)
    assert first.st_mtime_ns == 1_500_000_000_123_456_789
    assert os.getxattr(volume / "first", "user.note") == b"kept"
    assert (volume / "third").samefile(volume / "first")
    assert (volume / "sub" / "second").samefile(volume / "first")
    assert os.readlink(volume / "link") == "/etc/passwd"
    assert os.listdir(volume / "opaque") == ["new"]
    assert not [name for name in os.listxattr(volume / "opaque") if name.startswith("trusted.overlay")]
    top = os.stat(volume)
    assert (top.st_uid, top.st_gid, top.st_mode & 0o7777, top.st_mtime_ns) == (33, 34, 0o1775, 1_400_000_000_000_000_000)
    assert top.st_ino == inode  # Whoever has it mounted sees the content.
    assert not fill_volume(VolumeFill("/srv", str(volume)), layers)


def test_a_volume_with_content_is_left_alone_and_so_is_one_that_the_image_has_nothing_for(
    tmp_path: Path, layers: list[str]
) -> None:
    volume = fresh(tmp_path)
    os.chown(volume, 1000, 1000)
    for nowhere in ("/nowhere", "/srv/first"):
        assert not fill_volume(VolumeFill(nowhere, str(volume)), layers)
        assert (os.listdir(volume), os.stat(volume).st_uid) == ([], 1000)
    (volume / "own").write_text("own")
    assert not fill_volume(VolumeFill("/srv", str(volume)), layers)
    assert os.listdir(volume) == ["own"]


def test_a_copy_that_was_killed_is_repeated(tmp_path: Path, layers: list[str]) -> None:
    """While it was made, and while it was moved into place."""
    volume = fresh(tmp_path)
    (volume / MARK / "half").mkdir(parents=True)
    (volume / "first").write_text("moved already")
    (volume / "lost+found").mkdir()
    assert fill_volume(VolumeFill("/srv", str(volume)), layers)
    assert sorted(os.listdir(volume)) == ["first", "link", "lost+found", "opaque", "pipe", "sub", "third"]
    assert (volume / "first").read_text() == "moved already"


def test_a_link_in_the_image_is_followed_inside_of_it_alone(tmp_path: Path) -> None:
    layer, volume = tmp_path / "layer", fresh(tmp_path)
    (layer / "real").mkdir(parents=True)
    (layer / "real" / "file").write_text("x")
    os.symlink("/real", layer / "data")
    os.symlink("../../../../etc", layer / "out")
    assert fill_volume(VolumeFill("/data", str(volume)), [str(layer)])
    assert os.listdir(volume) == ["file"]
    other = tmp_path / "other"
    other.mkdir()
    assert not fill_volume(VolumeFill("/out", str(other)), [str(layer)])


def bind(source: Path, target: str) -> dict[str, Any]:
    return {
        "destination": target,
        "type": "bind",
        "source": str(source),
        "options": ["rbind", "rprivate", "nodev", "idmap", "rw"],
    }


def image(target: str, lowers: Sequence[str]) -> dict[str, Any]:
    layers = [f"{LOWER}{path}" for path in lowers]
    return {"destination": target, "type": "overlay", "source": "overlay", "options": ["ro", "nodev", *layers]}


def folders(**paths: str) -> Mapping[str, str]:
    return {ANNOTATION_SUBPATHS: json.dumps({f"/{target}": path for target, path in paths.items()})}


async def test_a_folder_of_a_volume_is_mounted(
    leaves_nothing_behind: None, busybox_rootfs: Path, tmp_path: Path
) -> None:
    volume = fresh(tmp_path)
    (volume / "a" / "b").mkdir(parents=True)
    (volume / "a" / "b" / "file").write_text("inside")
    os.symlink("a/b", volume / "link")
    async with place(busybox_rootfs) as here:
        script = "cat /mnt/file; touch /mnt/new; ls /mnt/.."
        exit_, log = await here.shell(
            script, mounts=[bind(volume / "a" / "b", "/mnt")], annotations=folders(mnt="a/b")
        )
        assert (exit_.code, log.startswith("inside")) == (0, True)
        assert (volume / "a" / "b" / "new").stat().st_uid == 0
        exit_, log = await here.shell(
            "cat /mnt/file", name="rt-b-1", mounts=[bind(volume / "link", "/mnt")], annotations=folders(mnt="link")
        )
        assert (exit_.code, log) == (0, "inside")


@pytest.mark.parametrize(
    ("folder", "said"),
    [("nosuch", 'there is no "nosuch" in '), ("out", "leads out of it"), ("absolute", "leads out of it")],
)
async def test_a_folder_that_is_missing_or_leads_out_is_refused(
    leaves_nothing_behind: None, busybox_rootfs: Path, tmp_path: Path, folder: str, said: str
) -> None:
    volume = fresh(tmp_path)
    os.symlink("../..", volume / "out")
    os.symlink("/etc", volume / "absolute")
    async with place(busybox_rootfs) as here:
        with pytest.raises(OperationError) as caught:
            await here.shell("true", mounts=[bind(volume / folder, "/mnt")], annotations=folders(mnt=folder))
        assert said in caught.value.message
        assert caught.value.place.startswith("mounts[")


async def test_a_folder_that_becomes_a_link_out_is_not_followed(
    leaves_nothing_behind: None, busybox_rootfs: Path, tmp_path: Path
) -> None:
    volume = fresh(tmp_path)
    (volume / "a").mkdir()
    async with place(busybox_rootfs) as here:
        spec = here.spec(["true"], mounts=[bind(volume / "a", "/mnt")], annotations=folders(mnt="a"))
        await here.runtime.create(spec)
        (volume / "a").rmdir()
        os.symlink("/etc", volume / "a")
        with pytest.raises(OperationError, match="leads out of it"):
            await here.runtime.start(spec.container)


async def test_a_run_has_what_was_made_after_it_was_prepared(
    leaves_nothing_behind: None, busybox_rootfs: Path, tmp_path: Path
) -> None:
    volume, conf, dist = fresh(tmp_path), tmp_path / "conf", tmp_path / "dist"
    conf.write_text("old")
    dist.mkdir()
    whole = bind(volume, "/v")
    cases: tuple[tuple[str, dict[str, Any], str], ...] = (
        ("ls /p", {"mounts": [bind(volume / "part", "/p")], "annotations": folders(p="part")}, "theirs\n"),
        ("ls ..", {"mounts": [whole], "cwd": "/v/part/theirs"}, "theirs\n"),
        ("cat /v/part/conf", {"mounts": [whole, bind(conf, "/v/part/conf")]}, "new"),
        ("cat /conf", {"mounts": [bind(conf, "/conf")]}, "new"),
        ("ls; ls /dist", {"mounts": [bind(dist, "/dist")], "cwd": "/dist"}, "built\nbuilt\n"),
    )
    async with place(busybox_rootfs) as here:
        names = [ContainerId(f"rt-{number}-1") for number in range(len(cases))]
        for name, (script, options, _) in zip(names, cases, strict=True):
            await here.runtime.create(here.spec(["sh", "-c", script], name=name, **options))
            await here.runtime.prepare(name)
        (volume / "part" / "theirs").mkdir(parents=True)  # Nobody has made it for them.
        conf.with_suffix(".new").write_text("new")
        conf.with_suffix(".new").rename(conf)
        dist.rmdir()
        dist.mkdir()
        (dist / "built").touch()
        for name, (_, _, seen) in zip(names, cases, strict=True):
            assert (await here.runtime.wait(await here.runtime.start(name))).code == 0
            assert here.log(name).decode() == seen


async def test_an_image_is_mounted_read_only_whole_or_a_folder_of_it(
    leaves_nothing_behind: None, busybox_rootfs: Path, layers: list[str]
) -> None:
    async with place(busybox_rootfs) as here:
        mounts = [image("/img", layers), image("/one", layers[1:]), image("/part", layers), image("/piece", layers[1:])]
        exit_, log = await here.shell(
            "exec 2>&1; ls /img/srv; ls /one/srv; ls /part; ls /piece; stat -c '%u %g' /img/srv /one/srv/first;"
            " touch /img/x; touch /part/x; cat /img/srv/opaque/new",
            mounts=mounts,
            annotations=folders(part="srv/opaque", piece="srv/opaque"),
        )
        lines = log.splitlines()
        assert exit_.code == 0
        assert lines[:6] == ["first", "link", "opaque", "pipe", "sub", "third"]
        assert lines[6:13] == ["first", "hidden", "link", "opaque", "pipe", "sub", "third"]
        assert lines[13:17] == ["new", "old", "33 34", "1000 70000"]
        assert sum("Read-only file system" in line for line in lines) == 2
        assert lines[-1].endswith("new")


async def test_a_folder_of_an_image_that_is_missing_is_refused(
    leaves_nothing_behind: None, busybox_rootfs: Path, layers: list[str]
) -> None:
    async with place(busybox_rootfs) as here:
        with pytest.raises(OperationError, match='there is no "srv/hidden" in the image that is mounted at /img'):
            await here.shell("true", mounts=[image("/img", layers)], annotations=folders(img="srv/hidden"))


def test_a_monitor_of_an_older_version_is_not_asked_for_what_it_cannot_do(tmp_path: Path) -> None:
    config = config_of(["true"], mounts=[image("/img", ["/l1", "/l2"])])
    context = Context("/b", 1 << 20, (1, 2, 3), True, (), 40, lambda _profile: b"")
    program = compile_start(SandboxSpec(ContainerId("a"), ("/l",), config), context)
    assert program.known_to(3) is program
    with pytest.raises(OperationError, match="cannot mount an image at /img: the monitor of this project was started by"):
        program.known_to(2)


@pytest.mark.parametrize("options", [["ro"], ["rw", "lowerdir+=/x"], ["ro", "lowerdir+=/x", "upperdir=/y"]])
def test_an_overlay_that_is_no_image_is_refused(options: list[str]) -> None:
    mount = {"destination": "/x", "type": "overlay", "source": "overlay", "options": options}
    spec = SandboxSpec(ContainerId("a"), ("/l",), config_of(["true"], mounts=[mount]))
    layers = (1, 2)[: 1 + any("lowerdir" in option for option in options)]
    with pytest.raises(InputError, match="the overlay at /x is not supported"):
        compile_start(spec, Context("/b", 1 << 20, layers, True, (), 40, lambda _profile: b""))
