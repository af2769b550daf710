"""Trees that mean harm, copied out of a container and into one, which runs or does not. A canary outside is never touched
nor copied, nothing waits for ever, and each end is a copy or one error."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest

from orchestrator.cli.container_files import Copying, copy_in, copy_out, local_source, stream_out
from orchestrator.errors import PystackError
from orchestrator.kernel.trees import remove_tree
from orchestrator.runtime.bundle import read_bundle
from orchestrator.runtime.view import View, opened_view
from tests.kernel.place import Place, place, with_lowers
from tests.kernel.service_box import BOX
from tests.kernel.test_hostile_roots import (
    Hostile,
    Spoil,
    absolute_link,
    canary,
    chain,
    dangling_link,
    disk,
    exe_link,
    fifo,
    huge_file,
    link_to_a_file,
    loop,
    magic_link,
    relative_link,
    root_link,
    state_of,
    terminal,
    unix_socket,
    zero,
)

__all__ = ["canary"]
pytestmark = pytest.mark.kernel
LIMIT_S = 100
SECRET = b"untouched\n"


def link_in_a_folder(tree: Hostile, path: str) -> None:
    tree.clear(f"{path}/x/y").symlink_to(tree.canary / "folder")


def folder_of_all(tree: Hostile, path: str) -> None:
    for number, spoil in enumerate((absolute_link, relative_link, fifo, zero, terminal, disk, unix_socket, loop)):
        spoil(tree, f"{path}/{number}")


def very_deep_tree(tree: Hostile, path: str) -> None:
    tree.clear(path).mkdir()
    here = os.open(tree.root / path.lstrip("/"), os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(150):  # More than descriptors are kept, and longer than any path may be.
        os.mkdir("deep" * 10, dir_fd=here)
        below = os.open("deep" * 10, os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def odd_names(tree: Hostile, path: str) -> None:
    for name in (b"new\nline", b"\xff\xfe", b"-rf", b"..x", b"\x1b[2J", b"x" * 255):
        (tree.clear(path)).mkdir(exist_ok=True)
        with open(os.fsencode(tree.root / path.lstrip("/")) + b"/" + name, "wb") as file:
            file.write(b"x")


def set_id_files(tree: Hostile, path: str) -> None:
    place = tree.clear(f"{path}/suid")
    place.write_text("x")
    place.chmod(0o6777)


def many_pieces(tree: Hostile, path: str) -> None:
    with open(tree.clear(path), "wb") as file:
        for number in range(100):
            file.seek(number * 65536)
            file.write(b"x")


def linked_outside(tree: Hostile, path: str) -> None:
    """Two names of one file, the other one not in what is copied."""
    tree.clear("/other").write_text("other")
    (tree.clear(f"{path}/x").parent / "x").hardlink_to(tree.root / "other")


def whiteouts(tree: Hostile, path: str) -> None:
    tree.clear(f"{path}/.wh.file").write_text("x")
    tree.clear(f"{path}/.wh..wh..opq").write_text("x")


def unreadable(tree: Hostile, path: str) -> None:
    tree.clear(f"{path}/x").write_text("x")
    tree.clear(f"{path}/x").parent.chmod(0)


SPOILS: tuple[Spoil, ...] = (
    absolute_link, relative_link, link_to_a_file, dangling_link, loop, chain, magic_link, root_link, exe_link, fifo,
    terminal, zero, disk, unix_socket, link_in_a_folder, folder_of_all, very_deep_tree, odd_names,
    set_id_files, many_pieces, linked_outside, whiteouts, unreadable, huge_file,
)  # fmt: skip
assert len(SPOILS) >= 20


@pytest.fixture
async def here(leaves_nothing_behind: None, busybox_rootfs: Path) -> AsyncGenerator[Place, None]:
    async with place(busybox_rootfs) as opened:
        yield opened


@pytest.fixture(autouse=True)
def never_for_ever() -> object:
    """The copying blocks: a signal ends what hangs."""

    def late(*_: object) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def attempts(view: View, path: str, out: Path, source: Path) -> list[str]:
    """Everything that can be done with `path`; what was said of it."""
    said: list[str] = []
    plain, whole = (Copying(archive, False, said.append) for archive in (False, True))
    followed = Copying(False, True, said.append)
    tree, file = local_source(str(source), plain), local_source(str(source / "file"), plain)
    tries: list[Callable[[], object]] = [
        lambda: copy_out(view, BOX, path, str(out / "plain"), plain),
        lambda: copy_out(view, BOX, path, str(out / "whole"), whole),
        lambda: copy_out(view, BOX, path, str(out / "followed"), followed),
        lambda: copy_out(view, BOX, f"{path}/folder", str(out / "through"), plain),
        lambda: copy_out(view, BOX, f"{path}/.", str(out / "content"), plain),
        lambda: copy_in(view, BOX, tree, path, plain),
        lambda: copy_in(view, BOX, tree, f"{path}/x", whole),
        lambda: copy_in(view, BOX, file, path, plain),
        lambda: copy_in(view, BOX, file, f"{path}/inner", plain),
        lambda: copy_in(view, BOX, file, f"{path}/folder/inner", plain),
    ]
    for attempt in tries:
        try:
            attempt()
        except PystackError as exc:
            said.append(exc.message)
    return said


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
async def test_no_tree_leads_out_or_blocks(here: Place, canary: Path, tmp_path: Path, running: bool) -> None:
    root, source = tmp_path / "root", tmp_path / "source"
    shutil.copytree(here.rootfs, root, symlinks=True)
    (source / "folder").mkdir(parents=True)
    (source / "file").write_text("ours")
    (source / "folder" / "inner").write_text("ours")
    tree = Hostile(root, canary)
    for spoil in SPOILS:
        spoil(tree, f"/h/{spoil.__name__}")
    before = state_of(canary)
    spec = with_lowers(here.spec(["/bin/sleep", "1000"]), root)
    await here.runtime.create(spec)
    if running:
        await here.runtime.start(BOX)
    for spoil in SPOILS:
        out = tmp_path / f"out-{spoil.__name__}"
        out.mkdir()
        with opened_view(here.site, read_bundle(here.site, BOX)) as view:
            assert (view.run is not None) is running
            said = attempts(view, f"/h/{spoil.__name__}", out, source)
        assert all(len(text) > 10 and "\n" not in text and "\x1b" not in text for text in said), said
        assert state_of(canary) == before, spoil.__name__
        found = subprocess.run(["find", out, "-type", "f", "-size", "-1k", "-exec", "cat", "{}", "+"], capture_output=True)
        assert SECRET not in found.stdout, spoil.__name__
        special = ["find", str(out), "-type", "b", "-o", "-type", "c", "-o", "-path", "*/plain*", "-perm", "/6000"]
        assert subprocess.run(special, capture_output=True).stdout == b"", spoil.__name__
        remove_tree(str(out))
    remove_tree(str(root / "h"))


SWAPPER = """
mkdir -p /race/a /race/b; echo x > /race/a/file; echo x > /race/b/file; mkfifo /race/pipe
while :; do
  mv /race/a /race/c; ln -s {canary} /race/a; rm /race/a; mkfifo /race/a; rm /race/a; mv /race/c /race/a
  rm -f /race/b/file; ln -s {canary}/file /race/b/file; rm /race/b/file; mkfifo /race/b/file; rm /race/b/file
  echo x > /race/b/file
