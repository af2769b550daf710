"""Deleting and copying directory trees that a container filled: any depth, any names, never through a symbolic link.

`shutil.rmtree` and `os.walk` recurse and die on a tree some thousand levels deep; a container can make one at will. Here a
walk holds one open directory (two for a copy), whatever the depth: it goes down by name and up by ``..``, and checks by
inode that it came to where it had been, so a tree that is moved meanwhile leads it nowhere else. Everything is done
relative to these descriptors (openat(2), unlinkat(2)), so no link is followed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct

from orchestrator.kernel.suppress import suppress

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_NAMES = 1 << 16
"""Sub-directories to enter that are remembered in one walk, on all levels together; the others are found by listing their
directory again. Some megabytes at most, however many directories there are."""
_MOST_RETURNS = 100
"""How often a directory that is not empty after all was deleted is emptied again: somebody else writes into it."""
_LEVELS_SHOWN = 5
_COPY_CHUNK = 1 << 24
_GETFLAGS = 0x80086601
_IMMUTABLE, _APPEND_ONLY = 0x10, 0x20
"""FS_IOC_GETFLAGS and two of its bits (linux/fs.h, ioctl_iflags(2))."""


def remove_tree(path: str, *, keep_top: bool = False) -> bool:
    """Delete `path` and all below it; with `keep_top` only what is below. False if there was nothing.

    A mount point below stops it: OSError(EXDEV) naming the directory, since deleting through it would reach foreign
    files. Raises OSError for anything else that the kernel refuses, naming what.
    """
    try:
        top = os.open(path, _DIRECTORY)
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        with suppress(FileNotFoundError):  # Somebody else removes it too.
            os.unlink(path)
        return True
    _Removal(top, path).run()
    if not keep_top:
        with suppress(FileNotFoundError):  # Somebody else removes it too.
            os.rmdir(path)
    return True


def copy_tree(source: int, target: int, *, skip_xattrs: str = "trusted.overlay.", whiteouts: bool = False) -> None:
    """Copy all below the directory `source` into the empty directory `target`, with owners, modes, times, hard links, holes
    and extended attributes (not those that begin with `skip_xattrs`); and the attributes of `source` itself. Sockets and
    devices are left out, but for overlayfs' `whiteouts`, if they are wanted. Both are descriptors, and stay the caller's.
    Raises OSError."""
    _Copy(source, target, skip_xattrs, whiteouts).run()


def copy_attributes(source: int, target: int, skip_xattrs: str = "trusted.overlay.") -> None:
    """Owner, mode, extended attributes and times of an open file. Raises OSError."""
    found = os.fstat(source)
    os.fchown(target, found.st_uid, found.st_gid)
    os.fchmod(target, stat.S_IMODE(found.st_mode))
    for name in os.listxattr(source):
        if not name.startswith(skip_xattrs):
            with suppress(OSError):  # A file system without them.
                os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


class _Removal:
    """`todo`: for each level the sub-directories that were found not to be empty. `current` is the directory that `names`
    lead to; `inodes` are those on the way, `current`'s last."""

    def __init__(self, top: int, path: str) -> None:
        self.path = path
        self.current = top
        found = os.fstat(top)
        self.device = found.st_dev
        self.names: list[str] = []
        self.inodes = [found.st_ino]
        self.todo: list[list[str]] = [[]]
        self.remembered = 0
        self.returns: dict[int, int] = {}

    def run(self) -> None:
        """Owns `current`."""
        try:
            while True:
                todo = self.todo[-1] or self._delete_what_is_easy()
                if todo:
                    self.remembered -= 1
                    self._enter(todo.pop())
                elif self.names:
                    self._leave()
                elif self._is_empty():
                    return
        finally:
            os.close(self.current)

    def _delete_what_is_easy(self) -> list[str]:
        """All in the current directory but the sub-directories that are not empty: those are remembered, and given."""
        todo = self.todo[-1]
        with os.scandir(self.current) as entries:
            for entry in entries:
                if self._delete(entry.name, entry.is_dir(follow_symlinks=False)):
                    continue
                if todo and self.remembered >= _MOST_NAMES:
                    break
                todo.append(entry.name)
                self.remembered += 1
        return todo

    def _delete(self, name: str, directory: bool) -> bool:
        """False for a directory that is not empty. What is gone by now is deleted."""
        for attempt in range(2):
            try:
                if directory:
                    os.rmdir(name, dir_fd=self.current)
                else:
                    os.unlink(name, dir_fd=self.current)
            except FileNotFoundError:
                return True
            except (IsADirectoryError, NotADirectoryError):
                directory = not directory  # It was replaced meanwhile.
            except OSError as exc:
                if exc.errno in (errno.ENOTEMPTY, errno.EEXIST):
                    return False
                if exc.errno == errno.EBUSY:
                    raise self._mounted(name) from exc
                if attempt or exc.errno != errno.EACCES:
                    raise self._refused(exc, name) from exc
                self._permit(self.current, name)
            else:
                return True
        return False

    def _enter(self, name: str) -> None:
        try:
            below = self._open(name)
        except FileNotFoundError:
            return
        except OSError as exc:
            if exc.errno in (errno.ENOTDIR, errno.ELOOP):
                return  # It was replaced meanwhile: the next listing deletes it.
            raise self._refused(exc, name) from exc
        found = os.fstat(below)
        if found.st_dev != self.device:
            os.close(below)
            raise self._mounted(name)
        os.close(self.current)
        self.current = below
        self.names.append(name)
        self.inodes.append(found.st_ino)
        self.todo.append([])

    def _open(self, name: str) -> int:
        try:
            return os.open(name, _DIRECTORY, dir_fd=self.current)
        except PermissionError:
            inner = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.current)
            try:
                self._permit(inner, name)
            finally:
                os.close(inner)
            return os.open(name, _DIRECTORY, dir_fd=self.current)

    def _permit(self, directory: int, name: str) -> None:
        """Root needs no permission; others may give it to themselves, where they own the directory."""
        try:
            os.chmod(f"/proc/self/fd/{directory}", 0o700)
        except OSError as exc:
            raise self._refused(exc, name) from exc

    def _leave(self) -> None:
        above = os.open("..", _DIRECTORY, dir_fd=self.current)
        os.close(self.current)
        self.current = above
        self.todo.pop()
        left = self.inodes.pop()
        name = self.names.pop()
        if os.fstat(above).st_ino != self.inodes[-1]:
            raise OSError(errno.ESTALE, "it was moved while it was being deleted", self._where(name))
        if self._delete(name, True):
            self.returns.pop(left, None)
            return
        self._note_return(left, self._where(name))
        self.todo[-1].append(name)
        self.remembered += 1

    def _is_empty(self) -> bool:
        """Of the top. A listing may miss names while others are being deleted (readdir(3))."""
        with os.scandir(self.current) as entries:
            if next(entries, None) is None:
                return True
        self._note_return(self.inodes[0], self.path)
        return False

    def _note_return(self, inode: int, where: str) -> None:
        self.returns[inode] = self.returns.get(inode, 0) + 1
        if self.returns[inode] > _MOST_RETURNS:
            raise OSError(errno.ENOTEMPTY, "somebody else is writing into it", where)

    # Errors.

    def _where(self, name: str) -> str:
        """For people: a path of thousands of levels is cut in the middle."""
        names = [*self.names, name]
        shown = ["...", *names[-_LEVELS_SHOWN:]] if len(names) > 2 * _LEVELS_SHOWN else names
        return os.path.join(self.path, *shown)

    def _mounted(self, name: str) -> OSError:
        return OSError(errno.EXDEV, "a file system is still mounted in it", self._where(name))

    def _refused(self, exc: OSError, name: str) -> OSError:
        reason = exc.strerror or str(exc)
        if exc.errno == errno.EPERM:
            if _is_protected(self.current, "."):
                reason = "its directory is marked immutable or append-only (lsattr shows it, `chattr -ia` takes it away)"
            elif _is_protected(self.current, name):
                reason = "it is marked immutable or append-only (lsattr shows it, `chattr -ia` takes it away)"
        return OSError(exc.errno, reason, self._where(name))


