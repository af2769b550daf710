"""ld.so.cache of a tree, by the machine's ldconfig(8)."""

from __future__ import annotations

import os
import posixpath
import shutil
import stat
import subprocess
from collections.abc import Container, Iterator
from contextlib import suppress

from orchestrator.images.bases.system import MERGED
from orchestrator.images.bases.tree import Tree
from orchestrator.kernel.trees import remove_tree

CACHE = "/etc/ld.so.cache"
_CONFIGURATION = "/etc/ld.so.conf"
_VARIANTS = "glibc-hwcaps"


def cache_libraries(tree: Tree) -> None:
    """Without a cache the libraries in the system's own directories are found all the same. ldconfig looks at a root of its
    own, beside the tree, of links to what it would see: a tree that has others below it lies nowhere as a whole."""
    program = shutil.which("ldconfig", path="/sbin:/usr/sbin")
    if program is None:
        return
    tree.directory("/var/cache/ldconfig", 0o700)
    root = f"{tree.directory_path}.libraries"
    try:
        _show(tree, root)
        argv = [program, "-X", "-i", "-r", root]
        subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        with suppress(FileNotFoundError), open(root + CACHE, "rb") as file:
            tree.file(CACHE, file.read())
    finally:
        remove_tree(root)


def _show(tree: Tree, root: str) -> None:
    """Every directory of the tree comes to lie at its real path, so no link of the tree's is ever followed here."""
    os.makedirs(f"{root}/etc/ld.so.conf.d")
    os.makedirs(f"{root}/var/cache/ldconfig", 0o700)
    for name in MERGED:
        if tree.is_link(f"/{name}"):
            os.symlink(f"usr/{name}", f"{root}/{name}")
    directories = [f"/usr/{name}" for name in MERGED]
    for path in (_CONFIGURATION, *(f"{_CONFIGURATION}.d/{name}" for name in tree.names(f"{_CONFIGURATION}.d"))):
        if (content := tree.read(path)) is not None:
            with open(root + path, "wb") as file:
                file.write(content)
            lines = content.decode(errors="replace").splitlines()
            directories += [line.strip() for line in lines if line.startswith("/")]
    done: set[str] = set()
    for directory in directories:
        with suppress(OSError):
            done.update(_real(tree, directory))
    for directory in sorted(done):
        os.makedirs(root + directory, exist_ok=True)
        for name in tree.names(directory):
            if name.startswith(("lib", "ld-")) and ".so" in name:
                with suppress(OSError):
                    _link(tree, posixpath.join(directory, name), root, done)


def _real(tree: Tree, directory: str) -> Iterator[str]:
    """A directory's path without links, and those of its variants for some processors."""
    real = tree.shown.resolve(directory)
    yield real
    for name in tree.names(f"{real}/{_VARIANTS}"):
        yield f"{real}/{_VARIANTS}/{name}"


def _link(tree: Tree, path: str, root: str, shown: Container[str]) -> None:
    """What lies at `path`. A link out of the directories `shown` (to an alternative) becomes what is behind it."""
    found = tree.shown.stat(path)
    if found is not None and stat.S_ISLNK(found.st_mode):
        target = tree.shown.resolve(path)
        if posixpath.dirname(target) in shown:
            os.symlink(tree.shown.readlink(path), root + path)
            return
        found, path_shown = tree.shown.stat(target), target
    else:
        path_shown = path
    if found is not None and stat.S_ISREG(found.st_mode) and (real := tree.shown.real(path_shown)) is not None:
        os.link(real, root + path)
