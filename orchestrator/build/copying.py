"""COPY and ADD: matches of trees, documents and archives into a new layer's tree, by the rules of the Dockerfile reference.

No container takes part. The destination is looked for in what the stage shows by then (`Merged`), and written by the same
`Applier` that unpacks layers: neither follows a link out of the root.

* A directory's content is copied, not the directory, nor its owner and mode. What was there already keeps these.
* A file goes into a destination that is a directory or ends in a slash, else it becomes the destination.
* What is missing above it is made, 0755, as the owner that is asked for.
* Files of the context belong to root; those of stages and images keep their owners. Times are kept.
"""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
import stat
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, cast

from orchestrator.build.configuration import clean
from orchestrator.build.modes import Mode
from orchestrator.build.trees import Found, Match, Tree
from orchestrator.errors import OperationError
from orchestrator.images.unpack.applier import Applied, Applier
from orchestrator.images.unpack.attributes import explained
from orchestrator.images.unpack.decode import decoded
from orchestrator.images.unpack.entries import Entry, Kind
from orchestrator.images.unpack.limits import DEFAULT, Limits
from orchestrator.images.unpack.merged import Merged
from orchestrator.images.unpack.reading import read_entries
from orchestrator.values import frozen, replace

_NS = 10**9
_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFBLK: Kind.BLOCK,
}


Opener = Callable[[], BinaryIO]
"""Of something that can be opened more than once."""


@frozen
class Placing:
    """Where things go, and how. `destination`: absolute; a final slash: a directory. `owner` None: as it is. `now_ns`: the
    time of what has none of its own. `latest_s`: SOURCE_DATE_EPOCH."""

    destination: str
    owner: tuple[int, int] | None = None
    mode: Mode | None = None
    now_ns: int = 0
    latest_s: int | None = None

    def time(self, at_ns: int) -> int:
        return at_ns if self.latest_s is None else min(at_ns, self.latest_s * _NS)


@frozen
class Text:
    """A file that is in no tree: a heredoc, or what was fetched (`path`). `mode`: without --chmod."""

    name: str
    content: bytes = b""
    path: str = ""
    mode: int = 0o644
    mtime_ns: int | None = None

    def open(self) -> BinaryIO:
        return open(self.path, "rb") if self.path else io.BytesIO(self.content)

    @property
    def size(self) -> int:
        return os.stat(self.path).st_size if self.path else len(self.content)


@frozen
class Taken:
    """A source, found: `match` of `tree`, or `text`. `unpack`: an archive is to be unpacked, if it is one."""

    tree: Tree | None = None
    match: Match | None = None
    text: Text | None = None
    unpack: bool = False


