"""What the first process does: root of the host, until it makes the final child (`stage1`)."""

from __future__ import annotations

import os
import resource
import stat
import struct

from orchestrator.kernel import constants as c
from orchestrator.kernel import limits
from orchestrator.kernel.rooted import BELOW
from orchestrator.runtime.monitor import stage1
from orchestrator.runtime.monitor.operations.language import (
    DIVIDES,
    FAILS,
    HOST,
    MAY_FAIL,
    NET,
    NOTHING,
    OWN,
    ROOT,
    STDIN,
    STORE,
    TELL,
    USER,
    WITHIN,
    A,
    B,
    In,
    NotSaid,
    Operations,
    Shape,
    Slot,
    mount_slot,
)
from orchestrator.runtime.monitor.stage1 import NAMESPACES

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself would cost the monitor a megabyte
    from collections.abc import Sequence
    from typing import Any


def default_limits(do: Operations, shape: Shape, table: Sequence[tuple[int, int, int]]) -> None:
    for kind, soft, hard in table:
        own_soft, own_hard = own = resource.getrlimit(kind)
        if kind == resource.RLIMIT_NOFILE:
            shape.descriptors = (soft, hard)
            if limits.above(hard, own_hard):  # Nobody else may raise it later.
                do.call("prlimit64", 0, kind, _limit(own_soft, hard), 0, result=MAY_FAIL)
        elif own != (soft, hard):
            set_limit(do, kind, soft, hard, own_hard)


def set_limit(do: Operations, kind: int, soft: int, hard: int, own_hard: int) -> None:
    """Or what is left of it (`limits.attainable`)."""
    lower = limits.above(hard, own_hard)
    do.call("prlimit64", 0, kind, _limit(soft, hard), 0, result=MAY_FAIL if lower else FAILS, done=int(lower))
    if lower:
        do.call("prlimit64", 0, kind, _limit(own_hard if limits.above(soft, own_hard) else soft, own_hard), 0)


def _limit(soft: int, hard: int) -> bytes:
    return struct.pack("=qq", soft, hard)


def rlimit(do: Operations, shape: Shape, kind: int, soft: int, hard: int) -> None:
    if limits.above(soft, hard) or kind == resource.RLIMIT_NOFILE:
        raise NotSaid
    do.call("prlimit64", 0, kind, _limit(soft, hard), 0)


def oom_score(do: Operations, shape: Shape, value: int) -> None:
    do.open(b"/proc/self/oom_score_adj", os.O_WRONLY)
    text = b"%d" % value
    do.call("write", Slot(A), text, len(text))


def overlay(do: Operations, shape: Shape, slot: int, lowers: list[int], bundle: str) -> None:
    upper = b"/c/" + os.fsencode(bundle)
    own = [(b"upperdir", upper + b"/upper"), (b"workdir", upper + b"/work")]
    do.new_filesystem(b"overlay", [*stage1.lower_options(lowers), *own], c.MOUNT_ATTR_NODEV, mount_slot(slot))


def devices(do: Operations, shape: Shape, slot: int, options: list[list[str | None]], attributes: int, owner: int) -> None:
    dev = Slot(mount_slot(slot))
    do.new_filesystem(b"tmpfs", stage1.encode_options(options), attributes & ~c.MOUNT_ATTR_NODEV, dev)
    do.call("umask", 0)
    for name, major, minor in stage1.DEVICES:
        do.call("mknodat", dev, name.encode(), stat.S_IFCHR | 0o666, os.makedev(major, minor))
        do.call("fchownat", dev, name.encode(), owner, owner, 0)
    for name in stage1.DEV_FOLDERS:
        do.call("mkdirat", dev, name.encode(), 0o755)
        do.call("fchownat", dev, name.encode(), owner, owner, 0)
    for name, target in stage1.DEV_LINKS:
        do.call("symlinkat", target.encode(), dev, name.encode())
        do.call("fchownat", dev, name.encode(), owner, owner, _AT_SYMLINK_NOFOLLOW)
    if "stdin" not in shape.named:
        do.open(b"null", os.O_RDONLY, at=dev, to=STDIN)


