"""Owner, mode, extended attributes and times of what was made, in the order that the kernel wants.

chown(2) takes away set-id bits and capabilities, so it comes first; chmod(2) sets the mask of an access ACL, so it comes
after that. A default ACL would be inherited by what is made in the directory later: it waits until all is there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from orchestrator.errors import HostError, OperationError, PystackError
from orchestrator.images.unpack.entries import Entry, Kind, shown

OPAQUE = "trusted.overlay.opaque"
DEFAULT_ACL = b"system.posix_acl_default"
_CAPABILITY = b"security.capability"
_ACLS = (b"system.posix_acl_access", DEFAULT_ACL)
_OVERLAY = (b"trusted.overlay.", b"user.overlay.")
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_OF_THE_ENTRY = (
    errno.ENAMETOOLONG, errno.EINVAL, errno.EFBIG, errno.ELOOP, errno.ENOTDIR, errno.EMLINK, errno.EEXIST, errno.ENOENT,
    errno.E2BIG, errno.ERANGE, errno.EISDIR, errno.ENOTEMPTY, errno.EILSEQ, errno.EXDEV, errno.EOVERFLOW,
)  # fmt: skip
"""What the kernel says of a name, a number or a tree; everything else is about this machine."""


def is_kept(name: bytes) -> bool:
    """Which extended attributes an image has: not overlayfs's own marks, which would act on the mount, and not the labels
    that belong to a machine's policy (security.selinux, .ima, .evm, .apparmor)."""
    if name.startswith(_OVERLAY):
        return False
    return name.startswith((b"user.", b"trusted.")) or name in _ACLS or name == _CAPABILITY


def set_xattrs(target: int | str | bytes, entry: Entry, *, default_acl: bool = False, follow: bool = True) -> None:
    """Those of `entry` that are kept: without its default ACL, or that alone."""
    for name, value in entry.xattrs.items():
        if name == _CAPABILITY and entry.kind is not Kind.FILE:
            continue  # The kernel checks those of files alone, and gives no other back.
        if is_kept(name) and (name == DEFAULT_ACL) == default_acl:
            _set_xattr(target, name, value, entry, follow)


def _set_xattr(target: int | str | bytes, name: bytes, value: bytes, entry: Entry, follow: bool) -> None:
    if b"\0" in name:
        raise OperationError(f"{shown(entry.path)} has an extended attribute with a NUL in its name")
    if name == _CAPABILITY and not value:
        raise OperationError(f"the extended attribute {shown(name)} of {shown(entry.path)} is empty")
    try:
        os.setxattr(target, name, value, follow_symlinks=follow)
    except OSError as exc:
        what = f"the extended attribute {shown(name)} of {shown(entry.path)} ({len(value)} bytes)"
        if exc.errno == errno.ENOTSUP and name in _ACLS:
            return  # A file system without ACLs has the mode, as everywhere.
        if exc.errno == errno.EPERM and name.startswith(b"user.") and entry.kind not in (Kind.FILE, Kind.DIRECTORY):
            return  # xattr(7): only files and directories can have any.
        if exc.errno in (errno.ENOTSUP, errno.EPERM, errno.EACCES):
            hint = "root, and a file system with extended attributes (ext4, xfs, btrfs), are needed"
            raise HostError(f"{what} cannot be set here: {exc.strerror}", hint=hint) from exc
        # A too large one is ENOSPC on ext4.
        raise OperationError(f"{what} cannot be set: {exc.strerror}") from exc


def xattrs_of(target: int | str | bytes, *, follow: bool = True) -> Mapping[bytes, bytes]:
    """Those that an image keeps, sorted. One that cannot be read is none: the kernel takes an empty security.capability,
    and then calls it invalid."""
    try:
        names = sorted(os.fsencode(name) for name in os.listxattr(target, follow_symlinks=follow))
    except OSError as exc:
        if exc.errno == errno.ENOTSUP:
            return {}
        raise
    found = {}
    for name in filter(is_kept, names):
        try:
            found[name] = os.getxattr(target, name, follow_symlinks=follow)
        except OSError as exc:
            if exc.errno not in (errno.EINVAL, errno.ENODATA):
                raise
    return found


def set_on_file(fd: int, entry: Entry) -> None:
    """Of an open file or directory; not the times of a directory."""
    os.fchown(fd, entry.uid, entry.gid)
    if entry.xattrs:
        set_xattrs(fd, entry)
    os.fchmod(fd, entry.mode & 0o7777)
    if entry.kind is not Kind.DIRECTORY:
        set_time(fd, entry)


def set_time(fd: int, entry: Entry) -> None:
    os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))


def set_by_name(directory: int, name: bytes, entry: Entry) -> None:
    """Of what cannot be opened: symbolic links, devices, FIFOs. Nothing is followed."""
    os.chown(name, entry.uid, entry.gid, dir_fd=directory, follow_symlinks=False)
    if entry.xattrs:
        set_xattrs(b"/proc/self/fd/%d/%b" % (directory, name), entry, follow=False)
    if entry.kind is not Kind.SYMLINK:
        handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            os.chmod(f"/proc/self/fd/{handle}", entry.mode & 0o7777)
        finally:
            os.close(handle)
    os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=directory, follow_symlinks=False)


def explained(exc: OSError, path: bytes) -> PystackError:
    """What the kernel refused, for people."""
    reason = exc.strerror or str(exc)
    if exc.errno in _DISK_FULL:
        return HostError(f"the disk is full: {shown(path)} cannot be written", hint="make room and do it again")
    if exc.errno in _OF_THE_ENTRY:
        return OperationError(f"{shown(path)} cannot be made: {reason}")
    hint = "unpacking needs root" if exc.errno in (errno.EPERM, errno.EACCES) else None
    return HostError(f"{shown(path)} cannot be made here: {reason}", hint=hint)
