"""What pystack may leave behind on a machine, as a value that can be taken before a test and compared after it.

Each kind is read from the kernel itself, not through pystack's own code, so that a mistake there cannot hide a leak here:
mounts (proc_pid_mountinfo(5)), network namespaces (``/proc/PID/ns/net`` and open descriptors on nsfs), links, cgroups in
every mounted hierarchy, nf_tables tables (a netlink dump), processes, and files below the directories the test was given.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

LINK_PREFIXES = ("psb", "psv", "veth")
TABLE_PREFIX = "pystack"
CGROUP_NAME = "pystack"
OWN_PROGRAMS = tuple(f"orchestrator{dot}{program}" for dot in "./" for program in ("supervisor", f"runtime{dot}monitor"))
"""Text in the command line of the supervisor and of the monitor."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Every field is a set of readable names; one that is there after and was not there before is a leak."""

    mounts: frozenset[str]
    network_namespaces: frozenset[str]
    links: frozenset[str]
    cgroups: frozenset[str]
    nft_tables: frozenset[str]
    processes: frozenset[str]
    files: frozenset[str]


def take(directories: Sequence[Path] = ()) -> Snapshot:
    """What is there now. `directories`: whose files count (missing ones have none)."""
    own = _own_processes()
    return Snapshot(
        mounts=frozenset(_mounts()),
        network_namespaces=frozenset(_network_namespaces([os.getpid(), *own])),
        links=frozenset(name for _, name in socket.if_nameindex() if name.startswith(LINK_PREFIXES)),
        cgroups=frozenset(_cgroups()),
        nft_tables=frozenset(name for name in nft_tables() if name.startswith(TABLE_PREFIX)),
        processes=frozenset(own.values()),
        files=frozenset(name for directory in directories for name in files(directory)),
    )


def compare(before: Snapshot, after: Snapshot) -> list[str]:
    """One line per leak: ``mounts: /a/b``. Empty when nothing was left behind."""
    return [
        f"{field.name}: {name}"
        for field in fields(Snapshot)
        for name in sorted(getattr(after, field.name) - getattr(before, field.name))
    ]


def settle(before: Snapshot, directories: Sequence[Path] = (), deadline_s: float = 5.0) -> list[str]:
    """The leaks that are still there after `deadline_s`. Some things end a moment after the command that ended them: the
    kernel destroys network namespaces in a thread of its own, and a supervisor exits after it has answered."""
    end = time.monotonic() + deadline_s
    while True:
        found = compare(before, take(directories))
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.02)


def nft_tables() -> list[str]:
    """Names of all nf_tables tables in this network namespace; [] where the kernel has no nf_tables or we may not ask.

    One NFT_MSG_GETTABLE dump (linux/netfilter/nf_tables.h, nfnetlink.h): nlmsghdr, then nfgenmsg, then attributes.
    """
    nfnetlink, subsystem, get_table, table_name = 12, 10, 1, 1
    request, dump, done, error = 0x001, 0x300, 3, 2
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, nfnetlink)
    except OSError:
        return []
    names: list[str] = []
    with sock:
        sock.settimeout(5)
        message = struct.pack("=IHHIIBBH", 20, subsystem << 8 | get_table, request | dump, 1, 0, 0, 0, 0)
        try:
            sock.send(message)
            while True:
                data = sock.recv(1 << 18)
                for kind, payload in _messages(data):
                    if kind in (done, error):
                        return names
                    names += [text.rstrip(b"\0").decode() for key, text in _attributes(payload[4:]) if key == table_name]
        except OSError:
            return names


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 16:
        length, kind = struct.unpack_from("=IH", data)
        if length < 16:
            return
        yield kind, data[16:length]
        data = data[(length + 3) & ~3 :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            return
        yield kind & 0x3FFF, data[4:length]
        data = data[(length + 3) & ~3 :]


def _mounts() -> Iterator[str]:
    """``/where (type) #id``: the id makes a second mount on the same place visible."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        yield f"{words[4]} ({words[words.index('-') + 1]}) #{words[0]}"


def _cgroups() -> Iterator[str]:
    """Every directory below a cgroup called ``pystack...``, in every hierarchy."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        if words[words.index("-") + 1] not in ("cgroup", "cgroup2"):
            continue
        for directory, _, _ in os.walk(words[4]):
            if f"/{CGROUP_NAME}" in directory[len(words[4]) :]:
                yield directory


def _own_processes() -> dict[int, str]:
    """Supervisors, monitors, what runs in their cgroups, and our own children (zombies too): pid -> description."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            command = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            cgroup = Path(f"/proc/{entry}/cgroup").read_text()
            after_name = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended while we looked
        state, parent, started = after_name[0], int(after_name[1]), after_name[19]
        if any(text in command for text in OWN_PROGRAMS) or f"/{CGROUP_NAME}/" in cgroup or parent == os.getpid():
            found[int(entry)] = f"{command or '(no command line)'} [pid {entry}, state {state}, started {started}]"
    return found


def _network_namespaces(pids: Sequence[int]) -> Iterator[str]:
    """``net:[inode]`` of the namespaces these processes are in or hold open, except the one we are in."""
    ours = os.readlink("/proc/self/ns/net")
    for pid in pids:
        try:
            links = [f"/proc/{pid}/ns/net", *(f"/proc/{pid}/fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd"))]
        except OSError:
            continue
        for link in links:
            try:
                target = os.readlink(link)
            except OSError:
                continue
            if target.startswith("net:[") and target != ours:
                yield target


def files(directory: Path) -> list[str]:
    """Everything that is not a directory. Empty directories are no leak: the next project uses them again."""
    found = []
    for parent, _, names in os.walk(directory):
        for name in names:
            path = Path(parent, name)
            try:
                mode = path.lstat().st_mode
            except OSError:
                continue
            if not stat.S_ISDIR(mode):
                found.append(str(path))
    return found