_AT_SYMLINK_NOFOLLOW = 0x100


def root_devices(do: Operations, shape: Shape, slot: int) -> None:
    do.set_attributes(Slot(mount_slot(slot)), clear=c.MOUNT_ATTR_NODEV)


def to_host(do: Operations, shape: Shape) -> None:
    do.call("setns", Slot(HOST), c.CLONE_NEWNS)


def to_home(do: Operations, shape: Shape) -> None:
    do.call("setns", Slot(OWN), c.CLONE_NEWNS)


def ids(do: Operations, shape: Shape, slot: int, name: str) -> None:
    shape.owners[slot] = shape.named[name]


def bind(do: Operations, shape: Shape, slot: int, source: str, recursive: bool, *how: Any) -> None:
    do.open_tree(c.AT_FDCWD, os.fsencode(source), mount_slot(slot), recursive=recursive)
    _adapt(do, shape, slot, recursive, *how)


def bind_below(do: Operations, shape: Shape, slot: int, base: str, folder: str, recursive: bool, *how: Any) -> None:
    do.open(os.fsencode(base), os.O_PATH | os.O_DIRECTORY)
    do.open_in(A, os.fsencode(folder), BELOW)
    do.open_tree(Slot(B), b"", mount_slot(slot), recursive=recursive)
    _adapt(do, shape, slot, recursive, *how)


def _adapt(
    do: Operations, shape: Shape, slot: int, recursive: bool, set_: int, clear: int, propagation: int, idmap: bool
) -> None:
    userns = shape.owners.get(slot, USER) if idmap else NOTHING
    do.set_attributes(Slot(mount_slot(slot)), set_, clear, propagation=propagation, userns=userns, recursive=recursive)


def top_attributes(do: Operations, shape: Shape, slot: int, set_: int, clear: int) -> None:
    do.set_attributes(Slot(mount_slot(slot)), set_, clear)


def propagate(do: Operations, shape: Shape, slot: int, propagation: int, recursive: bool) -> None:
    do.set_attributes(Slot(mount_slot(slot)), propagation=propagation, recursive=recursive)


def enter(do: Operations, shape: Shape) -> None:
    enter_some(do, shape, True, True, NAMESPACES & ~(c.CLONE_NEWUSER | c.CLONE_NEWNET), [])


def enter_some(
    do: Operations, shape: Shape, user: bool, network: bool, kinds: int, joined: list[tuple[str, int]]
) -> None:
    do.call("keyctl", c.KEYCTL_JOIN_SESSION_KEYRING, 0)
    for name, kind in joined:
        do.call("setns", Slot(shape.named[name]), kind)
    if user:
        do.call("setns", Slot(USER), c.CLONE_NEWUSER)
    if network:
        do.call("setns", Slot(NET), c.CLONE_NEWNET)
    _become_root(do)
    flags = c.CLONE_PARENT | c.CLONE_PARENT_SETTID | (kinds & ~c.CLONE_NEWCGROUP if shape.procs else kinds)
    born = struct.pack("=11Q", flags, *[0] * 10)
    place = do.call(STORE, In(born, 24), Slot(TELL))
    do.call(c.NR_CLONE3, place, len(born), result=DIVIDES)
    do.set_attributes(c.AT_FDCWD, propagation=c.MS_PRIVATE, recursive=True, path=b"/")


def _become_root(do: Operations) -> None:
    do.call("setgroups", 0, 0)
    do.call("setresgid", 0, 0, 0)
    do.call("setresuid", 0, 0, 0)


def join(do: Operations, shape: Shape) -> None:
    join_some(do, shape, NAMESPACES)


def join_some(do: Operations, shape: Shape, kinds: int) -> None:
    do.call("keyctl", c.KEYCTL_JOIN_SESSION_KEYRING, 0)
    do.call("setns", Slot(WITHIN), kinds)
    _become_root(do)
    do.open(b"/", os.O_PATH | os.O_DIRECTORY, to=ROOT)