class Copier:
    """Into `target`, a new layer's tree, whose `lowers` (topmost first) are below it. A context manager; blocking.

    Raises OperationError for what does not go together, HostError for what this machine refuses."""

    def __init__(self, target: str, lowers: Sequence[str], placing: Placing, limits: Limits = DEFAULT) -> None:
        self._target = target
        self._lowers = lowers
        self._placing = placing
        self._limits = limits
        self._applier = Applier(target, lowers, limits, whiteouts=False)
        self._new: set[str] = set()
        """Directories that this copier made: nothing is in them but what it put there itself."""
        self._first_names: dict[tuple[int, int], str] = {}

    def __enter__(self) -> Copier:
        return self

    def __exit__(self, *_: object) -> None:
        self._applier.close()

    def finish(self) -> Applied:
        return self._applier.finish()

    def copy(self, taken: Taken, *, many: bool) -> None:
        """`many`: there are several sources, so that the destination is a directory."""
        self._new.clear()  # The next source finds what this one made in the view.
        with self._explaining(), Merged([self._target, *self._lowers]) as view:
            if taken.text is not None:
                self._copy_text(view, taken.text, taken.unpack, many)
            elif taken.tree is not None and taken.match is not None:
                self._copy_match(view, taken.tree, taken.match, taken.unpack, many)

    def unpack(self, archive: Text) -> bool:
        """False if it is no tar archive, compressed or not."""
        with self._explaining(), Merged([self._target, *self._lowers]) as view:
            return self._unpack(view, archive.open, archive.name)

    def make_directory(self, path: str) -> None:
        """WORKDIR: with all that is missing above it."""
        with self._explaining(), Merged([self._target, *self._lowers]) as view:
            self._ensure(view, view.resolve(path))

    @contextlib.contextmanager
    def _explaining(self) -> Iterator[None]:
        """What the kernel says of the destination: `Applier` and `Tree` tell their own."""
        try:
            yield
        except OSError as exc:
            raise explained(exc, os.fsencode(self._placing.destination)) from exc

    # One source.

    def _copy_text(self, view: Merged, text: Text, unpack: bool, many: bool) -> None:
        if unpack and self._unpack(view, text.open, text.name):
            return
        path = self._destination(view, text.name, many)
        self._clear(view, path, Kind.FILE)
        mtime_ns = self._placing.now_ns if text.mtime_ns is None else text.mtime_ns
        with text.open() as data:
            self._add(Entry(os.fsencode(path), Kind.FILE, text.mode, 0, 0, text.size, mtime_ns), data)

    def _copy_match(self, view: Merged, tree: Tree, match: Match, unpack: bool, many: bool) -> None:
        top = match.found[0]
        if not top.is_directory:
            if unpack and stat.S_ISREG(top.stat.st_mode) and self._unpack(view, lambda: tree.open(top), match.name):
                return
            self._copy_found(view, tree, top, self._destination(view, match.name, many))
            return
        root = view.resolve(self._placing.destination)
        self._ensure(view, root)
        for found in match.found[1:]:
            self._copy_found(view, tree, found, posixpath.join(root, found.name))

    def _copy_found(self, view: Merged, tree: Tree, found: Found, path: str) -> None:
        kind = _KINDS[stat.S_IFMT(found.stat.st_mode)]
        self._clear(view, path, kind)
        if kind is Kind.DIRECTORY and (path in self._new or view.stat(path) is None):
            self._new.add(path)
        entry = self._entry(tree, found, kind, path)
        if kind is Kind.FILE:
            first = self._first_name(tree, found, path)
            if first is not None:
                self._applier.add(Entry(os.fsencode(path), Kind.HARDLINK, link=os.fsencode(first)))
                return
            with tree.open(found) as data:
                self._add(entry, data)
        else:
            self._add(entry)

    def _entry(self, tree: Tree, found: Found, kind: Kind, path: str) -> Entry:
        own = found.stat
        context = tree.local and not found.path  # How its directory is protected here is nobody's business there.
        return Entry(
            os.fsencode(path),
            kind,
            0o755 if context else stat.S_IMODE(own.st_mode),
            0 if tree.local else own.st_uid,
            0 if tree.local else own.st_gid,
            own.st_size if kind is Kind.FILE else 0,
            own.st_mtime_ns,
            tree.readlink(found) if kind is Kind.SYMLINK else b"",
            (os.major(own.st_rdev), os.minor(own.st_rdev)) if kind in (Kind.CHARACTER, Kind.BLOCK) else (0, 0),
            tree.xattrs(found),
        )

    def _first_name(self, tree: Tree, found: Found, path: str) -> str | None:
        """Where the same file of a stage or an image was put before."""
        if tree.local or found.stat.st_nlink < 2:
            return None
        inode = found.stat.st_dev, found.stat.st_ino
        first = self._first_names.setdefault(inode, path)
        return first if first != path else None

    def _add(self, entry: Entry, data: BinaryIO | None = None) -> None:
        """With the owner, mode and time that are asked for."""
        placing = self._placing
        uid, gid = placing.owner if placing.owner is not None else (entry.uid, entry.gid)
        mode = entry.mode
        if placing.mode is not None and entry.kind is not Kind.SYMLINK:
            mode = placing.mode(mode, entry.kind is Kind.DIRECTORY)
        self._applier.add(replace(entry, mode=mode, uid=uid, gid=gid, mtime_ns=placing.time(entry.mtime_ns)), data)

    # The destination.

    def _destination(self, view: Merged, name: str, many: bool) -> str:
        """Of a file called `name`, with all above it made."""
        wanted = self._placing.destination
        there = view.resolve(wanted)
        found = view.stat(there)
        if many or wanted.endswith("/") or (found is not None and stat.S_ISDIR(found.st_mode)):
            path = posixpath.join(there, name)
        else:
            # A link that leads nowhere, or to a file, is replaced.
            above, _, last = clean(wanted).rpartition("/")
            path = posixpath.join(view.resolve(above or "/"), last)
        self._ensure(view, posixpath.dirname(path))
        return path

    def _ensure(self, view: Merged, path: str) -> None:
        """Make the directory `path`, which is resolved, and all above it that is missing."""
        at = ""
        for part in path.strip("/").split("/") if path.strip("/") else ():
            at = f"{at}/{part}"
            if at in self._new:
                continue
            found = view.stat(at)
            if found is None:
                self._new.add(at)
                uid, gid = self._placing.owner or (0, 0)
                time = self._placing.time(self._placing.now_ns)
                self._applier.add(Entry(os.fsencode(at), Kind.DIRECTORY, 0o755, uid, gid, mtime_ns=time))
            elif not stat.S_ISDIR(found.st_mode):
                raise OperationError(f'"{at}" is no directory, so nothing can be copied into it')

    def _clear(self, view: Merged, path: str, kind: Kind) -> None:
        """Whether that may stand at `path` which is to be put there: no file replaces a directory, and no directory a
        file."""
        if posixpath.dirname(path) in self._new and path not in self._new:
            return
        found = view.stat(path)
        if found is None:
            return
        if stat.S_ISDIR(found.st_mode) and kind is not Kind.DIRECTORY:
            raise OperationError(f'"{path}" is a directory, and cannot be replaced by a file')
        if not stat.S_ISDIR(found.st_mode) and kind is Kind.DIRECTORY:
            raise OperationError(f'"{path}" is no directory, and cannot be replaced by one')

    # Archives.

    def _unpack(self, view: Merged, open_archive: Opener, name: str) -> bool:
        """False if it is no tar archive, compressed or not."""
        if not is_archive(open_archive, self._limits):
            return False
        root = view.resolve(self._placing.destination)
        self._ensure(view, root)
        owner = self._placing.owner
        with open_archive() as blob, decoded(blob, self._limits) as stream:
            for entry, data in read_entries(cast(BinaryIO, stream), self._limits):
                uid, gid = owner if owner is not None else (entry.uid, entry.gid)
                path = _below(root, entry.path)
                link = _below(root, entry.link) if entry.kind is Kind.HARDLINK else entry.link
                time = self._placing.time(entry.mtime_ns)
                self._applier.add(replace(entry, path=path, link=link, uid=uid, gid=gid, mtime_ns=time), data)
        return True


def is_archive(open_archive: Opener, limits: Limits) -> bool:
    """Whether it begins as a tar archive does, after decompression."""
    try:
        with open_archive() as blob, decoded(blob, limits) as stream:
            return next(iter(read_entries(cast(BinaryIO, stream), limits)), None) is not None
    except OperationError:
        return False


def _below(root: str, path: bytes) -> bytes:
    """A path of an archive, below `root`: what leads up stays there."""
    inside = os.fsencode(clean(os.fsdecode(path)))
    return os.fsencode(root.rstrip("/")) + inside
