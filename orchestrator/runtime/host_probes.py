"""Probes that try what containers need: namespaces, mounts, filters, links. Each runs in a forked child of `host_check`.

A probe returns what it found, and raises OSError or HostError when the machine refuses. It may change its process as it
likes: what it makes is detached or in namespaces that end with it, but for files in `Bench.scratch`.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

from orchestrator.errors import HostError
from orchestrator.kernel import constants as c
from orchestrator.kernel import mounts, netlink, process, rtnetlink
from orchestrator.kernel.pidfd import exit_status
from orchestrator.kernel.seccomp import compile_filter
from orchestrator.runtime.cgroups import ContainerCgroup
from orchestrator.values import frozen


@frozen
class Bench:
    """What the probes share. `scratch`: an empty directory on the data directory's file system, None if there is none.
    `group`: a cgroup, None if it could not be made."""

    data_dir: str
    scratch: str | None
    group: ContainerCgroup | None
    group_error: str


def existing(path: str) -> str:
    """`path`, or its nearest ancestor that exists: where it will be made."""
    path = os.path.abspath(path)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def seccomp(_: Bench) -> str:
    process.set_no_new_privileges()
    process.install_seccomp(compile_filter({"defaultAction": "SCMP_ACT_ALLOW"}, os.uname().machine))
    return "filters can be installed"


def pidfd_info(_: Bench) -> str:
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    fd = os.pidfd_open(pid)
    os.waitpid(pid, 0)
    if exit_status(fd) != 7 << 8:
        raise HostError("the exit status of a process that another one reaped is not to be had")
    return "exit statuses survive the monitor"


def namespace(kind: int) -> Callable[[Bench], str]:
    def probe(_: Bench) -> str:
        process.unshare(kind)
        return "can be made"

    return probe


# ---- file systems -----------------------------------------------------------------------------------------------------


def _scratch(bench: Bench) -> str:
    if bench.scratch is None:
        raise HostError(f"nothing can be written in {existing(bench.data_dir)}")
    os.chdir(bench.scratch)
    for name in ("lower", "upper", "work"):
        with suppress(FileExistsError):
            os.mkdir(name)
    return bench.scratch


def overlay(bench: Bench, lower: tuple[bytes, bytes] = (b"lowerdir", b"lower")) -> str:
    _scratch(bench)
    # Relative to the working directory: an option's text is limited to 255 bytes.
    mount = mounts.new_filesystem(b"overlay", [lower, (b"upperdir", b"upper"), (b"workdir", b"work")])
    os.close(os.open("written", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=mount))
    os.unlink("written", dir_fd=mount)
    return f"writable on {existing(bench.data_dir)}"


def lowerdir_plus(bench: Bench) -> str:
    overlay(bench, (b"lowerdir+", b"lower"))
    return "images may have any number of layers"


def idmapped(bench: Bench) -> str:
    _scratch(bench)
    user_namespace = _user_namespace()
    layer = mounts.open_tree(c.AT_FDCWD, b"lower")
    mounts.set_attributes(layer, userns=user_namespace)
    overlay(bench, (b"lowerdir", b"/proc/self/fd/%d" % layer))
    return "layers and volumes need no change of owner"


def _user_namespace() -> int:
    """A descriptor of a user namespace with ids mapped, its process gone."""
    ready_reader, ready_writer = os.pipe()
    held_reader, held_writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(held_writer)
            process.unshare(c.CLONE_NEWUSER)
            os.write(ready_writer, b"x")
            os.read(held_reader, 1)
        finally:
            os._exit(0)
    os.close(ready_writer)
    try:
        if not os.read(ready_reader, 1):
            raise HostError("a user namespace cannot be made")
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{pid}/{name}", "w") as file:
                file.write("0 1000000 65536")
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(held_writer)
        os.waitpid(pid, 0)


def clone_into_cgroup(bench: Bench) -> str:
    if bench.group is None or bench.group.unified_fd is None:
        raise HostError("there is no unified cgroup hierarchy")
    pid = process.clone3(0, cgroup=bench.group.unified_fd)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "processes are born in their cgroup"


# ---- network ----------------------------------------------------------------------------------------------------------

_NFT = 10 << 8
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEW_TABLE, _NEW_CHAIN = _NFT | 0, _NFT | 3
_NFPROTO_BRIDGE = 7


def nf_tables(_: Bench) -> str:
    """A table with a NAT chain, in a network namespace of its own."""
    _make_table(socket.AF_INET, "nat")
    return "tables with NAT"


def bridge_tables(_: Bench) -> str:
    _make_table(_NFPROTO_BRIDGE, "filter")
    return "a container speaks for itself only"


def _make_table(family: int, kind: str) -> None:
    """With a chain at the hook "prerouting" (linux/netfilter/nf_tables.h)."""
    process.unshare(c.CLONE_NEWNET)
    frame = struct.pack("=BB", 0, 0) + struct.pack(">H", 10)
    table = struct.pack("=BBH", family, 0, 0) + netlink.attr_text(1, "pystack")
    hook = netlink.nest(4, netlink.attr(1, struct.pack(">I", 0)), netlink.attr(2, struct.pack(">i", -100)))
    chain = table + netlink.attr_text(3, "ports") + hook + netlink.attr_text(7, kind)
    with netlink.NetlinkSocket(netlink.NETLINK_NETFILTER) as sock:
        sock.transaction(
            netlink.Request(_BATCH_BEGIN, 0, frame, "nf_tables"),
            [
                netlink.Request(_NEW_TABLE, netlink.NLM_F_CREATE, table, "an nf_tables table"),
                netlink.Request(_NEW_CHAIN, netlink.NLM_F_CREATE, chain, f"an nf_tables {kind} chain"),
            ],
            netlink.Request(_BATCH_END, 0, frame, "nf_tables"),
        )


def bridge(_: Bench) -> str:
    process.unshare(c.CLONE_NEWNET)
    own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    with netlink.NetlinkSocket(netlink.NETLINK_ROUTE) as sock:
        sock.batch([rtnetlink.new_bridge("bridge", "02:00:00:00:00:01")])
        (found,) = sock.ask(rtnetlink.get_link("bridge"))
        index = rtnetlink.parse_link(found).index
        sock.batch([rtnetlink.new_veth("near", index, "far", "02:00:00:00:00:02", own)])
    return "links can be made"
