"""A call that fails for want of space, descriptors or memory, or by a broken disk: every state-changing system call of the
supervisor, the monitor and its children, one at a time, through create, start, exec, stop and delete. It is told as one
clear error, and after the next command nothing is left."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.machine import Pystack
from tests.soak.injection import Point
from tests.soak.sweep import MOST, VICTIMS, Sweep, thinned

pytestmark = [pytest.mark.kernel, pytest.mark.soak]

_FILES = (
    "mkdir,mkdirat,rename,renameat,renameat2,symlink,symlinkat,link,linkat,mknod,mknodat,ftruncate,fallocate,write,pwrite64,"
)
_TEXT = {
    "ENOSPC": _FILES + "openat,openat2,mount_setattr,move_mount,fsmount,bind,unshare",
    "EMFILE": "openat,openat2,socket,socketpair,accept4,pipe2,memfd_create,pidfd_open,pidfd_getfd,open_tree,fsopen,fsmount,"
    "clone3,sendmsg",
    "ENOMEM": "clone3,clone,vfork,fork,execve,execveat,setns,unshare,fsconfig,fsmount,move_mount,open_tree,mount,"
    "pivot_root,mount_setattr,socket,socketpair,bind,connect,sendto,sendmsg,setsockopt,seccomp,keyctl,prctl,capset,setresuid,mkdir,"
    "mkdirat,ioctl,pipe2,openat",
    "EIO": "openat,unlink,unlinkat,rmdir,rename,renameat,mkdir,mkdirat,fsync,fdatasync,write,pwrite64,ftruncate,chown,"
    "fchown,fchownat,fchmod,fchmodat,chmod,splice,sendfile,copy_file_range,flock,fsconfig,umount2,execve,setxattr",
}
ERRORS = {name: set(text.split(",")) for name, text in _TEXT.items()}
"""What each call may fail with by its manual page, of these four. Not epoll_ctl: only EPOLL_CTL_ADD can, strace cannot tell
it from EPOLL_CTL_MOD, and one that fails at trio's own wake-up takes the answers of all threads with it."""


def effects(points: list[tuple[str, int]]) -> list[tuple[str, int, str]]:
    return [(call, number, name) for call, number in points for name, calls in ERRORS.items() if call in calls]


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_call_that_fails_is_told_and_leaves_nothing(pystack: Pystack, busybox_rootfs: Path, victim: str) -> None:
    if shutil.which("strace") is None:
        pytest.skip("no strace")
    sweep = Sweep(pystack, busybox_rootfs, Path(tempfile.gettempdir()))
    points = effects(sweep.points(victim))
    assert points
    for index, (call, number, error) in enumerate(thinned(points, MOST)):
        sweep.check(victim, Point(call, number, f"error={error}"), ("down", "up")[index % 2])
    print(f"{victim}: {len(points)} faults. {sweep}", flush=True)
    assert sweep.wrong == [], "\n".join(sweep.wrong)
    assert sweep.hits > 0
