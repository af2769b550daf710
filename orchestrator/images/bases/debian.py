"""Debian's packages as a tree. No script of theirs is run: what one would have done for all is in `system`, what an image
needs besides in its recipe; the scripts lie in the database for whoever installs more inside a container."""

from __future__ import annotations

import os
import stat
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO

import trio

from orchestrator.errors import OperationError
from orchestrator.images.bases import system
from orchestrator.images.bases.accounts import Accounts
from orchestrator.images.bases.apt import Apt, Source
from orchestrator.images.bases.dpkg import Control, Database, parse_control
from orchestrator.images.bases.recipes import Recipe
from orchestrator.images.bases.tree import Tree
from orchestrator.images.unpack.entries import Entry, Kind
from orchestrator.images.unpack.limits import Limits
from orchestrator.images.unpack.reading import read_entries
from orchestrator.values import replace

BASE = ("?essential", "apt", "ca-certificates")
"""`?essential` is apt's pattern for what every Debian system has (apt-patterns(7))."""

_AHEAD = 4
_PIPE_BYTES = 1 << 20
_MOST_CONTROL_BYTES = 16 << 20
_ACQUIRE = ("Acquire::Check-Valid-Until", "Acquire::Check-Date")
"""Of this machine's apt: it knows whether its mirror's lists are old on purpose."""


class Debian:
    """What is to be made: `packages` beside the base, and what the recipes want. `look` asks apt; `fill` unpacks."""

    def __init__(self, apt: Apt, packages: Sequence[str], recipes: Sequence[Recipe], *, ash: bool) -> None:
        self._apt = apt
        self._recipes = recipes
        self._ash = ash
        wanted = [*BASE, *packages, *(name for recipe in recipes for name in recipe.packages)]
        if ash:
            wanted.append("busybox-static")
        self._wanted = list(dict.fromkeys(wanted))
        self._archives: list[str] = []
        self._sources: tuple[Source, ...] = ()
        self._acquire: list[tuple[str, str]] = []

    async def look(self) -> None:
        """Solve and fetch. Raises as `Apt.packages`."""
        self._archives = await self._apt.packages(self._wanted)
        self._sources = await self._apt.sources()
        settings = [(name, await self._apt.setting(name)) for name in _ACQUIRE]
        self._acquire = [(name, value) for name, value in settings if value in ("true", "false")]
        await trio.to_thread.run_sync(self._apt.trim)

    def fill(self, tree: Tree, tell: Callable[[str], None]) -> None:
        """Blocks; `tell` may raise to end it. Raises OperationError for a damaged package."""
        database = Database()
        omitted = frozenset(path for recipe in self._recipes for path in recipe.omitted)
        for name in ("bin", "sbin", "lib"):
            _merge(tree, name)
        for number, (path, package) in enumerate(_opened(self._archives), 1):
            if number % 25 == 0:
                tell(f"unpacking {number} of {len(self._archives)} packages, {tree.bytes / 1e6:.0f} MB")
            control = _read_control(path)
            with package as stream:
                database.add(control, _unpack(tree, stream, omitted))
        accounts = system.make_accounts(tree, [account for recipe in self._recipes for account in recipe.accounts])
        system.settle(tree, accounts)
        system.link_alternatives(tree, database)
        system.trust(tree)
        system.configure_apt(tree, self._sources, self._acquire)
        for recipe in self._recipes:
            _apply(tree, recipe, accounts)
        if self._ash:
            _add_applets(tree)
        for path, mode, content in database.files(tree.read):
            tree.file(path, content, mode)


def _apply(tree: Tree, recipe: Recipe, accounts: Accounts) -> None:
    for path, mode, owner in recipe.directories:
        tree.directory(path, mode, accounts.id_of(owner))
    for path, content in recipe.files:
        tree.file(path, content, 0o755 if content.startswith(b"#!") else 0o644)
    for path, target in recipe.links:
        tree.link(path, target)


def _merge(tree: Tree, name: str) -> None:
    tree.directory(f"/usr/{name}")
    tree.link(f"/{name}", f"usr/{name}")


def _add_applets(tree: Tree) -> None:
    """Alpine's shell and small programs, for images that stand for ``NAME:alpine``: /bin/sh knows ``set -o pipefail``, and
    wget, nc or ping are there unless a package has brought its own."""
    for name in applet_names(os.path.join(tree.directory_path, "usr/bin/busybox")):
        if name == "sh" or not (tree.exists(f"/usr/bin/{name}") or tree.exists(f"/usr/sbin/{name}")):
            tree.link(f"/usr/bin/{name}", "busybox")


def _opened(archives: Sequence[str]) -> Iterator[tuple[str, Package]]:
    """Each archive with its tar stream, in order; some are decompressed ahead, each in a process of its own. All are ended
    when the caller stops."""
    ahead: deque[tuple[str, Package]] = deque()
    rest = iter(archives)
    try:
        while True:
            while len(ahead) < _AHEAD and (path := next(rest, None)) is not None:
                ahead.append((path, Package(path)))
            if not ahead:
                return
            yield ahead.popleft()
    finally:
        for _, package in ahead:
            package.end()


class Package:
    """A .deb's tree as a tar stream: `with` gives the stream, and ends with the error that dpkg-deb met."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._process = subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pipesize=_PIPE_BYTES,
        )

    def __enter__(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self.end()
            return
        assert self._process.stdout is not None
        while self._process.stdout.read(_PIPE_BYTES):
            pass  # what pads the archive
        self._process.stdout.close()
        if self._process.wait() != 0:
            raise OperationError(f"the package {self._path} is damaged", hint="delete it; it is fetched again")

    def end(self) -> None:
        self._process.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process.wait()


def _read_control(path: str) -> Control:
    done = subprocess.run(["dpkg-deb", "--ctrl-tarfile", path], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    files = {}
    if done.returncode == 0:
        for entry, data in read_entries(io.BytesIO(done.stdout), Limits(bytes=_MOST_CONTROL_BYTES, entries=1000)):
            if entry.kind is Kind.FILE:
                files[os.path.basename(os.fsdecode(entry.path))] = data.read(entry.data_bytes)
    try:
        return parse_control(files)
    except ValueError as exc:
        raise OperationError(f"the package {path} is damaged: {exc}", hint="delete it; it is fetched again") from exc


def _unpack(tree: Tree, stream: IO[bytes], omitted: Collection[str]) -> list[str]:
    """Put a package's tree into `tree`, less what slim images leave out. The absolute paths that it has, for dpkg."""
    paths = []
    for entry, data in read_entries(cast(BinaryIO, stream)):
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
        if path in omitted or (system.is_left_out(path) and entry.kind is not Kind.DIRECTORY):
            continue
        if entry.kind is Kind.DIRECTORY and (system.is_left_out(path) or tree.is_link(path)):
            continue  # dpkg keeps a link in the place of a directory
        tree.put(replace(entry, path=_merged(entry.path), link=_merged(entry.link) if entry.kind is Kind.HARDLINK else entry.link), data)
    return paths
