"""Debian's packages as a tree. No script of theirs is run: what one would have done for all is in `system`, what an image
needs besides in its recipe; the scripts lie in the database for whoever installs more inside a container."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from typing import BinaryIO

import trio

from orchestrator.images.bases import system
from orchestrator.images.bases.accounts import Accounts
from orchestrator.images.bases.apt import Apt, Source
from orchestrator.images.bases.archive import opened, read_control
from orchestrator.images.bases.busybox import applet_names
from orchestrator.images.bases.dpkg import Control, Database, listed
from orchestrator.images.bases.essential import essential
from orchestrator.images.bases.libraries import cache_libraries
from orchestrator.images.bases.recipes import LIKE_ALPINE, Recipe
from orchestrator.images.bases.tree import Tree
from orchestrator.images.unpack.entries import Kind
from orchestrator.images.unpack.reading import read_entries
from orchestrator.values import frozen, replace

BASE = ("?essential", "apt", "ca-certificates")
"""`?essential` is apt's pattern for what every Debian system has (apt-patterns(7))."""

_ACQUIRE = ("Acquire::Check-Valid-Until", "Acquire::Check-Date")
"""Of this machine's apt: it knows whether its mirror's lists are old on purpose."""


class Debian:
    """What is to be made: `packages` beside the base, and what the recipes want. `look` asks apt; then `layers` tells what
    the image consists of."""

    def __init__(self, apt: Apt, packages: Sequence[str], recipes: Sequence[Recipe], *, like_alpine: bool) -> None:
        self._apt = apt
        self._recipes = recipes
        self._like_alpine = like_alpine
        wanted = [*BASE, *packages, *(name for recipe in recipes for name in recipe.packages)]
        if like_alpine:
            wanted.append("busybox-static")
        self._wanted = list(dict.fromkeys(wanted))
        self._archives: dict[str, Control] = {}
        self._settings = Settings((), ())

    async def look(self) -> None:
        """Solve and fetch. Raises as `Apt.packages`, and OperationError for a damaged package."""
        archives = await self._apt.packages(self._wanted)
        sources = await self._apt.sources()
        acquire = [(name, await self._apt.setting(name)) for name in _ACQUIRE]
        self._settings = Settings(sources, tuple((name, value) for name, value in acquire if value in ("true", "false")))
        await trio.to_thread.run_sync(self._apt.trim)
        self._archives = await trio.to_thread.run_sync(lambda: {path: read_control(path) for path in archives})

    def layers(self) -> list[Packages]:
        """Lowest first: what every system has, which is the same below all images, and what this one has besides."""
        lowest = essential(tuple(self._archives.values()), BASE)
        base = {path: control for path, control in self._archives.items() if control.name in lowest}
        rest = {path: control for path, control in self._archives.items() if control.name not in lowest}
        below = Packages(dict(sorted(base.items())), self._settings)
        if not (rest or self._recipes or self._like_alpine):
            return [below]
        above = Packages(rest, self._settings, tuple(base.values()), tuple(self._recipes), self._like_alpine)
        return [below, above]


@frozen
class Settings:
    """Of the apt inside the image."""

    sources: tuple[Source, ...]
    acquire: tuple[tuple[str, str], ...]


