"""Archives and layouts, exchanged with skopeo, umoci, buildah and podman both ways: the same digests, the same trees.

Trees are compared entry by entry: kind, mode, owner, size, content, times, devices, extended attributes, and which names
are one file. Ours are mounted as a container would have them (overlayfs), theirs are unpacked by umoci.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.contracts.images import Transfer
from orchestrator.images.reference import Archive
from orchestrator.images.spec.digest import Digest
from orchestrator.images.store.store import Store
from orchestrator.images.store.values import StoredImage
from orchestrator.images.transports.importing import import_tree
from orchestrator.images.transports.loading import load
from orchestrator.images.transports.saving import save
from orchestrator.images.unpack.compression import Compression
from tests.conftest import MUST_WORK

pytestmark = pytest.mark.kernel

PROGRAMS = ("skopeo", "umoci", "buildah", "podman")
NAME = "docker.io/library/rich:1"
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
"""cap_net_bind_service+ep, as setcap(8) writes it."""


@pytest.fixture(autouse=True)
def programs() -> None:
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing and MUST_WORK:
        pytest.fail(f"not installed: {', '.join(missing)} (.ci/servers installs them)", pytrace=False)
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


@pytest.fixture
def scratch(leaves_nothing_behind: None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="archives-") as directory:
        yield Path(directory)


@pytest.fixture
def store(scratch: Path) -> Store:
    return Store(str(scratch / "images"))


def quiet(_told: str | Transfer) -> None:
    pass


def run(*command: str | Path) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


def copy(source: str, target: str) -> None:
    run("skopeo", "--insecure-policy", "copy", "--preserve-digests", source, target)


def buildah(scratch: Path, *words: str | Path) -> str:
    places = ("--root", scratch / "theirs", "--runroot", scratch / "run", "--storage-driver", "vfs")
    return run("buildah", *places, *words)


def podman(scratch: Path, *words: str | Path) -> str:
    places = ("--root", scratch / "theirs", "--runroot", scratch / "run", "--tmpdir", scratch / "run/tmp")
    return run("podman", *places, "--storage-driver", "vfs", "--events-backend", "none", *words)


def make_tree(root: Path) -> None:
    """Whatever a layer can hold."""
    for name in ("bin", "etc", "var/cache", "tmp", "home/app", "gone/below", "opaque"):
        (root / name).mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n")
    (root / "bin/su").write_bytes(os.urandom(70_000))
    (root / "bin/su").chmod(0o4755)
    (root / "bin/serve").write_bytes(b"#!/bin/true\n")
    (root / "bin/serve").chmod(0o755)
    os.setxattr(root / "bin/serve", "security.capability", CAPABILITY)
    os.link(root / "bin/serve", root / "bin/also")
    os.link(root / "bin/serve", root / "home/app/serve")
    (root / "bin/link").symlink_to("../etc/passwd")
    (root / "etc/dangling").symlink_to("/nowhere")
    (root / "tmp").chmod(0o1777)
    (root / "var/cache").chmod(0o2750)
    (root / ("home/app/" + "n" * 200)).write_text("a long name")
    (root / "home/app/ünïcode \n name").write_text("x")
    (root / "home/app/empty").touch()
    os.setxattr(root / "home/app/empty", "user.note", b"\0\xff")
    for name in ("home/app", "home/app/empty"):
        os.chown(root / name, 1000, 4_000_000)
    os.mkfifo(root / "var/fifo")
    os.mknod(root / "var/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (root / "gone/below/file").write_text("x")
    (root / "opaque/old").write_text("x")
    with open(root / "var/sparse", "wb") as file:
        file.seek(1 << 20)
        file.write(b"end")
    for path in [*root.rglob("*"), root]:
        os.utime(path, (1_600_000_000, 1_600_000_000), follow_symlinks=False)


def change_tree(root: Path) -> None:
    """What the second layer does."""
    shutil.rmtree(root / "gone")
    shutil.rmtree(root / "opaque")
    (root / "opaque").mkdir()
    (root / "opaque/new").write_text("y")
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "bin/link").unlink()
    (root / "bin/link").mkdir()


def listing(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything below `root`; of hard links their other names."""
    found: dict[str, tuple[object, ...]] = {}
    inodes: dict[int, list[str]] = {}
    for path in sorted(root.rglob("*")):
        name, info = str(path.relative_to(root)), path.lstat()
        kind = stat.S_IFMT(info.st_mode)
        content: object = None
        if kind == stat.S_IFREG:
            content = info.st_size, hashlib.sha256(path.read_bytes()).hexdigest()
            inodes.setdefault(info.st_ino, []).append(name)
        elif kind == stat.S_IFLNK:
            content = os.readlink(path)
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            content = info.st_rdev
        xattrs = {key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)}
        found[name] = (oct(info.st_mode), info.st_uid, info.st_gid, content, int(info.st_mtime), xattrs)
    same = {name: names for names in inodes.values() for name in names}
    return {name: (*about, same.get(name)) for name, about in found.items()}


