"""Resolving `host` and `rootfs:DIR`, and refusing the rest."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import trio

from orchestrator.contracts.images import Image, ImageMount, ImageRequest, Missing
from orchestrator.errors import InputError, OperationError
from orchestrator.images.host import HostImage
from orchestrator.images.machine import MachineImages
from orchestrator.images.reference import HostReference, RootfsReference, parse_reference
from orchestrator.images.spec.platform import host_platform
from orchestrator.model.build import PullPolicy


async def obtain(images: MachineImages, reference: str, base_dir: Path = Path("/")) -> Image:
    return await images.obtain(ImageRequest(reference, str(base_dir)), lambda _text: None)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    root = tmp_path / "machine"
    for name in ("usr/bin", "etc"):
        (root / name).mkdir(parents=True)
    (root / "etc/services").write_text("http 80/tcp\n")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    return root


@pytest.fixture
def images(tmp_path: Path, host: Path) -> MachineImages:
    return MachineImages(str(tmp_path / "images"), host_root=str(host))


def test_references_are_told_apart() -> None:
    assert parse_reference("host") == HostReference()
    assert parse_reference("rootfs:./app:1") == RootfsReference("./app:1")


@pytest.mark.parametrize("text", ["redis:7", "library/redis", "host:1", "docker.io/rootfs:x"])
async def test_an_image_that_is_not_here_is_missing_and_nothing_is_made_by_looking(
    images: MachineImages, tmp_path: Path, text: str
) -> None:
    assert await images.inspect(ImageRequest(text, "/")) == Missing(text, "it is not here yet")
    never = PullPolicy("never")
    with pytest.raises(OperationError, match="is not here, and is never to be pulled"):
        await images.inspect(ImageRequest(text, "/", pull_policy=never))
    assert not (tmp_path / "images").exists()


async def test_this_machines_programs_are_for_no_other_platform(images: MachineImages) -> None:
    own = str(host_platform())
    for platform in ("", own, own.partition("/")[2], "linux"):
        await images.obtain(ImageRequest("host", "/", platform), lambda _text: None)
    other = "linux/riscv64" if "s390x" in own else "linux/s390x"
    for platform in (other, "windows"):
        with pytest.raises(InputError, match=rf"for {own}, and none for {platform}"):
            await images.inspect(ImageRequest("host", "/", platform))


async def test_an_archive_that_does_not_exist_is_told(images: MachineImages) -> None:
    with pytest.raises(OperationError) as caught:
        await images.inspect(ImageRequest("oci:x", "/none"))
    assert caught.value.message == 'image "oci:x": cannot read /none/x: No such file or directory'


@pytest.mark.parametrize("text", ["", "rootfs:", "rootfs:a\0b"])
def test_a_malformed_reference_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_reference(text)


def made(tmp_path: Path) -> list[str]:
    """Everything in the store but the note."""
    return sorted(set(os.listdir(tmp_path / "images")) - {"host.json"})


async def test_the_host_image_is_a_skeleton_below_and_usr_mounted(
    images: MachineImages, tmp_path: Path, host: Path
) -> None:
    image = await obtain(images, "host", tmp_path)
    (lower,) = image.lowers
    assert lower.startswith(f"{tmp_path}/images/host-")
    assert Path(lower, "etc/services").read_text() == "http 80/tcp\n"
    assert image.mounts == (ImageMount(f"{host}/usr", "/usr"),)
    assert image.no_new_privileges
    assert image.passwd == b"root:x:0:0::/root:/bin/sh\n"
    assert os.stat(f"{tmp_path}/images").st_mode & 0o777 == 0o700


async def test_it_is_made_once_and_again_when_the_host_changes(images: MachineImages, tmp_path: Path, host: Path) -> None:
    first = await obtain(images, "host", tmp_path)
    assert await obtain(images, "host", tmp_path) is first
    (host / "etc/services").write_text("http 8080/tcp\n")
    second = await obtain(images, "host", tmp_path)
    assert second.identity != first.identity
    # Containers made before still have the first one mounted.
    assert made(tmp_path) == sorted(os.path.basename(i.lowers[0]) for i in (first, second))


async def test_builders_at_the_same_time_make_one(tmp_path: Path, host: Path) -> None:
    found: list[Image] = []

    async def build() -> None:
        found.append(await obtain(MachineImages(str(tmp_path / "images"), host_root=str(host)), "host"))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(build)
    assert len({image.lowers for image in found}) == 1
    assert made(tmp_path) == [os.path.basename(found[0].lowers[0])]


def test_damage_and_the_remains_of_a_killed_builder_are_cleared(tmp_path: Path, host: Path) -> None:
    image = HostImage(str(tmp_path / "images"), str(host)).make()
    Path(image.lowers[0], "etc/services").write_text("")
    (tmp_path / "images/.host-abandoned/etc").mkdir(parents=True)
    again = HostImage(str(tmp_path / "images"), str(host)).make()
    assert again.lowers == image.lowers
    assert Path(again.lowers[0], "etc/services").read_text() == "http 80/tcp\n"
    assert not (tmp_path / "images/.host-abandoned").exists()


def test_the_note_of_the_maker_saves_the_next_process_the_reading(tmp_path: Path, host: Path) -> None:
    image = HostImage(str(tmp_path / "images"), str(host)).make()
    assert HostImage(str(tmp_path / "images"), str(host)).remembered() == image


@pytest.mark.parametrize("spoil", ["boot", "host", "store", "cut", "other root", "elsewhere"])
def test_a_note_that_may_be_wrong_is_not_believed(tmp_path: Path, host: Path, spoil: str) -> None:
    image = HostImage(str(tmp_path / "images"), str(host)).make()
    note = tmp_path / "images/host.json"
    asked = HostImage(str(tmp_path / "images"), str(host))
    match spoil:
        case "boot":
            note.write_text(json.dumps({**json.loads(note.read_text()), "boot": "another"}))
        case "host":
            (host / "etc/services").write_text("")
        case "store":
            shutil.rmtree(image.lowers[0])
        case "cut":
            note.write_text(note.read_text()[:-9])
        case "other root":
            shutil.copytree(host, tmp_path / "other")
            asked = HostImage(str(tmp_path / "images"), str(tmp_path / "other"))
        case "elsewhere":
            (tmp_path / "moved").mkdir()
            shutil.copy(note, tmp_path / "moved")
            asked = HostImage(str(tmp_path / "moved"), str(host))
    assert asked.remembered() is None


def test_looking_without_a_note_reads_and_compares_everything(tmp_path: Path, host: Path) -> None:
    image = HostImage(str(tmp_path / "images"), str(host)).make()
    (tmp_path / "images/host.json").unlink()
    asked = HostImage(str(tmp_path / "images"), str(host))
    assert (asked.remembered(), asked.look(), asked.remembered()) == (None, image, image)
    assert not (tmp_path / "images/host.json").exists()
    Path(image.lowers[0], "etc/services").write_text("")
    assert asked.look() == "what was made of this machine's files is damaged"


async def test_a_root_file_system_is_found_relative_to_the_project(images: MachineImages, tmp_path: Path) -> None:
    (tmp_path / "app/etc").mkdir(parents=True)
    (tmp_path / "app/etc/passwd").write_text("app:x:7:7::/:/bin/sh\n")
    image = await obtain(images, "rootfs:./app", tmp_path)
    assert image.lowers == (f"{tmp_path}/app",)
    assert image.passwd == b"app:x:7:7::/:/bin/sh\n"
    assert image.group == b""
    assert not image.no_new_privileges
    assert (await obtain(images, f"rootfs:{tmp_path}/app", tmp_path)).identity == image.identity


async def test_a_replaced_root_file_system_is_another_image(images: MachineImages, tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    before = await obtain(images, "rootfs:app", tmp_path)
    (tmp_path / "new").mkdir()
    (tmp_path / "new").rename(tmp_path / "app")
    assert (await obtain(images, "rootfs:app", tmp_path)).identity != before.identity


async def test_hostile_account_files_are_neither_followed_out_nor_waited_for(images: MachineImages, tmp_path: Path) -> None:
    (tmp_path / "app/etc").mkdir(parents=True)
    (tmp_path / "secret").write_text("root:x:0:0::/:/bin/sh\n")
    os.symlink("../../secret", tmp_path / "app/etc/passwd")
    os.mkfifo(tmp_path / "app/etc/group")
    image = await obtain(images, "rootfs:app", tmp_path)
    assert (image.passwd, image.group) == (b"", b"")


@pytest.mark.parametrize(("name", "error"), [("none", OperationError), ("file", OperationError), ("/", InputError)])
async def test_what_is_no_root_file_system_is_refused(
    images: MachineImages, tmp_path: Path, name: str, error: type[Exception]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(error, match="rootfs:"):
        await obtain(images, f"rootfs:{name}", tmp_path)