@frozen
class Packages:
    """One layer. `archives`: paths of what is to be unpacked, in order. `below`: what lies in the layer below."""

    archives: Mapping[str, Control]
    settings: Settings
    below: Sequence[Control] = ()
    recipes: Sequence[Recipe] = ()
    like_alpine: bool = False

    def identity(self) -> str:
        """Changes when what `fill` makes on the same tree does."""
        names = [recipe.name for recipe in self.recipes]
        return repr([*self.archives, repr(self.settings), *names, self.like_alpine, system.trusted()])

    def fill(self, tree: Tree, tell: Callable[[str], None]) -> None:
        """Blocks; `tell` may raise to end it. Raises OperationError for a damaged package."""
        database = Database()
        for control in self.below:
            database.add(control, listed(control, tree.read))
        for name in ("bin", "sbin", "lib"):
            _merge(tree, name)
        self._unpack(tree, database, tell)
        accounts = system.make_accounts(tree, [account for recipe in self.recipes for account in recipe.accounts])
        system.settle(tree, accounts)
        system.link_alternatives(tree, database)
        system.trust(tree)
        system.configure_apt(tree, self.settings.sources, self.settings.acquire)
        for recipe in self.recipes:
            _apply(tree, recipe, accounts)
        if self.like_alpine:
            _add_applets(tree)
        for path, mode, content in database.files(tree.read):
            tree.file(path, content, mode)
        cache_libraries(tree)

    def _unpack(self, tree: Tree, database: Database, tell: Callable[[str], None]) -> None:
        omitted = frozenset(path for recipe in self.recipes for path in recipe.omitted)
        with closing(opened(list(self.archives))) as streams:
            for number, (control, package) in enumerate(zip(self.archives.values(), streams, strict=True), 1):
                if number % 25 == 0:
                    tell(f"unpacking {number} of {len(self.archives)} packages, {tree.bytes / 1e6:.0f} MB")
                with package as stream:
                    database.add(control, _unpack(tree, stream, omitted))


def _apply(tree: Tree, recipe: Recipe, accounts: Accounts) -> None:
    for path, mode, owner in recipe.directories:
        tree.directory(path, mode, accounts.id_of(owner))
    for path, content in recipe.files:
        tree.file(path, content, 0o755 if content.startswith(b"#!") else 0o644)
    for path, target in recipe.links:
        tree.link(path, target)
    if recipe.settle is not None:
        recipe.settle(tree)


def _merge(tree: Tree, name: str) -> None:
    tree.directory(f"/usr/{name}")
    tree.link(f"/{name}", f"usr/{name}")


def _add_applets(tree: Tree) -> None:
    """For images that stand for ``NAME:alpine``: wget, nc or ping are there, by busybox unless a package has its own; and
    /bin/sh knows ``set -o pipefail`` as Alpine's does: it is bash, since Debian's busybox as a shell prefers itself to
    every other program. `apk` is apt-get,
    and `adduser` takes BusyBox's options."""
    for name in applet_names(tree.shown.real("/usr/bin/busybox") or "busybox"):
        if not (tree.exists(f"/usr/bin/{name}") or tree.exists(f"/usr/sbin/{name}")):
            tree.link(f"/usr/bin/{name}", "busybox")
    tree.link("/usr/bin/sh", "bash")
    for path, content in LIKE_ALPINE:
        tree.file(path, content, 0o755)


def _unpack(tree: Tree, stream: BinaryIO, omitted: Collection[str]) -> list[str]:
    """Put a package's tree into `tree`, less what slim images leave out. The absolute paths that it has, for dpkg."""
    paths = []
    for entry, data in read_entries(stream):
        path = "/" + os.fsdecode(entry.path).removeprefix(".").strip("/")
        if path == "/":
            continue
        paths.append(path)
        top, _, below = path[1:].partition("/")
        if top in system.MERGED:
            if not tree.exists(f"/{top}"):
                _merge(tree, top)
            if not below:
                continue
        if path.rpartition("/")[2] in omitted or (system.is_left_out(path) and entry.kind is not Kind.DIRECTORY):
            continue
        if entry.kind is Kind.DIRECTORY and (system.is_left_out(path) or tree.is_link(path)):
            continue  # dpkg keeps a link in the place of a directory
        if top in system.MERGED:
            entry = replace(entry, path=_merged(entry.path))
        if entry.kind is Kind.HARDLINK:
            entry = replace(entry, link=_merged(entry.link))
        tree.put(entry, data)
    return paths


def _merged(path: bytes) -> bytes:
    """``./bin/sh`` -> ``usr/bin/sh``: where it really is, for the unpacker would put a directory in a link's place."""
    clean = path.removeprefix(b".").lstrip(b"/")
    return b"usr/" + clean if os.fsdecode(clean.partition(b"/")[0]) in system.MERGED else clean
