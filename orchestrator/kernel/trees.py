"""Deleting directory trees that a container filled: any depth, any names, never through a symbolic link.

`shutil.rmtree` recurses and dies on a tree some thousand levels deep; a container can make one at will. This walks with one
open directory at a time, by descriptor (openat(2), unlinkat(2)), so it cannot be led outside the tree either.
"""

from __future__ import annotations

import errno
import os
import stat

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: str, *, keep_top: bool = False) -> bool:
    """Delete `path` and all below it; with `keep_top` only what is below. False if there was nothing.

    A mount point below stops it: OSError(EXDEV) naming the directory, since deleting through it would reach foreign
    files. Raises OSError for anything else that the kernel refuses.
    """
    try:
        top = os.open(path, _DIRECTORY)
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        os.unlink(path)
        return True
    try:
        _empty(top, path)
    finally:
        os.close(top)
    if not keep_top:
        os.rmdir(path)
    return True


def _empty(top: int, path: str) -> None:
    """Depth first with a stack of names: only the current directory is open, its parent is reached again by ``..``
    and checked by inode, because a stack of descriptors would run into RLIMIT_NOFILE."""
    device = os.fstat(top).st_dev
    current = os.dup(top)
    names: list[str] = []
    inodes = [os.fstat(top).st_ino]
    try:
        while True:
            child = _unlink_files(current, device, path)
            if child is not None:
                below = os.open(child, _DIRECTORY, dir_fd=current)
                os.close(current)
                current = below
                names.append(child)
                inodes.append(os.fstat(current).st_ino)
                continue
            if not names:
                return
            above = os.open("..", _DIRECTORY, dir_fd=current)
            os.close(current)
            current = above
            inodes.pop()
            if os.fstat(current).st_ino != inodes[-1]:
                raise OSError(errno.ESTALE, "directory was moved while it was being deleted", path)
            os.rmdir(names.pop(), dir_fd=current)
    finally:
        os.close(current)


def _unlink_files(directory: int, device: int, path: str) -> str | None:
    """Delete everything in `directory` that is no directory; the name of a first sub-directory that has to be entered."""
    first: str | None = None
    with os.scandir(directory) as entries:
        listed = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
    for name, info in listed:
        if not stat.S_ISDIR(info.st_mode):
            os.unlink(name, dir_fd=directory)
            continue
        if info.st_dev != device:
            raise OSError(errno.EXDEV, "a file system is still mounted in it", os.path.join(path, name))
        try:
            os.rmdir(name, dir_fd=directory)
        except OSError as exc:
            if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            first = first or name
    return first
