"""What an image has inside, seen from outside: reading its small files, and filling an empty volume from it."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence

from orchestrator.contracts.runtime import SandboxSpec, VolumeFill
from orchestrator.errors import HostError, OperationError
from orchestrator.kernel import mounts
from orchestrator.kernel.constants import MOUNT_ATTR_RDONLY
from orchestrator.kernel.filling import filling, is_filled
from orchestrator.kernel.rooted import BELOW, open_in, read_small_file
from orchestrator.kernel.syscalls import openat2
from orchestrator.kernel.trees import copy_tree
from orchestrator.runtime.programs import base_of, lowers_of, subpaths

_MARK = ".pystack-filling"


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
    """Copy what the image has at ``fill.image_path`` into the empty directory, with owners, modes, times and hard links;
    False when there was nothing to do. A copy that is killed is repeated (`kernel.filling`). Raises HostError. Blocking."""
    try:
        if not os.path.isdir(fill.directory) or is_filled(fill.directory, _MARK):
            return False
        with filling(fill.directory, _MARK) as target:
            if target is None:
                return False
            with _image(lowers) as root:
                return _copied(root, fill.image_path, target)
    except OSError as exc:
        raise HostError(f"cannot fill the volume {fill.directory} from {fill.image_path}: {exc.strerror}") from exc


def _copied(root: int, path: str, target: str) -> bool:
    try:
        source = open_in(root, os.fsencode(path), os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return False
    copy = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        copy_tree(source, copy)
    finally:
        os.close(copy)
        os.close(source)
    return True


def check_folders(spec: SandboxSpec) -> None:
    """What is wrong with the folders of volumes and images that are mounted alone, after a start that failed. Raises
    OperationError. Blocking."""
    folders = subpaths(spec.config)
    for number, entry in enumerate(spec.config.get("mounts") or () if folders else ()):
        place, folder = f"mounts[{number}]", folders.get(entry["destination"])
        if folder is None:
            continue
        lowers = lowers_of(entry)
        base = f"the image that is mounted at {entry['destination']}" if lowers else base_of(entry["source"], folder)
        try:
            if lowers:
                with _image(lowers) as root:
                    os.close(open_in(root, os.fsencode(folder)))
            else:
                top = os.open(base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    os.close(openat2(top, os.fsencode(folder), os.O_PATH, BELOW))
                finally:
                    os.close(top)
        except FileNotFoundError as exc:
            hint = "a subpath has to exist before it is mounted"
            raise OperationError(f'there is no "{folder}" in {base}', hint=hint, place=place) from exc
        except OSError as exc:
            what = "leads out of it" if exc.errno == errno.EXDEV else exc.strerror
            raise OperationError(f'cannot mount "{folder}" of {base}: {what}', place=place) from exc


@contextlib.contextmanager
def _image(lowers: Sequence[str]) -> Iterator[int]:
    """The merged view of `lowers`, as a descriptor of its root."""
    if len(lowers) == 1:
        root = os.open(lowers[0], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    else:
        options: list[tuple[bytes, bytes | None]] = [(b"lowerdir+", os.fsencode(path)) for path in lowers]
        root = mounts.new_filesystem(b"overlay", options, MOUNT_ATTR_RDONLY)
    try:
        yield root
    finally:
        os.close(root)
