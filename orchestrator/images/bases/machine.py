"""`image make host`: this machine's own programs as a portable image: the skeleton of `image: host`, and a copy of /usr.

By allow-list as there: what is outside /usr comes only with `--include PATH`. Of files only what every user of the machine
may read is taken.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress

from orchestrator.errors import InputError, OperationError
from orchestrator.images import skeleton as skeletons
from orchestrator.images.bases.tree import Tree
from orchestrator.images.unpack.entries import Entry, Kind
from orchestrator.values import replace

_NEVER = ("dev", "proc", "run", "sys")
_TOLD_EVERY_BYTES = 256 << 20


def sources(root: str, include: Sequence[str]) -> list[str]:
    """What is copied beside the skeleton: names relative to `root`, /usr first. Raises InputError."""
    found = ["usr"]
    for path in include:
        clean = os.path.normpath(path).lstrip("/")
        if not path.startswith("/") or clean in ("", ".") or clean.split("/")[0] in _NEVER:
            raise InputError(f'"{path}" cannot be included in an image of this machine', hint="name one like /opt/tool")
        if not os.path.lexists(os.path.join(root, clean)):
            raise InputError(f'"{path}" does not exist on this machine')
        if clean.split("/")[0] != "usr":
            found.append(clean)
    return found


def fill(tree: Tree, root: str, include: Sequence[str], tell: Callable[[str], None]) -> None:
    """Blocks; `tell` may raise to end it."""
    skeleton = skeletons.collect(root)
    copied = [*sources(root, include), *(name for name in skeleton.directories if name != "usr")]
    copier = _Copier(tree, root, tell)
    for path in copied:
        parent = ""
        for name in path.split("/")[:-1]:
            parent = f"{parent}/{name}" if parent else name
            copier.add(parent, os.lstat(os.path.join(root, parent)))
        copier.copy(path)
    for entry in skeleton.entries:
        if entry.kind is skeletons.Kind.DIRECTORY:
            if not tree.exists(f"/{entry.path}"):
                tree.directory(f"/{entry.path}", entry.mode)
        elif entry.kind is skeletons.Kind.LINK:
            tree.link(f"/{entry.path}", os.fsdecode(entry.content))
        else:
            tree.file(f"/{entry.path}", entry.content, entry.mode)


class _Copier:
    def __init__(self, tree: Tree, root: str, tell: Callable[[str], None]) -> None:
        self._tree, self._root, self._tell = tree, root, tell
        self._first_names: dict[tuple[int, int], str] = {}
        self._told = 0

    def copy(self, path: str) -> None:
        """`path`, relative to the root, and what is below it on the same file system or another."""
        ahead = [path]
        while ahead:
            path = ahead.pop()
            with suppress(FileNotFoundError):  # packages may be installed meanwhile
                info = os.lstat(os.path.join(self._root, path))
                if self.add(path, info) and stat.S_ISDIR(info.st_mode):
                    ahead += (f"{path}/{name}" for name in sorted(os.listdir(os.path.join(self._root, path)), reverse=True))

    def add(self, path: str, info: os.stat_result) -> bool:
        """Whether it was taken."""
        mode, source = stat.S_IMODE(info.st_mode), os.path.join(self._root, path)
        entry = Entry(
            os.fsencode(path), Kind.DIRECTORY, mode, info.st_uid, info.st_gid, mtime_ns=info.st_mtime_ns
        )
        if stat.S_ISDIR(info.st_mode) and mode & 0o005 == 0o005:
            self._tree.put(entry)
        elif stat.S_ISLNK(info.st_mode):
            self._tree.put(replace(entry, kind=Kind.SYMLINK, link=os.fsencode(os.readlink(source))))
        elif stat.S_ISREG(info.st_mode) and mode & 0o004:
            first = self._first_names.setdefault((info.st_dev, info.st_ino), path) if info.st_nlink > 1 else path
            if first != path:
                self._tree.put(replace(entry, kind=Kind.HARDLINK, link=os.fsencode(first)))
                return True
            xattrs = _xattrs(source)
            with open(os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                if os.fstat(file.fileno()).st_size != info.st_size:
                    raise OperationError(f"{source} changes while it is copied", hint="try again")
                self._tree.put(replace(entry, kind=Kind.FILE, size=info.st_size, xattrs=xattrs), file)
            if self._tree.bytes - self._told > _TOLD_EVERY_BYTES:
                self._told = self._tree.bytes
                self._tell(f"copied {self._told / 1e9:.1f} GB of this machine's programs")
        else:
            return False
        return True


def _xattrs(path: str) -> dict[bytes, bytes]:
    """What makes programs work: capabilities."""
    with suppress(OSError):
        return {b"security.capability": os.getxattr(path, "security.capability", follow_symlinks=False)}
    return {}
