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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.model.build import BuildSecret
from tests.differential.dockerfile_corners import BASE, CORNERS, Case, Context, Link, Mode
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
ALWAYS = {
    "an archive", "a run that replaces a directory", "a directory of a stage", "a wildcard", "labels", "an ignore file",
    "parents from the middle", "a user with a group", "a mode for a directory", "what a stage deleted",
}  # fmt: skip
"""The others are for `make soak`."""
CONFIGURATION_ALONE = {
    "volumes": "buildah makes the directories; Docker leaves that to the container",
    "triggers": "buildah runs them when the tree is to be looked at",
}
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ALL: Mapping[str, Case] = {**{name: Case(body, files) for name, (body, files) in CASES.items()}, **CORNERS}
_MOUNT_POINTS = frozenset({"dev", "proc", "run", "sys", "etc/hosts", "etc/resolv.conf", "etc/hostname"})


class Buildah:
    """Its own store, with ``localhost/base``."""

    def __init__(self, root: Path, rootfs: Path) -> None:
        self.root = root
        context = root / "base"
        context.mkdir()
        subprocess.run(["tar", "-C", rootfs, "-cf", context / "base.tar", "."], check=True)
        self.build(context, f'FROM scratch\nADD base.tar /\nENV {PATH}\nCMD ["sh"]\n', "localhost/base", Case(""))

    def run(self, *arguments: str) -> str:
        places = ["--storage-driver", "vfs", "--root", f"{self.root}/root", "--runroot", f"{self.root}/run"]
        environ = {**os.environ, "TMPDIR": str(self.root)}
        done = subprocess.run(
            ["buildah", *places, *arguments], check=True, stdout=subprocess.PIPE, text=True, env=environ
        )
        return done.stdout.strip()

    def build(self, context: Path, text: str, name: str, case: Case) -> None:
        dockerfile = self.root / "Dockerfile"
        dockerfile.write_text(text)
        options = ["--isolation", "chroot", "--format", "docker", "--pull-never", "--quiet", "--file", str(dockerfile)]
        options += [f"--build-arg={key}={value}" for key, value in case.args.items()]
        options += [f"--target={case.target}"] if case.target else []
        for key, value in case.secrets.items():
            (self.root / key).write_text(value)
            options.append(f"--secret=id={key},src={self.root / key}")
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
            if not stat.S_ISLNK(own.st_mode):
                attributes = [each for each in sorted(os.listxattr(path)) if not each.startswith("trusted.")]
                text += "".join(f" {each}={os.getxattr(path, each)!r}" for each in attributes)
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


def laid_out(files: Context, root: Path) -> Path:
    """A context with these files, whatever the umask is."""
    context = root / "context"
    context.mkdir()
    for name, content in files.items():
        path = context / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Link):
            path.symlink_to(content.target)
        elif name.endswith("/"):
            path.mkdir()
        elif isinstance(content, Mode):
            path.write_text(content.content)
            path.chmod(content.mode)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    return context


@pytest.mark.parametrize("name", [_marked(name) for name in ALL])
async def test_buildah_and_we_build_the_same(
    name: str, leaves_nothing_behind: None, busybox_rootfs: Path, buildah: Buildah
) -> None:
    case = ALL[name]
    async with bench(busybox_rootfs) as at:
        context = laid_out(case.files, at.root)
        above = "" if case.whole else BASE
        buildah.build(context, f"{above}{case.instead or case.body}\n", "localhost/case", case)
        at.images["localhost/base"] = at.image_of(busybox_rootfs, {"Env": [PATH], "Cmd": ["sh"]})
        secrets = tuple(BuildSecret(key, file=str(buildah.root / key)) for key in case.secrets)
        built = await at.build(
            f"{above}{case.body}\n", context, target=case.target, args=tuple(case.args.items()), secrets=secrets
        )
        wanted: dict[str, Any] = configuration(buildah.config("localhost/case"))
        made: dict[str, Any] = configuration(dict(built.config))
        if name not in CONFIGURATION_ALONE:
            wanted |= buildah.tree("localhost/case")
            made |= ours(built, at.root)
        buildah.run("rmi", "localhost/case")
        different = {key: (made.get(key), wanted.get(key)) for key in made | wanted if made.get(key) != wanted.get(key)}
        assert {key: pair for key, pair in different.items() if key not in case.differs} == {}, "ours, buildah's"
        assert set(case.differs) <= set(different), "the table says that these differ"
