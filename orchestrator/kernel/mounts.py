"""The descriptor-based mount interface (open_tree(2), move_mount(2), fsopen(2), mount_setattr(2), pivot_root(2)).

Everything is mounted detached, set up as a descriptor, and attached last: no half-made mount is ever visible by a path.
"""

from __future__ import annotations

import ctypes
import os
import struct

from orchestrator.kernel import constants as c
from orchestrator.kernel.syscalls import call, fail, libc, number_of


def open_tree(directory: int, path: bytes, *, recursive: bool = False) -> int:
    """A detached copy of the mount at `path` (with `recursive`, of all mounts below it too). "": `directory` itself."""
    flags = c.OPEN_TREE_CLONE | c.OPEN_TREE_CLOEXEC
    if recursive:
        flags |= c.AT_RECURSIVE
    if not path:
        flags |= c.AT_EMPTY_PATH
    return call(c.NR_OPEN_TREE, directory, path, flags, path=path)


def attach(mount: int, target: int, path: bytes = b"", *, name: str | bytes | None = None) -> None:
    """Attach the detached `mount` at the open directory or file `target` (or at `path` below it). `name`: for the error."""
    flags = c.MOVE_MOUNT_F_EMPTY_PATH | (0 if path else c.MOVE_MOUNT_T_EMPTY_PATH)
    call(c.NR_MOVE_MOUNT, mount, b"", target, path, flags, path=name if name is not None else path)


def set_attributes(
    mount: int,
    set_: int = 0,
    clear: int = 0,
    *,
    propagation: int = 0,
    userns: int | None = None,
    recursive: bool = False,
    path: bytes = b"",
) -> None:
    """mount_setattr(2) on the mount `mount` refers to, or on `path`. `userns`: idmap it with that user namespace."""
    if userns is not None:
        set_ |= c.MOUNT_ATTR_IDMAP
    attributes = struct.pack("=QQQQ", set_, clear, propagation, userns or 0)
    flags = (c.AT_RECURSIVE if recursive else 0) | (0 if path else c.AT_EMPTY_PATH)
    call(c.NR_MOUNT_SETATTR, mount, path, flags, attributes, len(attributes), path=path or None)


def new_filesystem(kind: bytes, options: list[tuple[bytes, bytes | None]], attributes: int = 0) -> int:
    """A detached mount of a new instance of file system `kind`. An option without a value is a flag."""
    context = call(c.NR_FSOPEN, kind, c.FSOPEN_CLOEXEC, path=kind)
    try:
        for key, value in options:
            if value is None:
                call(c.NR_FSCONFIG, context, c.FSCONFIG_SET_FLAG, key, None, 0, path=key)
            else:
                call(c.NR_FSCONFIG, context, c.FSCONFIG_SET_STRING, key, value, 0, path=key)
        call(c.NR_FSCONFIG, context, c.FSCONFIG_CMD_CREATE, None, None, 0, path=kind)
        return call(c.NR_FSMOUNT, context, c.FSMOUNT_CLOEXEC, attributes, path=kind)
    finally:
        os.close(context)


def mount_by_name(source: bytes, target: bytes, kind: bytes, options: bytes) -> None:
    """mount(2): for options that are longer than fsconfig(2) takes."""
    if libc.mount(source, target, kind, ctypes.c_ulong(0), options) != 0:
        raise fail(kind)


def unmount(path: bytes, flags: int = 0) -> None:
    if libc.umount2(path, ctypes.c_int(flags)) != 0:
        raise fail(path)


def pivot_to(root: int, covered: int = -1) -> None:
    """Make the mount `root` the root of this mount namespace and detach the old one (pivot_root(2), NOTES). `covered`: what
    is mounted on the old one, below `root`; it goes too."""
    os.fchdir(root)
    call(number_of("pivot_root"), b".", b".", path=b"/")
    if covered >= 0:
        os.fchdir(covered)
        unmount(b".", c.MNT_DETACH)
        os.fchdir(root)
    unmount(b".", c.MNT_DETACH)
    os.chdir("/")
