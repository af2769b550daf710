"""Files that changed here, into a container: copied, or deleted where they are not here any more.

As ``cp`` does it (`cli.container_files`): from the host's side, looked up name by name from the container's root, with
nothing of the image taking part. What differs: a file is made beside its place and renamed into it, so that nobody sees
half of one; a kind of thing takes the place of another; and all of it belongs to the container's user.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from typing import BinaryIO

from orchestrator.errors import HostError, OperationError, PystackError
from orchestrator.images.unpack.applier import Applier
from orchestrator.images.unpack.directories import Directory
from orchestrator.images.unpack.entries import Entry, Kind, shown
from orchestrator.images.unpack.placing import Placer, mount_of
from orchestrator.images.unpack.walking import Walk
from orchestrator.kernel import constants as c
from orchestrator.kernel.process import making_files_as
from orchestrator.kernel.rooted import BELOW, open_in
from orchestrator.kernel.syscalls import openat2
from orchestrator.runtime.view import View
from orchestrator.values import frozen, replace

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_HELD = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_NOTHING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_COPIED = frozenset({stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK})
_SLICE = 100
"""Paths that are copied without asking whether it is enough; some 25 ms, if they are small."""
_DEEPEST = 256
"""Levels of a folder that is deleted; each is an open file meanwhile."""


@frozen
class Part:
    """What is copied by a rule. `rule`: its number. `root`: here. `target`: the folder in the container that stands for
    it. `paths`: from `root`, and where each goes, from `target`."""

    rule: int
    root: str
    target: str
    paths: tuple[tuple[str, str], ...]


@frozen
class Brought:
    """`left`: of what `enough` came before. `refused`: what would not go in, (rule, path) and why."""

    left: tuple[Part, ...]
    refused: Mapping[tuple[int, str], PystackError]


def bring(
    view: View,
    user: tuple[int, int],
    parts: Iterable[Part],
    warn: Callable[[str], None],
    enough: Callable[[], bool] = lambda: False,
) -> Brought:
    """Into the container that is seen so. `user`: its uid and gid there. `enough`: asked now and then; what is left when it
    says so is never all of it. Raises HostError when nothing can be copied at all."""
    owner = view.ids.outside(user[0]), view.ids.outside(user[1])
    slices = [slice_ for part in parts for slice_ in _slices(part)]
    refused: dict[tuple[int, str], PystackError] = {}
    try:
        with making_files_as(view.ids.outside(0)):
            for number, each in enumerate(slices, start=1):
                if _tried(view, owner, each, warn) is not None:  # What is wrong with one is not so with the others.
                    for path, place in each.paths:
                        alone = replace(each, paths=((path, place),))
                        if (error := _tried(view, owner, alone, warn)) is not None:
                            refused[each.rule, path] = error
                if enough():
                    return Brought(tuple(slices[number:]), refused)
    except OSError as exc:
        raise _explained(exc) from exc
    return Brought((), refused)


def _tried(view: View, owner: tuple[int, int], part: Part, warn: Callable[[str], None]) -> PystackError | None:
    """Why not all of it went in."""
    warnings: list[str] = []
    try:
        _part(view, owner, part, warnings.append)
    except PystackError as error:
        return error
    except OSError as exc:
        return _explained(exc)
    for text in warnings:
        warn(text)
    return None


def _explained(exc: OSError) -> HostError:
    what = os.fsdecode(exc.filename) if isinstance(exc.filename, (str, bytes)) else "files"
    return HostError(f"cannot copy {what}: {exc.strerror}")


def _slices(part: Part) -> Iterable[Part]:
    """In whichever order: what is to be done about a path is what the disk says then."""
    paths = sorted(part.paths)
    return (replace(part, paths=tuple(paths[at : at + _SLICE])) for at in range(0, len(paths), _SLICE))


def _part(view: View, owner: tuple[int, int], part: Part, warn: Callable[[str], None]) -> None:
    with Walk(part.root, part.root) as walk:
        there: list[tuple[str, str]] = []
        gone: list[tuple[str, str]] = []
        root = os.open(part.root, _HELD | os.O_DIRECTORY)
        try:
            for path, place in part.paths:
                (there if _exists(root, path) else gone).append((path, place))
        finally:
            os.close(root)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            _delete(view, part.target, [place for _, place in gone], warn)
        with _Placer(view.path, owner, keep=True) as placer:
            for path, place in there:
                _put(walk, placer, owner, os.fsencode(path), os.fsencode(f"{part.target}/{place}".strip("/")))
            placer.finish()
        for text in walk.left_out:
            warn(f"left out: {text}")


def _exists(root: int, path: str) -> bool:
    """Without a link on the way. What is neither file, folder nor link (a socket) is nothing that is copied."""
    try:
        held = openat2(root, os.fsencode(path), _HELD, BELOW | c.RESOLVE_NO_SYMLINKS)
    except OSError as exc:
        if exc.errno in _NOTHING:
            return False
        raise
    try:
        return stat.S_IFMT(os.fstat(held).st_mode) in _COPIED
    finally:
        os.close(held)


def _put(walk: Walk, placer: Applier, owner: tuple[int, int], path: bytes, place: bytes) -> None:
    """What is at `path` itself: of a folder, what is in it has paths of its own."""
    try:
        for entry, data in walk.entries(path, place):
            placer.add(replace(entry, uid=owner[0], gid=owner[1], xattrs={}), data)
            return
    except OSError as exc:
        if exc.errno not in _NOTHING:  # It went just now: its event is on the way.
            raise


class _Placer(Placer):
    """With folders in place of files and files in place of folders; files are there whole, or as they were."""

    def _make(self, parent: Directory, name: bytes, entry: Entry, data: BinaryIO | None) -> None:
        known = self._directories.known(parent, name)
        if known is not None and entry.kind is not Kind.DIRECTORY:
            self._directories.removed(known)
            if not _remove(self._directories.fd(parent), name, 0):
                raise OperationError(f"{shown(entry.path)} has a mount in it, and cannot be replaced by a file")
        elif known is None and entry.kind is Kind.DIRECTORY:
            with contextlib.suppress(FileNotFoundError):
                os.stat(name, dir_fd=self._directories.fd(parent), follow_symlinks=False)
                self._clear(parent, name)
        super()._make(parent, name, entry, data)

    def _file(self, parent: Directory, name: bytes, entry: Entry, data: BinaryIO | None) -> None:
        if (mounted := self._mounted(parent, name)) >= 0:
            os.close(mounted)
            super()._file(parent, name, entry, data)
            return
        beside = b".pystack-%b" % os.urandom(6).hex().encode()
        try:
            super()._file(parent, beside, entry, data)
            fd = self._directories.fd(parent)
            os.rename(beside, name, src_dir_fd=fd, dst_dir_fd=fd)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(beside, dir_fd=self._directories.fd(parent))
            raise


# ---- what is gone ----------------------------------------------------------------------------------------------------


def _delete(view: View, target: str, places: Iterable[str], warn: Callable[[str], None]) -> None:
    """Below `target`, which may be behind links; what is below it may not. Raises OSError."""
    root = os.open(view.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        base = open_in(root, os.fsencode(target), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(root)
    done: set[str] = set()
    try:
        for path in places:
            above, _, name = path.rpartition("/")
            if above in done:
                done.add(path)
                continue
            try:
                parent = openat2(base, os.fsencode(above or "."), _FOLDER, BELOW | c.RESOLVE_NO_SYMLINKS)
            except OSError as exc:
                if exc.errno in _NOTHING:
                    continue
                raise
            try:
                if not _remove(parent, os.fsencode(name), 0):
                    warn(f"{target}/{path} has a mount in it, which stays")
                done.add(path)
            finally:
                os.close(parent)
    finally:
        os.close(base)


def _remove(parent: int, name: bytes, depth: int) -> bool:
    """Whether all of it went. What is mounted stays, and with it the way there: in a mount namespace that is not ours the
    kernel would let us delete what it is mounted on."""
    try:
        held = os.open(name, _HELD, dir_fd=parent)
    except FileNotFoundError:
        return True
    try:
        if mount_of(held) != mount_of(parent):
            return False
        if not stat.S_ISDIR(os.fstat(held).st_mode):
            os.unlink(name, dir_fd=parent)
            return True
    finally:
        os.close(held)
    if depth >= _DEEPEST:
        raise OperationError(f"{shown(name)} is more than {_DEEPEST} levels deep in the container")
    folder = os.open(name, _FOLDER, dir_fd=parent)
    try:
        gone = [_remove(folder, os.fsencode(below), depth + 1) for below in os.listdir(folder)]
    finally:
        os.close(folder)
    if not all(gone):
        return False
    os.rmdir(name, dir_fd=parent)
    return True
