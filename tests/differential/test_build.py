"""The same Dockerfile built by buildah and by us: the same tree, entry by entry, and the same configuration.

Where buildah means something else by a tree, `CONFIGURATION_ALONE` says why.
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
from pathlib import Path
from typing import Any

import pytest

from tests.differential.dockerfiles import CASES
from tests.kernel.build_bench import Built, bench

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(shutil.which("buildah") is None, reason="no buildah (.ci/servers installs it)"),
]

CONFIG = (
    "Cmd", "Entrypoint", "Env", "ExposedPorts", "Healthcheck", "Labels", "OnBuild", "Shell", "StopSignal", "User",
    "Volumes", "WorkingDir",
)  # fmt: skip
ALWAYS = {"a file to a file", "an archive", "a run that replaces a directory", "a directory of a stage", "an entrypoint"}
"""The others are for `make soak`."""
CONFIGURATION_ALONE = {
    "volumes": "buildah makes the directories; Docker leaves that to the container",
    "triggers": "buildah runs them when the tree is to be looked at",
}
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MOUNT_POINTS = frozenset({"dev", "proc", "run", "sys", "etc/hosts", "etc/resolv.conf", "etc/hostname"})


class Buildah:
    """Its own store, with ``localhost/base``."""

    def __init__(self, root: Path, rootfs: Path) -> None:
        self.root = root
        context = root / "base"
        context.mkdir()
        subprocess.run(["tar", "-C", rootfs, "-cf", context / "base.tar", "."], check=True)
        self.build(context, f'FROM scratch\nADD base.tar /\nENV {PATH}\nCMD ["sh"]\n', "localhost/base")

    def run(self, *arguments: str) -> str:
        places = ["--storage-driver", "vfs", "--root", f"{self.root}/root", "--runroot", f"{self.root}/run"]
        done = subprocess.run(["buildah", *places, *arguments], check=True, stdout=subprocess.PIPE, text=True)
        return done.stdout.strip()

    def build(self, context: Path, text: str, name: str) -> None:
        dockerfile = self.root / "Dockerfile"
        dockerfile.write_text(text)
        options = ["--isolation", "chroot", "--format", "docker", "--pull-never", "--quiet", "--file", str(dockerfile)]
        self.run("bud", *options, "--tag", name, str(context))

    def config(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("inspect", "--type", "image", name))["Docker"]["config"]
        return found

    def tree(self, name: str) -> dict[str, str]:
        container = self.run("from", "--pull-never", name)
        try:
            return described(Path(self.run("mount", container)))
        finally:
            self.run("rm", container)


@pytest.fixture(scope="module")
def buildah(busybox_rootfs: Path) -> Iterator[Buildah]:
    root = Path(tempfile.mkdtemp(prefix="buildah-", dir="/tmp"))
    yield Buildah(root, busybox_rootfs)
    shutil.rmtree(root)


def described(root: Path) -> dict[str, str]:
    """Path -> kind, mode, owner, content; hard links by the first name."""
    found: dict[str, str] = {}
    first: dict[int, str] = {}
    for directory, names, files in os.walk(root):
        for name in sorted((*names, *files)):
            path = Path(directory, name)
            own = path.lstat()
            shown = str(path.relative_to(root))
            text = f"{stat.filemode(own.st_mode)} {own.st_uid}:{own.st_gid}"
            if stat.S_ISLNK(own.st_mode):
                text += f" -> {path.readlink()}"
            elif stat.S_ISREG(own.st_mode):
                text += f" {own.st_size} {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
                if own.st_nlink > 1:
                    text += f" = {first.setdefault(own.st_ino, shown)}"
            if shown not in _MOUNT_POINTS:
                found[shown] = text
    return found


def ours(built: Built, root: Path) -> dict[str, str]:
    """By way of a mount of the layers, as a container sees them."""
    target = root / "merged"
    target.mkdir()
    lowers = ":".join(built.lowers) if len(built.lowers) > 1 else f"{built.lowers[0]}:{_empty(root)}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", f"ro,lowerdir={lowers}", target], check=True)
    try:
        return described(target)
    finally:
        subprocess.run(["umount", target], check=True)


def _empty(root: Path) -> Path:
    (root / "empty").mkdir()
    return root / "empty"


def configuration(config: dict[str, Any]) -> dict[str, Any]:
    """What counts, without what is nothing."""
    kept = {key: config[key] for key in CONFIG if config.get(key)}
    if kept.get("WorkingDir") == "/":
        del kept["WorkingDir"]
    if "Labels" in kept:
        kept["Labels"] = {name: text for name, text in kept["Labels"].items() if name != "io.buildah.version"}
    return {key: value for key, value in kept.items() if value}


def _marked(name: str) -> Any:
    return pytest.param(name, id=name.replace(" ", "-"), marks=() if name in ALWAYS else pytest.mark.soak)


@pytest.mark.parametrize("name", [_marked(name) for name in CASES])
async def test_buildah_and_we_build_the_same(
    name: str, leaves_nothing_behind: None, busybox_rootfs: Path, buildah: Buildah
) -> None:
    body, files = CASES[name]
    async with bench(busybox_rootfs) as at:
        context = at.context(files)
        text = f"FROM localhost/base\n{body}\n"
        buildah.build(context, text, "localhost/case")
        at.images["localhost/base"] = at.image_of(busybox_rootfs, {"Env": [PATH], "Cmd": ["sh"]})
        built = await at.build(text, context)
        if name not in CONFIGURATION_ALONE:
            wanted, made = buildah.tree("localhost/case").items(), ours(built, at.root).items()
            assert sorted(made - wanted) == sorted(wanted - made)
        assert configuration(dict(built.config)) == configuration(buildah.config("localhost/case"))