@contextmanager
def mounted(image: StoredImage, scratch: Path) -> Iterator[Path]:
    """As a container has it."""
    target = scratch / "mounted"
    (scratch / "bottom").mkdir(exist_ok=True)
    target.mkdir(exist_ok=True)
    lowers = [*(layer.path for layer in reversed(image.layers)), str(scratch / "bottom")]
    run("mount", "-t", "overlay", "overlay", "-o", f"ro,lowerdir={':'.join(lowers)}", target)
    try:
        yield target
    finally:
        run("umount", target)


def ours(image: StoredImage, scratch: Path) -> dict[str, tuple[object, ...]]:
    with mounted(image, scratch) as root:
        return listing(root)


def theirs(layout: str, scratch: Path) -> dict[str, tuple[object, ...]]:
    """What umoci unpacks of an OCI layout, ``DIR:TAG``."""
    root = Path(tempfile.mkdtemp(dir=scratch)) / "rootfs"
    run("umoci", "raw", "unpack", "--image", layout, root)
    return listing(root)


def digest_at(place: str) -> str:
    """Of the manifest that skopeo sees there."""
    raw = subprocess.run(["skopeo", "inspect", "--raw", place], capture_output=True, check=True, timeout=60).stdout
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def make_with_buildah(scratch: Path) -> tuple[str, Path]:
    """An image of two layers: its id, and an OCI layout of it with the tag ``1``."""
    first = buildah(scratch, "from", "scratch")
    make_tree(Path(buildah(scratch, "mount", first)))
    buildah(scratch, "config", "--entrypoint", '["/bin/serve"]', "--user", "app", "--env", "A=1", first)
    base = buildah(scratch, "commit", "--quiet", first)
    second = buildah(scratch, "from", base)
    change_tree(Path(buildah(scratch, "mount", second)))
    image = buildah(scratch, "commit", "--quiet", second, "rich:1")
    buildah(scratch, "push", "--quiet", image, f"oci:{scratch}/made:1")
    return image, scratch / "made"


def make_with_ours(store: Store, scratch: Path) -> StoredImage:
    tree = scratch / "tree"
    tree.mkdir()
    make_tree(tree)
    image = import_tree(store, str(tree), {"Entrypoint": ["/bin/serve"], "User": "app", "Env": ["A=1"]}, quiet)
    store.name(NAME, image.id)
    return image


def test_an_image_of_buildah_comes_in_by_every_way_with_the_same_digests_and_the_same_tree(
    store: Store, scratch: Path
) -> None:
    image_id, layout = make_with_buildah(scratch)
    expected = theirs(f"{layout}:1", scratch)
    assert len(expected) > 20
    copy(f"oci:{layout}:1", f"oci-archive:{scratch}/oci.tar:rich:1")
    copy(f"oci:{layout}:1", f"dir:{scratch}/dir")
    run("gzip", "--keep", scratch / "oci.tar")
    manifest = digest_at(f"oci:{layout}:1")
    for number, source in enumerate((layout, scratch / "oci.tar", scratch / "oci.tar.gz", scratch / "dir")):
        own = Store(str(scratch / f"images{number}"))
        (image,) = load(own, str(source), quiet)
        assert (image.id, image.manifest and image.manifest.digest) == (f"sha256:{image_id}", manifest)
        assert ours(image, scratch) == expected
        assert image.passwd == b"root:x:0:0::/:/bin/sh\n"
        save(own, [image.id], Archive("oci", str(scratch / f"back{number}"), "1"), quiet)
        assert digest_at(f"oci:{scratch}/back{number}:1") == manifest
    assert Store(str(scratch / "images1")).find("rich:1") is not None


def test_an_image_of_podman_comes_in_and_goes_back(store: Store, scratch: Path) -> None:
    image_id, layout = make_with_buildah(scratch)
    podman(scratch, "save", "--quiet", "--format", "docker-archive", "--output", scratch / "docker.tar", "rich:1")
    podman(scratch, "save", "--quiet", "--format", "oci-archive", "--output", scratch / "oci.tar", "rich:1")
    expected = theirs(f"{layout}:1", scratch)
    (of_docker,) = load(store, str(scratch / "docker.tar"), quiet)
    (of_oci,) = load(Store(str(scratch / "other")), str(scratch / "oci.tar"), quiet)
    assert of_oci.id == f"sha256:{image_id}"
    assert of_docker.config.diff_ids == of_oci.config.diff_ids
    assert of_docker.names == of_oci.names == ("localhost/rich:1",)
    assert ours(of_docker, scratch) == ours(of_oci, scratch) == expected
    for transport in ("docker-archive", "oci-archive"):
        save(store, ["localhost/rich:1"], Archive(transport, str(scratch / f"{transport}.tar")), quiet)
        podman(scratch, "rmi", "--all", "--force")
        assert "localhost/rich:1" in podman(scratch, "load", "--quiet", "--input", scratch / f"{transport}.tar")
        (found,) = json.loads(podman(scratch, "image", "inspect", "rich:1"))
        assert found["RootFS"]["Layers"] == list(of_docker.config.diff_ids)
        assert found["Config"]["Entrypoint"] == ["/bin/serve"]
        if transport == "oci-archive":
            assert f"sha256:{found['Id']}" == of_docker.id


