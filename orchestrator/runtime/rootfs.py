"""What an image has inside, seen from outside: reading its small files, and filling an empty volume from it."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence

from orchestrator.contracts.runtime import VolumeFill
from orchestrator.errors import HostError
from orchestrator.kernel import mounts
from orchestrator.kernel.constants import MOUNT_ATTR_RDONLY
from orchestrator.kernel.rooted import open_in, read_small_file
from orchestrator.kernel.trees import copy_tree, remove_tree

_NO_CONTENT = frozenset({"lost+found"})
"""What a fresh file system has in its root, if the volume is one."""


def read_users(pid: int) -> tuple[bytes, bytes]:
    """/etc/passwd and /etc/group as the running process `pid` sees them; empty where they are missing or no small regular
    files. The caller makes sure that the pid is still the process it means."""
    try:
        root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return b"", b""
    try:
        return read_small_file(root, b"/etc/passwd") or b"", read_small_file(root, b"/etc/group") or b""
    finally:
        os.close(root)


def fill_volume(fill: VolumeFill, lowers: Sequence[str]) -> bool:
    """Copy what the image has at ``fill.image_path`` into the empty directory, with owners, modes and times; False when
    there was nothing to do. All or nothing: it is copied beside and moved into place. Raises HostError. Blocking."""
    try:
        if not os.path.isdir(fill.directory) or set(os.listdir(fill.directory)) - _NO_CONTENT:
            return False
        root = _open_image(lowers)
        try:
            try:
                source = open_in(root, os.fsencode(fill.image_path), os.O_RDONLY | os.O_DIRECTORY)
            except (FileNotFoundError, NotADirectoryError):
                return False
            try:
                _fill(source, fill.directory)
            finally:
                os.close(source)
        finally:
            os.close(root)
    except OSError as exc:
        raise HostError(f"cannot fill the volume {fill.directory} from {fill.image_path}: {exc.strerror}") from exc
    return True


def _open_image(lowers: Sequence[str]) -> int:
    if len(lowers) == 1:
        return os.open(lowers[0], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    options: list[tuple[bytes, bytes | None]] = [(b"lowerdir+", os.fsencode(path)) for path in lowers]
    return mounts.new_filesystem(b"overlay", options, MOUNT_ATTR_RDONLY)


def _fill(source: int, directory: str) -> None:
    beside = f"{directory}.filling"
    remove_tree(beside)
    os.mkdir(beside, 0o700)
    target = os.open(beside, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        copy_tree(source, target)
    except OSError:
        with contextlib.suppress(OSError):  # The reason of the first is what matters.
            remove_tree(beside)
        raise
    finally:
        os.close(target)
    try:
        os.rename(beside, directory)
    except OSError:
        # A mount point, or a fresh file system's root: then entry by entry.
        for name in os.listdir(beside):
            os.rename(f"{beside}/{name}", f"{directory}/{name}")
        found = os.stat(beside)
        os.chown(directory, found.st_uid, found.st_gid)
        os.chmod(directory, stat.S_IMODE(found.st_mode))
        os.rmdir(beside)