def _is_protected(directory: int, name: str) -> bool:
    """Whether ``chattr +i`` or ``+a`` was done to it; False where that is unknown."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return False
    try:
        (flags,) = struct.unpack("@l", fcntl.ioctl(fd, _GETFLAGS, bytes(struct.calcsize("@l"))))
    except OSError:
        return False
    finally:
        os.close(fd)
    return bool(flags & (_IMMUTABLE | _APPEND_ONLY))


class _Copy:
    """`source` and `target` are the directories reached, `names` leads to them; `todo`: for each level the sub-directories
    not yet copied. `links`: where the copy of a file with several names is, below `top`."""

    def __init__(self, source: int, target: int, skip_xattrs: str, whiteouts: bool) -> None:
        self.source, self.target = os.dup(source), os.dup(target)
        self.top = target
        self.names: list[str] = []
        self.links: dict[tuple[int, int], str] = {}
        self.skip_xattrs = skip_xattrs
        self.whiteouts = whiteouts
        self.inodes = [_pair(self.source, self.target)]
        self.todo: list[list[str]] = []

    def run(self) -> None:
        try:
            self.todo.append(self._copy_what_is_easy())
            while True:
                if self.todo[-1]:
                    self._enter(self.todo[-1].pop())
                    continue
                copy_attributes(self.source, self.target, self.skip_xattrs)
                self.todo.pop()
                if not self.todo:
                    return
                self._leave()
        finally:
            os.close(self.source)
            os.close(self.target)

    def _enter(self, name: str) -> None:
        os.mkdir(name, 0o700, dir_fd=self.target)
        self._move_to(name)
        self.names.append(name)
        self.inodes.append(_pair(self.source, self.target))
        self.todo.append(self._copy_what_is_easy())

    def _leave(self) -> None:
        self._move_to("..")
        self.names.pop()
        self.inodes.pop()
        if _pair(self.source, self.target) != self.inodes[-1]:
            raise OSError(errno.ESTALE, "a directory was moved while it was being copied")

    def _move_to(self, name: str) -> None:
        source = os.open(name, _DIRECTORY, dir_fd=self.source)
        os.close(self.source)
        self.source = source
        target = os.open(name, _DIRECTORY, dir_fd=self.target)
        os.close(self.target)
        self.target = target

    def _copy_what_is_easy(self) -> list[str]:
        """All but the sub-directories, whose names are given."""
        directories = []
        with os.scandir(self.source) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    directories.append(entry.name)
                else:
                    self._copy_one(entry.name)
        return directories

    def _copy_one(self, name: str) -> None:
        found = os.stat(name, dir_fd=self.source, follow_symlinks=False)
        if found.st_nlink > 1 and self._linked(name, (found.st_dev, found.st_ino)):
            return
        match stat.S_IFMT(found.st_mode):
            case stat.S_IFREG:
                self._copy_file(name)
            case stat.S_IFLNK:
                os.symlink(os.readlink(name, dir_fd=self.source), name, dir_fd=self.target)
                os.chown(name, found.st_uid, found.st_gid, dir_fd=self.target, follow_symlinks=False)
                times = (found.st_atime_ns, found.st_mtime_ns)
                os.utime(name, ns=times, dir_fd=self.target, follow_symlinks=False)
            case stat.S_IFIFO:
                os.mkfifo(name, 0o600, dir_fd=self.target)
                os.chown(name, found.st_uid, found.st_gid, dir_fd=self.target)
                os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=self.target)
                os.utime(name, ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=self.target)
            case stat.S_IFCHR if self.whiteouts and found.st_rdev == 0:
                os.mknod(name, stat.S_IFCHR, 0, dir_fd=self.target)

    def _linked(self, name: str, inode: tuple[int, int]) -> bool:
        """Whether `name` is a further name of what was copied, and is one in the copy now too."""
        first = self.links.setdefault(inode, "/".join([*self.names, name]))
        try:
            os.link(first, name, src_dir_fd=self.top, dst_dir_fd=self.target, follow_symlinks=False)
        except OSError as exc:
            # It is the first one; or its copy has too long a path, or as many names as its file system allows.
            if exc.errno not in (errno.ENOENT, errno.ENAMETOOLONG, errno.EMLINK):
                raise
            return False
        return True

    def _copy_file(self, name: str) -> None:
        origin = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.source)
        try:
            copy = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self.target)
            try:
                _copy_data(origin, copy)
                copy_attributes(origin, copy, self.skip_xattrs)
            finally:
                os.close(copy)
        finally:
            os.close(origin)


def _copy_data(origin: int, copy: int) -> None:
    """What is a hole stays one (lseek(2), SEEK_DATA)."""
    size, at = os.fstat(origin).st_size, 0
    while at < size:
        try:
            at = os.lseek(origin, at, os.SEEK_DATA)
            end = os.lseek(origin, at, os.SEEK_HOLE)
        except OSError as exc:
            if exc.errno != errno.ENXIO:
                raise
            break  # No more data.
        os.lseek(copy, at, os.SEEK_SET)
        while at < end and (sent := os.sendfile(copy, origin, at, min(end - at, _COPY_CHUNK))):
            at += sent
        if at < end:
            break  # It became shorter.
    os.ftruncate(copy, size)


def _pair(source: int, target: int) -> tuple[int, int]:
    return os.fstat(source).st_ino, os.fstat(target).st_ino