def test_an_image_of_umoci_comes_in_and_goes_back(store: Store, scratch: Path) -> None:
    layout, tree = scratch / "layout", scratch / "tree"
    tree.mkdir()
    make_tree(tree)
    run("umoci", "init", "--layout", layout)
    run("umoci", "new", "--image", f"{layout}:latest")
    run("umoci", "insert", "--image", f"{layout}:latest", tree, "/data")
    run("umoci", "insert", "--image", f"{layout}:latest", "--whiteout", "/data/gone")
    run("umoci", "config", "--image", f"{layout}:latest", "--config.user", "app")
    expected = theirs(f"{layout}:latest", scratch)
    (image,) = load(store, Archive("oci", str(layout), "latest"), quiet)
    assert ours(image, scratch) == expected
    assert "data/gone" not in expected
    assert image.config.config["User"] == "app"
    save(store, [image.id], Archive("oci", str(scratch / "back"), "latest"), quiet)
    assert theirs(f"{scratch}/back:latest", scratch) == expected
    assert digest_at(f"oci:{scratch}/back:latest") == digest_at(f"oci:{layout}:latest")


@pytest.mark.parametrize("way", ["oci", "oci-archive", "docker-archive", "dir"])
def test_an_image_of_ours_is_taken_by_skopeo_and_umoci_from_every_way(store: Store, scratch: Path, way: str) -> None:
    image = make_with_ours(store, scratch)
    expected = ours(image, scratch)
    assert expected == listing(scratch / "tree")
    path = str(scratch / "out")
    save(store, [NAME], Archive(way, path), quiet)
    name = {"oci": f":{NAME}", "oci-archive": f":{NAME}", "docker-archive": ":rich:1", "dir": ""}[way]
    run("skopeo", "--insecure-policy", "copy", f"{way}:{path}{name}", f"oci:{scratch}/theirs:1")
    assert theirs(f"{scratch}/theirs:1", scratch) == expected
    (back,) = load(Store(str(scratch / "other")), Archive("oci", str(scratch / "theirs"), "1"), quiet)
    assert back.config.diff_ids == image.config.diff_ids
    assert ours(back, scratch) == expected
    if way != "docker-archive":  # skopeo writes the configuration of those anew.
        assert back.id == image.id
        assert back.manifest is not None
        assert back.manifest.digest == digest_at(f"{way}:{path}{name}")


def test_an_image_of_ours_is_taken_by_buildah_and_podman(store: Store, scratch: Path) -> None:
    image = make_with_ours(store, scratch)
    expected = ours(image, scratch)
    save(store, [NAME], Archive("oci-archive", str(scratch / "oci.tar")), quiet)
    podman(scratch, "load", "--quiet", "--input", scratch / "oci.tar")
    assert f"sha256:{podman(scratch, 'image', 'inspect', '--format', '{{.Id}}', NAME)}" == image.id
    container = buildah(scratch, "from", "--pull=never", NAME)
    assert listing(Path(buildah(scratch, "mount", container))) == expected


def test_zstd_layers_of_ours_are_taken(store: Store, scratch: Path) -> None:
    image = make_with_ours(store, scratch)
    save(store, [NAME], Archive("oci", str(scratch / "zstd"), "1"), quiet, kind=Compression.ZSTD)
    run("skopeo", "--insecure-policy", "copy", "--dest-decompress", f"oci:{scratch}/zstd:1", f"dir:{scratch}/plain")
    (back,) = load(Store(str(scratch / "other")), str(scratch / "plain"), quiet)
    assert back.id == image.id
    assert ours(back, scratch) == ours(image, scratch)


def test_an_archive_of_docker_as_skopeo_writes_it_keeps_diff_ids_and_names(store: Store, scratch: Path) -> None:
    _, layout = make_with_buildah(scratch)
    run("skopeo", "--insecure-policy", "copy", f"oci:{layout}:1", f"docker-archive:{scratch}/docker.tar:{NAME}")
    (image,) = load(store, Archive("docker-archive", str(scratch / "docker.tar"), NAME), quiet)
    assert image.names == (NAME,)
    assert ours(image, scratch) == theirs(f"{layout}:1", scratch)
    config: Digest = Digest(json.loads(run("tar", "-xOf", scratch / "docker.tar", "manifest.json"))[0]["Config"])
    assert image.id == f"sha256:{config.removesuffix('.json')}"
