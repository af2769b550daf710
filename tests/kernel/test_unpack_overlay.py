"""The merged view, and the trees that layers become, against overlayfs itself."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from orchestrator.errors import OperationError
from orchestrator.images.unpack.layers import apply_layer
from orchestrator.images.unpack.merged import Merged
from orchestrator.kernel.trees import remove_tree
from tests.archives import END, directory, file, hardlink, symlink

pytestmark = pytest.mark.kernel

NAMES = b"abcd"
STACKS = 40


@pytest.fixture
def top() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="pst-"))
    yield made
    remove_tree(str(made))


def random_path(r: Random) -> bytes:
    return b"/".join(bytes([r.choice(NAMES)]) for _ in range(r.randint(1, 3)))


def random_entry(r: Random) -> bytes:
    path = random_path(r)
    above = path.rpartition(b"/")[0] or b"."
    match r.randint(0, 9):
        case 0 | 1 | 2:
            return directory(path, r.choice((0o700, 0o755)), uid=r.randint(0, 9))
        case 3 | 4:
            return file(path, b"%d" % r.randint(0, 99), mtime=r.randint(0, 99))
        case 5 | 6:
            return file(above + b"/.wh." + bytes([r.choice(NAMES)]))
        case 7:
            return file(path + b"/.wh..wh..opq")
        case 8:
            return symlink(path, r.choice((b"/", b"../", b"")) + random_path(r))
        case _:
            return hardlink(path, random_path(r))


def random_stack(r: Random, top: Path) -> list[Path]:
    """Layers, topmost first."""
    layers: list[Path] = []
    while len(layers) < 4:
        made = Path(tempfile.mkdtemp(dir=top))
        layer = b"".join(random_entry(r) for _ in range(r.randint(1, 8))) + END
        try:
            apply_layer(io.BytesIO(layer), str(made), [str(path) for path in layers])
        except OperationError:
            continue
        layers.insert(0, made)
    return layers


def seen(root: str, path: str) -> object:
    full = root + path
    found = os.lstat(full)
    kind = stat.S_IFMT(found.st_mode)
    what: object = None
    if stat.S_ISREG(found.st_mode):
        what = Path(full).read_bytes()
    elif stat.S_ISLNK(found.st_mode):
        what = os.readlink(full)
    return kind, stat.S_IMODE(found.st_mode), found.st_uid, int(found.st_mtime), what


def ours(merged: Merged, path: str) -> object:
    found = merged.stat(path)
    assert found is not None, path
    what: object = None
    if stat.S_ISREG(found.st_mode):
        with merged.open(path) as opened:
            what = opened.read()
    elif stat.S_ISLNK(found.st_mode):
        what = merged.readlink(path)
    real = merged.real(path)
    assert real is not None
    assert os.lstat(real).st_ino == found.st_ino
    return stat.S_IFMT(found.st_mode), stat.S_IMODE(found.st_mode), found.st_uid, int(found.st_mtime), what


def compare(merged: Merged, mount: str) -> int:
    count = 0
    ahead = ["/"]
    while ahead:
        folder = ahead.pop()
        names = merged.listdir(folder)
        assert names == sorted(os.listdir(mount + folder)), folder
        for name in names:
            path = os.path.join(folder, name)
            assert ours(merged, path) == seen(mount, path), path
            count += 1
            if stat.S_ISDIR(os.lstat(mount + path).st_mode):
                ahead.append(path)
    return count


def test_random_layers_look_as_overlayfs_shows_them(top: Path) -> None:
    mount = top / "mount"
    mount.mkdir()
    total = 0
    for seed in range(STACKS):
        layers = random_stack(Random(seed), top)
        options = "lowerdir=" + ":".join(map(str, layers))
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(mount)], check=True)
        try:
            with Merged([str(layer) for layer in layers]) as merged:
                total += compare(merged, str(mount))
        finally:
            subprocess.run(["umount", str(mount)], check=True)
    assert total > STACKS