done
"""


async def test_names_that_change_meanwhile_lead_nowhere_else(here: Place, canary: Path, tmp_path: Path) -> None:
    source, before = tmp_path / "source", state_of(canary)
    (source / "folder").mkdir(parents=True)
    (source / "folder" / "inner").write_text("ours")
    await here.begin(["sh", "-c", SWAPPER.format(canary=canary)])
    said: list[str] = []
    copying = Copying(False, False, said.append)
    sources = [local_source(str(source), copying), local_source(str(source / "folder" / "inner"), copying)]
    with opened_view(here.site, read_bundle(here.site, BOX)) as view, open("/dev/null", "wb") as nothing:
        for number in range(20):
            out = str(tmp_path / f"out{number}")
            tries: list[Callable[[], object]] = [
                lambda: stream_out(view, BOX, "/race", nothing, copying),
                lambda out=out: copy_out(view, BOX, "/race", out, copying),  # type: ignore[misc]
                lambda: copy_in(view, BOX, sources[0], "/race/a", copying),
                lambda: copy_in(view, BOX, sources[1], "/race/b/file", copying),
            ]
            for attempt in tries:
                try:
                    attempt()
                except PystackError as exc:
                    said.append(exc.message)
    assert state_of(canary) == before
    copied = [path for path in tmp_path.glob("out*/**/*") if path.is_file() and not path.is_symlink()]
    assert all(path.read_bytes() != SECRET for path in copied)


async def test_a_root_that_its_process_has_changed_is_still_the_containers(here: Place, tmp_path: Path) -> None:
    script = "mkdir -p /jail/bin; cp /bin/busybox /jail/bin/sleep; exec chroot /jail /bin/sleep 1000"
    run = await here.begin(["sh", "-c", script])
    while os.readlink(f"/proc/{run.pid}/root") == "/":
        pass
    with opened_view(here.site, read_bundle(here.site, BOX)) as view:
        copy_out(view, BOX, "/etc/passwd", str(tmp_path / "passwd"), Copying(False, False, print))
    assert stat.S_ISREG((tmp_path / "passwd").stat().st_mode)
