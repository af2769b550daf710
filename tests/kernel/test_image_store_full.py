"""A disk that is full at any moment of a load: one error, nothing half-installed, and success once there is room."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.contracts.images import Transfer
from orchestrator.errors import HostError
from orchestrator.images.reference import Archive
from orchestrator.images.store.store import Store
from orchestrator.images.transports.importing import import_tree
from orchestrator.images.transports.loading import load
from orchestrator.images.transports.saving import save
from tests.unit.images import made

pytestmark = pytest.mark.kernel

KIB = 1024
NAME = "docker.io/library/big:1"


def quiet(_told: str | Transfer) -> None:
    pass


@pytest.fixture
def scratch(leaves_nothing_behind: None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="full-") as directory:
        yield Path(directory)


@pytest.fixture
def small(scratch: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    (scratch / "small").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", scratch / "small"], check=True, timeout=30)
    try:
        yield scratch / "small"
    finally:
        subprocess.run(["umount", scratch / "small"], check=True, timeout=30)


def big() -> made.Made:
    """Two layers of a MiB that cannot be compressed, and a little one: 4.1 MiB in all, with blobs and trees."""
    return made.image({"a": os.urandom(KIB * KIB)}, {"b": os.urandom(KIB * KIB)}, {"etc/": None, "etc/passwd": b"x"})


def write_layout(image: made.Made, directory: Path) -> None:
    store = Store(str(directory / "source"))
    made.put(store, image, NAME)
    save(store, [NAME], Archive("oci", str(directory / "layout")), quiet)


def test_a_full_disk_is_one_error_wherever_it_fills_and_the_load_succeeds_once_there_is_room(
    scratch: Path, small: Path
) -> None:
    image = big()
    write_layout(image, scratch)
    store, failures = Store(str(small / "images")), 0
    for left in range(0, 4 * KIB, 128):
        room = os.statvfs(small)
        ballast = small / "ballast"
        ballast.write_bytes(bytes(room.f_bavail * room.f_bsize - min(left * KIB, room.f_bavail * room.f_bsize)))
        with pytest.raises(HostError, match="the disk is full"):
            load(store, str(scratch / "layout"), quiet)
        failures += 1
        assert store.images() == []
        assert dict(store.names()) == {}
        store.collect(in_use=(), unnamed=True, unused=True)
        assert made.kept(small / "images", ("blobs", "layers", "records", "names", "tmp", "trash", "leases")) == []
        ballast.unlink()
    assert failures == 32
    subprocess.run(["mount", "-o", "remount,size=16m", small], check=True, timeout=30)
    (loaded,) = load(store, str(scratch / "layout"), quiet)
    assert (loaded.id, loaded.names) == (image.id, (NAME,))


def test_an_archive_that_does_not_fit_leaves_nothing_at_its_destination(scratch: Path, small: Path) -> None:
    store = Store(str(scratch / "images"))
    tree = scratch / "tree"
    tree.mkdir()
    (tree / "a").write_bytes(os.urandom(5 * KIB * KIB))
    image = import_tree(store, str(tree), {}, quiet)
    for transport in ("oci", "oci-archive", "docker-archive", "dir"):
        with pytest.raises(HostError, match="the disk is full"):
            save(store, [image.id], Archive(transport, str(small / "out")), quiet)
        assert os.listdir(small) == []
