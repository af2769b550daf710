"""Root file systems that mean harm: a link, a FIFO, a device, a socket or a huge thing at each place that we make, mount at
or read. A canary outside is never touched, nor our own interpreter, and each container ends or is refused in time."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import stat
import sys
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest
import trio

from orchestrator.contracts.runtime import ExecSpec, GeneratedFile, VolumeFill
from orchestrator.errors import PystackError
from orchestrator.kernel.trees import remove_tree
from orchestrator.values import replace
from tests.kernel.place import Place, place, with_lowers
from tests.kernel.service_box import BOX

pytestmark = pytest.mark.kernel
LIMIT_S = 5.0
LOADED = 4
"""The machine may have other things to do."""


class Hostile:
    """`root`: the tree to be spoilt; `canary`: outside of it. `up`: enough of ``../`` to get out."""

    def __init__(self, root: Path, canary: Path) -> None:
        self.root = root
        self.canary = canary
        self.up = "../" * 12

    def clear(self, path: str) -> Path:
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.is_symlink() or place.is_file():
            place.unlink()
        elif place.is_dir():
            shutil.rmtree(place)
        return place


Spoil = Callable[[Hostile, str], None]


def absolute_link(tree: Hostile, path: str) -> None:
    tree.clear(path).symlink_to(tree.canary / "folder")


def relative_link(tree: Hostile, path: str) -> None:
    tree.clear(path).symlink_to(f"{tree.up}{str(tree.canary / 'folder').lstrip('/')}")


def link_to_a_file(tree: Hostile, path: str) -> None:
    tree.clear(path).symlink_to(tree.canary / "file")


def dangling_link(tree: Hostile, path: str) -> None:
    tree.clear(path).symlink_to(f"{tree.up}{str(tree.canary / 'made').lstrip('/')}")


def loop(tree: Hostile, path: str) -> None:
    place = tree.clear(path)
    place.symlink_to(place.name)


def chain(tree: Hostile, path: str) -> None:
    place = tree.clear(path)
    for number in range(60):
        tree.clear(f"chain{number}").symlink_to(f"/chain{number + 1}")
    tree.clear("chain60").symlink_to(tree.canary / "folder")
    place.symlink_to("/chain0")


def magic_link(tree: Hostile, path: str) -> None:
    tree.clear(path).symlink_to("/proc/self/fd/3")


def root_link(tree: Hostile, path: str) -> None:
    tree.clear(path).symlink_to("/proc/self/root/../../etc")


def exe_link(tree: Hostile, path: str) -> None:
    tree.clear(path).symlink_to("/proc/self/exe")


def fifo(tree: Hostile, path: str) -> None:
    os.mkfifo(tree.clear(path))


def terminal(tree: Hostile, path: str) -> None:
    os.mknod(tree.clear(path), stat.S_IFCHR | 0o666, os.makedev(5, 0))


def zero(tree: Hostile, path: str) -> None:
    os.mknod(tree.clear(path), stat.S_IFCHR | 0o666, os.makedev(1, 5))


def disk(tree: Hostile, path: str) -> None:
    os.mknod(tree.clear(path), stat.S_IFBLK | 0o666, os.makedev(7, 0))


def unix_socket(tree: Hostile, path: str) -> None:
    place = tree.clear(path)
    here = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{here}/{place.name}")
    os.close(here)


def huge_file(tree: Hostile, path: str) -> None:
    with open(tree.clear(path), "wb") as file:
        file.truncate(1 << 40)


def plain_file(tree: Hostile, path: str) -> None:
    tree.clear(path).write_text("not what you think\n")


def deep_tree(tree: Hostile, path: str) -> None:
    place = tree.clear(path)
    place.mkdir()
    here = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(600):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.symlink(str(tree.canary), "out", dir_fd=here)
    os.close(here)


def full_folder(tree: Hostile, path: str) -> None:
    place = tree.clear(path)
    place.mkdir()
    for number in range(500):
        (place / f"{number:04}").symlink_to(tree.canary / "folder")


LINKS: tuple[Spoil, ...] = (absolute_link, relative_link, link_to_a_file, dangling_link, loop, magic_link)
OTHERS: tuple[Spoil, ...] = (fifo, terminal, unix_socket, plain_file)
CASES: list[tuple[str, Spoil]] = [
    *((path, spoil) for path in ("/dev", "/proc", "/sys", "/etc") for spoil in (*LINKS, *OTHERS)),
    *((path, spoil) for path in ("/etc/passwd", "/etc/group") for spoil in (magic_link, fifo, zero, huge_file, chain)),
    ("/etc/passwd", exe_link),
    *((path, spoil) for path in ("/etc/hosts", "/etc/resolv.conf", "/etc/hostname") for spoil in (*LINKS, fifo, disk)),
    *((path, spoil) for path in ("/work", "/bound", "/volume") for spoil in (*LINKS, *OTHERS, root_link, chain)),
    ("/volume", deep_tree),
    ("/volume", full_folder),
    ("/bound/below", absolute_link),
    ("/dev/pts", absolute_link),
    ("/dev/shm", relative_link),
    ("/dev/null", link_to_a_file),
    ("/dev/console", dangling_link),
    ("/sys/fs/cgroup", absolute_link),
    ("/bin", magic_link),
    ("/bin/true", exe_link),
]
assert len(CASES) >= 56


def state_of(folder: Path) -> list[tuple[str, int, int, int, str]]:
    """Everything of a tree that could change."""
    found = []
    for path in sorted([folder, *folder.rglob("*")]):
        info = path.lstat()
        text = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() and not path.is_symlink() else ""
        found.append((str(path), info.st_mode, info.st_uid, info.st_mtime_ns, text))
    return found


@pytest.fixture
async def here(leaves_nothing_behind: None, busybox_rootfs: Path) -> AsyncGenerator[Place, None]:
    async with place(busybox_rootfs) as opened:
        yield opened


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    outside = tmp_path / "canary"
    (outside / "folder").mkdir(parents=True)
    (outside / "folder" / "inner").write_text("untouched\n")
    (outside / "file").write_text("untouched\n")
    return outside


async def run(here: Place, tree: Hostile, tmp_path: Path) -> list[str]:
    """Everything that we do with an image, as far as it lets us; what we said of it."""
    said: list[str] = []
    source, volume = tmp_path / "source", tmp_path / "volume"
    for folder in (source, volume):
        folder.mkdir()
    options = ["rbind", "rprivate", "nodev", "idmap"]
    mounts = [
        {"destination": "/bound/below", "type": "bind", "source": str(source), "options": options},
        {"destination": "/volume", "type": "bind", "source": str(volume), "options": options},
    ]
    files = tuple(GeneratedFile(path, b"ours\n") for path in ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf"))
    script = "echo x > /etc/hosts; echo y > /work/f; echo z > /volume/g; echo b > /bound/below/h; sleep 1000"
    spec = with_lowers(here.spec(["/bin/sh", "-c", script], mounts=mounts, files=files, cwd="/work"), tree.root)
    spec = replace(spec, fills=(VolumeFill("/volume", str(volume)),))
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        await here.runtime.create(spec)
        run_ = await here.runtime.start(spec.container)
        for user in (None, "nobody-here"):
            try:
                await here.runtime.exec(spec.container, ExecSpec(("/bin/true",), (null, null, null), user=user))
            except PystackError as exc:
                said.append(exc.message)
        await here.runtime.kill(spec.container)
        await here.runtime.wait(run_)
    except PystackError as exc:
        said.append(exc.message)
    finally:
        os.close(null)
        await here.runtime.remove(BOX)
        for folder in (source, volume, tree.root):  # Deeper than Python's own can go.
            remove_tree(str(folder))
    return said


GROUPS = sorted({path for path, _ in CASES})


@pytest.mark.parametrize("path", GROUPS)
async def test_nothing_at_this_place_leads_out_or_blocks(here: Place, path: str, canary: Path, tmp_path: Path) -> None:
    before, python = state_of(canary), Path(sys.executable).resolve()
    digest = hashlib.sha256(python.read_bytes()).hexdigest()
    for number, (_, spoil) in enumerate(case for case in CASES if case[0] == path):
        root = tmp_path / f"root{number}"
        shutil.copytree(here.rootfs, root, symlinks=True)
        tree = Hostile(root, canary)
        spoil(tree, path)
        with trio.fail_after(LIMIT_S * LOADED):
            said = await run(here, tree, tmp_path)
        assert all(len(message) > 10 and "\n" not in message for message in said)
        assert state_of(canary) == before, spoil.__name__
    assert hashlib.sha256(python.read_bytes()).hexdigest() == digest
