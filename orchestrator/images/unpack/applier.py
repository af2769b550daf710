"""Entries into a tree, each as it comes; what a layer says of the layers below, as overlayfs's marks.

* The last entry of a name counts. A directory keeps its content when it comes again; anything else is replaced.
* An entry replaces what is at its own name, also a symbolic link; the links on the way to it are followed inside the root,
  this layer's and those of the layers below (`directories`). A directory on the way that nobody named gets owner, mode and
  extended attributes from below.
* A whiteout is about the layers below alone, wherever in the archive it stands: what this layer has under that name stays,
  and a directory becomes opaque.
* The tree depends on those below if it took anything from there: then `Applied.complete` is false.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import BinaryIO

from orchestrator.errors import OperationError
from orchestrator.images.unpack import attributes
from orchestrator.images.unpack.directories import Directories, Directory
from orchestrator.images.unpack.entries import MOST_ID, Entry, Kind, shown
from orchestrator.images.unpack.largefiles import LARGE_BYTES, LargeFiles, some, write_all
from orchestrator.images.unpack.limits import DEFAULT, Limits
from orchestrator.images.unpack.lowers import Shown, is_whiteout
from orchestrator.images.unpack.reading import over
from orchestrator.images.unpack.treefiles import copied, entry_of
from orchestrator.kernel.trees import remove_tree
from orchestrator.values import frozen, replace

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
_RESERVED = b".wh..wh."
"""Names that aufs keeps for itself: its own files, not ours."""
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PRIVATE = 0o600
_FILE, _DIRECTORY = Kind.FILE, Kind.DIRECTORY
_ROOT = 0, 0
_NO_NAMES = (b"", b".", b"..")
_MOST_MAJOR, _MOST_MINOR = 0xFFF, 0xFFFFF


@frozen
class Applied:
    """`diff_id`: of the tar stream, "" where there was none. `bytes`: of data. `complete`: the tree is the same whatever
    is below it: no parent directory, link or file had to be taken from there."""

    diff_id: str
    bytes: int
    entries: int
    complete: bool


class Applier:
    """Entries into `target`, a directory whose `lowers` (topmost first) are below it. A context manager.

    `whiteouts`: whether names that begin with ``.wh.`` are marks (a layer) or names like any other (COPY, ADD, volumes). A
    layer that does not name its root gets it as root's, 0755; without `whiteouts` the root stays as it is. `large`
    writes large files; without it all of a file is there when `add` is done. Needs root.
    Raises OperationError for what an entry may not do, HostError for what this machine cannot.
    """

    def __init__(
        self, target: str, lowers: Sequence[str] = (), limits: Limits = DEFAULT, *, whiteouts: bool = True,
        large: LargeFiles | None = None,
    ) -> None:  # fmt: skip
        self._large = large
        self._limits, self._whiteouts = limits, whiteouts
        self._directories = Directories(target, lowers)
        self._bytes = self._entries = 0
        self._depends = self._root_opaque = False

    def __enter__(self) -> Applier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of all descriptors. What was made stays."""
        self._directories.close()

    def add(self, entry: Entry, data: BinaryIO | None = None) -> None:
        """Make what `entry` says. `data`: `entry.data_bytes` are read of it."""
        self._check(entry)
        near = self._near(entry.path)
        if near is not None:
            try:
                self._make(*near, entry, data)
            except OSError as exc:
                raise attributes.explained(exc, entry.path) from exc
            return
        names = clean(entry.path)
        self._check_names(names, entry)
        try:
            if not names:
                self._root(entry)
            elif self._whiteouts and WHITEOUT in entry.path and any(name.startswith(WHITEOUT) for name in names):
                self._mark(names, entry)
            else:
                parent = self._directories.find(b"/".join(names[:-1]), self._imply)
                self._make(parent, names[-1], entry, data)
        except OSError as exc:
            raise attributes.explained(exc, entry.path) from exc

    def finish(self) -> Applied:
        """Set what had to wait until all was there: times and default ACLs of directories."""
        try:
            if self._root_opaque:
                self._hide_all_below()
            if not self._directories.root.named and self._whiteouts:
                self._root(Entry(b"/", Kind.DIRECTORY, 0o755))
            self._directories.root.named = True
            self._finish_directories()
        except OSError as exc:
            raise attributes.explained(exc, b"/") from exc
        return Applied("", self._bytes, self._entries, not (self._depends or self._directories.depends))

    # What is refused.

    def _near(self, path: bytes) -> tuple[Directory, bytes] | None:
        """Parent and name of `path` if it is clean, no mark, and in a directory that an entry was in a moment ago, whose
        path has been checked then: as nearly all are."""
        above, _, name = path.removeprefix(b"./").rstrip(b"/").rpartition(b"/")
        parent = self._directories.recent(above)
        if parent is None or name in _NO_NAMES or len(path) > self._limits.name_bytes:
            return None
        if self._whiteouts and WHITEOUT in path:
            return None
        return parent, name

    def _check(self, entry: Entry) -> None:
        self._entries += 1
        self._bytes += entry.data_bytes if entry.sparse else entry.size
        if self._entries > self._limits.entries:
            raise over("there are more entries", "entries", self._limits.entries)
        if self._bytes > self._limits.bytes:
            raise over(f"its files are {self._bytes} bytes with {shown(entry.path)}", "bytes", self._limits.bytes)
        if not (0 <= entry.uid <= MOST_ID and 0 <= entry.gid <= MOST_ID):
            raise OperationError(f"{shown(entry.path)} belongs to {entry.uid}:{entry.gid}, and the highest id is {MOST_ID}")
        if b"\0" in entry.path or b"\0" in entry.link:
            raise OperationError(f"{shown(entry.path)} has a NUL in its name")

    def _check_names(self, names: list[bytes], entry: Entry) -> None:
        if len(entry.path) > self._limits.name_bytes:
            raise over(f"{shown(entry.path)} has a name of {len(entry.path)} bytes", "name_bytes", self._limits.name_bytes)
        if len(names) > self._limits.depth:
            raise over(f"{shown(entry.path)} is {len(names)} levels deep", "depth", self._limits.depth)

    # Kinds.

    def _make(self, parent: Directory, name: bytes, entry: Entry, data: BinaryIO | None) -> None:
        kind = entry.kind
        if kind is _FILE:
            self._file(parent, name, entry, data)
        elif kind is _DIRECTORY:
            self._directory(parent, name, entry)
        elif kind is Kind.HARDLINK:
            self._hard_link(parent, name, entry)
        else:
            self._other(parent, name, entry)

    def _root(self, entry: Entry) -> None:
        if entry.kind is not Kind.DIRECTORY:
            raise OperationError(f"{shown(entry.path) or 'an entry without a name'} is the root, and no directory")
        self._set_directory(self._directories.root, entry)
        self._directories.root.named = True

    def _directory(self, parent: Directory, name: bytes, entry: Entry) -> None:
        made = parent.children.get(name) or self._new_directory(parent, name)
        self._set_directory(made, entry)
        made.named = True

    def _new_directory(self, parent: Directory, name: bytes) -> Directory:
        """Or what was there, if it is one. Anything else goes; and so does what it hid below."""
        fd = self._directories.fd(parent)
        hid = False
        try:
            os.mkdir(name, 0o700, dir_fd=fd)
        except FileExistsError:
            if (known := self._directories.known(parent, name)) is not None:
                return known
            os.unlink(name, dir_fd=fd)
            os.mkdir(name, 0o700, dir_fd=fd)
            hid = True
        made = self._directories.added(parent, name, opaque=False)
        if hid and self._whiteouts:
            self._make_opaque(made)
        return made

    def _set_directory(self, directory: Directory, entry: Entry) -> None:
        attributes.set_on_file(self._directories.fd(directory), entry)
        directory.gives = 0
        directory.mtime_ns = entry.mtime_ns
        directory.default_acl = entry.xattrs.get(attributes.DEFAULT_ACL)

    def _imply(self, above: Directory, name: bytes, below: Shown | None) -> Directory:
        """A directory that no entry has named (yet): as it is below, or root's."""
        entry = Entry(self._directories.path(above) + b"/" + name, Kind.DIRECTORY, 0o755)
        if self._whiteouts and name.startswith(WHITEOUT):
            raise OperationError(f"a link leads to {shown(entry.path)}, which would be a mark")
        if below is not None:
            origin = self._directories.lowers.directory(below.tree, self._directories.path(above))
            entry = entry_of(origin, name, entry.path)
        made = self._new_directory(above, name)
        self._set_directory(made, entry)
        return made

    def _file(self, parent: Directory, name: bytes, entry: Entry, data: BinaryIO | None) -> None:
        # Made as it will be where that can be: two system calls less.
        asked = entry.mode if (entry.uid, entry.gid) == _ROOT and entry.mode <= 0o777 else None
        fd = self._new_file(parent, name, _PRIVATE if asked is None else asked)
        try:
            given = asked is not None and not entry.xattrs and self._gave(parent, fd, asked)
            complete = attributes.set_time if given else attributes.set_on_file
            if self._large is not None and data is not None and entry.size >= LARGE_BYTES and not entry.sparse:
                large, fd = fd, -1
                self._large.write(large, entry, data, complete)
                return
            if data is not None and entry.size:
                _write(fd, entry, data)
            complete(fd, entry)
        finally:
            if fd >= 0:
                os.close(fd)

    def _gave(self, parent: Directory, fd: int, mode: int) -> bool:
        """Whether the new file `fd` got root as its owner and the `mode` that was asked for. What decides that
        (set-group-id, a default ACL, the umask, mount options) is the same for all files of a directory, and can only take
        bits away."""
        if parent.gives and not mode & ~parent.gives:
            return True
        found = os.fstat(fd)
        if (found.st_uid, found.st_gid) != _ROOT or stat.S_IMODE(found.st_mode) != mode:
            return False
        parent.gives |= mode
        return True

    def _new_file(self, parent: Directory, name: bytes, mode: int) -> int:
        fd = self._directories.fd(parent)
        try:
            return os.open(name, _NEW, mode, dir_fd=fd)
        except FileExistsError:
            self._clear(parent, name)
            return os.open(name, _NEW, mode, dir_fd=self._directories.fd(parent))

    def _other(self, parent: Directory, name: bytes, entry: Entry) -> None:
        """A symbolic link, a device, a FIFO."""
        kind = {Kind.CHARACTER: stat.S_IFCHR, Kind.BLOCK: stat.S_IFBLK, Kind.FIFO: stat.S_IFIFO}.get(entry.kind, 0)
        major, minor = entry.device
        if entry.kind is Kind.CHARACTER and entry.device == (0, 0):
            raise OperationError(f"{shown(entry.path)} is the character device 0:0, which would be a whiteout")
        if not (0 <= major <= _MOST_MAJOR and 0 <= minor <= _MOST_MINOR):
            raise OperationError(f"{shown(entry.path)} is the device {major}:{minor}, which no kernel has")
        if entry.kind is Kind.SYMLINK and not entry.link:
            raise OperationError(f"the symbolic link {shown(entry.path)} leads nowhere: it is empty")
        fd = self._directories.fd(parent)
        if entry.kind is Kind.SYMLINK:
            try:
                os.symlink(entry.link, name, dir_fd=fd)
            except FileExistsError:
                self._clear(parent, name)
                os.symlink(entry.link, name, dir_fd=self._directories.fd(parent))
        else:
            self._clear(parent, name)
            os.mknod(name, kind | _PRIVATE, os.makedev(major, minor), dir_fd=self._directories.fd(parent))
        attributes.set_by_name(self._directories.fd(parent), name, entry)

    def _hard_link(self, parent: Directory, name: bytes, entry: Entry) -> None:
        names = clean(entry.link)
        self._check_names(names, replace(entry, path=entry.link))
        if not names:
            raise OperationError(f"{shown(entry.path)} is a hard link to the root")

        def only_what_is_below(above: Directory, name: bytes, below: Shown | None) -> Directory:
            if below is None:
                raise OperationError(f"{shown(entry.path)} is a hard link to {shown(entry.link)}, which does not exist")
            return self._imply(above, name, below)

        above, first = self._directories.find(b"/".join(names[:-1]), only_what_is_below), names[-1]
        self._first_of_links(above, first, entry)
        if (above, first) == (parent, name):
            return
        self._clear(parent, name)
        source, target = self._directories.fd(above) if not above.gone else -1, self._directories.fd(parent)
        if source < 0:
            raise OperationError(f"{shown(entry.path)} is a hard link to {shown(entry.link)}, which it replaces")
        os.link(first, name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)

    def _first_of_links(self, above: Directory, name: bytes, entry: Entry) -> None:
        """See that what `entry` links to is in this tree: what is below is copied up, as overlayfs would do it."""
        what = f"{shown(entry.path)} is a hard link to {shown(entry.link)}"
        try:
            found = os.stat(name, dir_fd=self._directories.fd(above), follow_symlinks=False)
        except FileNotFoundError:
            pass
        else:
            if stat.S_ISDIR(found.st_mode):
                raise OperationError(f"{what}, which is a directory")
            if is_whiteout(found):
                raise OperationError(f"{what}, which does not exist")
            return
        below = self._directories.shown_below(above, name)
        if below is None:
            raise OperationError(f"{what}, which does not exist")
        if below.is_directory:
            raise OperationError(f"{what}, which is a directory")
        self._depends = True
        origin = self._directories.lowers.directory(below.tree, self._directories.path(above))
        with copied(origin, name, entry.link) as (copy, data):
            self._make(above, name, copy, data)

    # Marks.

    def _mark(self, names: list[bytes], entry: Entry) -> None:
        name = names[-1]
        if any(part.startswith(_RESERVED) and part != OPAQUE for part in names):
            return
        if any(part.startswith(WHITEOUT) for part in names[:-1]):
            raise OperationError(f"{shown(entry.path)} lies in a whiteout")
        hidden = name[len(WHITEOUT) :]
        if hidden in _NO_NAMES:
            raise OperationError(f"{shown(entry.path)} is a whiteout of nothing that has a name")
        parent = self._directories.find(b"/".join(names[:-1]), self._imply)
        if name == OPAQUE:
            self._hide_directory(parent)
        else:
            self._whiteout(parent, hidden)

    def _hide_directory(self, directory: Directory) -> None:
        if directory.parent is None:
            self._root_opaque = self._depends = True
        else:
            self._make_opaque(directory)

    def _make_opaque(self, directory: Directory) -> None:
        if not directory.opaque:
            os.setxattr(self._directories.fd(directory), attributes.OPAQUE, b"y")
            for emptied in self._directories.make_opaque(directory):
                self._drop_whiteouts(emptied)

    def _drop_whiteouts(self, directory: Directory) -> None:
        """They hide nothing any more, and overlayfs would list them where no directory is below."""
        fd = self._directories.fd(directory)
        for name in os.listdir(fd):
            if os.fsencode(name) not in directory.children and is_whiteout(os.stat(name, dir_fd=fd, follow_symlinks=False)):
                os.unlink(name, dir_fd=fd)

    def _whiteout(self, parent: Directory, name: bytes) -> None:
        directory = self._directories.known(parent, name)
        if directory is not None:
            self._make_opaque(directory)
            return
        if self._directories.shown_below(parent, name) is None:
            # overlayfs would show it in a listing where no directory is below.
            self._depends = self._depends or not parent.opaque
            return
        fd = self._directories.fd(parent)
        try:
            os.mknod(name, stat.S_IFCHR | 0o600, os.makedev(0, 0), dir_fd=fd)
        except FileExistsError:
            return  # This layer has it anew, or the mark is there.
        attributes.set_by_name(fd, name, Entry(name, Kind.CHARACTER, 0o600))

    def _hide_all_below(self) -> None:
        """An opaque root: overlayfs does not look whether a layer's root is, so each name is hidden by itself."""
        root = self._directories.root
        for name in self._directories.lowers.names(b"", self._directories.below(root)):
            self._whiteout(root, name)

    # What was there, and what comes last.

    def _clear(self, parent: Directory, name: bytes) -> None:
        """Nothing is at `name` any more."""
        directory = self._directories.known(parent, name)
        if directory is None:
            try:
                os.unlink(name, dir_fd=self._directories.fd(parent))
            except FileNotFoundError:
                return
            return
        self._directories.removed(directory)
        remove_tree(f"/proc/self/fd/{self._directories.fd(parent)}/{os.fsdecode(name)}")

    def _finish_directories(self) -> None:
        ahead = [self._directories.root]
        while ahead:
            directory = ahead.pop()
            ahead += directory.children.values()
            self._depends = self._depends or not directory.named
            if directory.default_acl is not None:
                acl = Entry(directory.name, Kind.DIRECTORY, xattrs={attributes.DEFAULT_ACL: directory.default_acl})
                attributes.set_xattrs(self._directories.fd(directory), acl, default_acl=True)
            if directory.mtime_ns is None:
                continue
            times = directory.mtime_ns, directory.mtime_ns
            if directory.parent is None:
                os.utime(self._directories.fd(directory), ns=times)
            else:
                above = self._directories.fd(directory.parent)
                os.utime(directory.name, ns=times, dir_fd=above, follow_symlinks=False)


def clean(path: bytes) -> list[bytes]:
    """The names of a path of an archive, without ``.`` and ``..``: these are taken out of the text, and end at the root."""
    names = [name for name in path.split(b"/") if name and name != b"."]
    if b".." not in names:
        return names
    cleaned: list[bytes] = []
    for name in names:
        if name == b"..":
            del cleaned[-1:]
        else:
            cleaned.append(name)
    return cleaned


def _write(fd: int, entry: Entry, data: BinaryIO) -> None:
    if not entry.sparse:
        _copy(fd, entry, data, entry.size)
        return
    for offset, length in entry.sparse:
        os.lseek(fd, offset, os.SEEK_SET)
        _copy(fd, entry, data, length)
    os.ftruncate(fd, entry.size)


def _copy(fd: int, entry: Entry, data: BinaryIO, size: int) -> None:
    while size:
        chunk = some(entry, data, size)
        size -= len(chunk)
        write_all(fd, chunk)
