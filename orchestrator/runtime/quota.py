"""How large a container's writable layer may grow: a project quota (quotactl_fd(2), ioctl_fsgetxattr(2), xfs_quota(8)).

Only a file system that is mounted with project quotas can do it: xfs (``-o prjquota``) and ext4 (feature ``project``, ``-o
prjquota``). There is no other way to bound a directory, so elsewhere a size is refused.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from orchestrator.errors import HostError
from orchestrator.kernel.syscalls import call

_NR_QUOTACTL_FD = 443
_FS_IOC_FSGETXATTR, _FS_IOC_FSSETXATTR = 0x801C581F, 0x401C5820
_FSXATTR = struct.Struct("=IIIII8x")
"""xflags, extsize, nextents, projid, cowextsize."""
_PROJINHERIT = 0x200
_Q_XSETQLIM = (ord("X") << 8) + 4
_PRJQUOTA = 2
_DISK_QUOTA = struct.Struct("=bbHIQQQQQQiiHHbbbbQQQiHh8x")
"""struct fs_disk_quota (linux/dqblk_xfs.h); sizes in blocks of 512 bytes."""
_VERSION, _PROJECT_FLAG, _BOTH_LIMITS = 1, 2, 0b1100
_FIRST_PROJECT = 1 << 30


def limit_tree(paths: tuple[str, ...], size: int) -> None:
    """Together the directories `paths`, and all that will be made in them, get `size` bytes and no more. Raises
    HostError."""
    project = _FIRST_PROJECT | (os.stat(paths[0]).st_ino & (_FIRST_PROJECT - 1))
    try:
        for path in paths:
            _mark(path, project)
        _set_limit(paths[0], project, size)
    except OSError as exc:
        reason = exc.strerror
        if exc.errno in (errno.ENOTTY, errno.EOPNOTSUPP, errno.ENOSYS, errno.ESRCH, errno.EINVAL):
            reason = "its file system is mounted without project quotas"
        raise HostError(
            f"a size cannot be set for the writable layer in {paths[0]}: {reason}",
            hint="put --data-dir on xfs or ext4 mounted with -o prjquota, or leave storage_opt out",
        ) from exc


def _mark(path: str, project: int) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        data = bytearray(_FSXATTR.size)
        fcntl.ioctl(fd, _FS_IOC_FSGETXATTR, data)
        flags, extent, extents, _, copied = _FSXATTR.unpack(data)
        fcntl.ioctl(fd, _FS_IOC_FSSETXATTR, _FSXATTR.pack(flags | _PROJINHERIT, extent, extents, project, copied))
    finally:
        os.close(fd)


def _set_limit(path: str, project: int, size: int) -> None:
    blocks = -(-size // 512)
    unsaid = [0] * 18
    quota = _DISK_QUOTA.pack(_VERSION, _PROJECT_FLAG, _BOTH_LIMITS, project, blocks, blocks, *unsaid)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        call(_NR_QUOTACTL_FD, fd, _Q_XSETQLIM << 8 | _PRJQUOTA, project, quota, path=path)
    finally:
        os.close(fd)
