"""What pystack may leave behind, as a value that can be taken before a test and compared after it.

Each kind is read from the kernel itself, not through pystack's own code, so that a mistake there cannot hide a leak here:
mounts (proc_pid_mountinfo(5)), network namespaces (``/proc/PID/ns/net`` and open descriptors on nsfs), links, cgroups in
every mounted hierarchy, nf_tables tables (a netlink dump), processes, and files below the directories the test was given.

No name is looked at. What can be seen of mounts, links, cgroups and tables from inside `tests.world` was made in there, and
a process is of this run when it is our child, in our mount namespace, or in one of our cgroups. Outside of such a world,
where others make theirs too, only our children and their namespaces count, and the files.
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

from tests import world

PF_KTHREAD = 0x00200000
"""linux/sched.h: of the flags in proc_pid_stat(5)."""


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
    apart = world.entered()
    return Snapshot(
        mounts=frozenset(_mounts() if apart else ()),
        network_namespaces=frozenset(_network_namespaces([os.getpid(), *own])),
        links=frozenset(name for _, name in socket.if_nameindex() if apart),
        cgroups=frozenset(_cgroups() if apart else ()),
        nft_tables=frozenset(nft_tables() if apart else ()),
        processes=frozenset(own.values()),
        files=frozenset(name for directory in directories for name in files(directory)),
    )


def compare(before: Snapshot, after: Snapshot) -> list[str]:
    """One line per leak: ``mounts: /a/b``. Empty when nothing was left behind."""
    moved = {name.partition(": ")[0] for name in before.mounts}
    return [
        f"{field.name}: {name}"
        for field in fields(Snapshot)
        for name in sorted(getattr(after, field.name) - getattr(before, field.name))
        if (field.name != "mounts" or name.partition(": ")[0] not in moved)
        and not (field.name == "cgroups" and _is_of_one_that_lives_on(name, before.cgroups))
    ]


def _is_of_one_that_lives_on(cgroup: str, before: frozenset[str]) -> bool:
    """Whether it is inside a container's group that was there before, with processes of its own: it goes with that."""
    parent = cgroup.rpartition("/")[0]
    return parent in before and bool(Path(parent, "cgroup.procs").read_text())


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
    """``#id on #parent (type, device): /where``. Where it is may change: somebody renames a directory above it."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        yield f"#{words[0]} on #{words[1]} ({words[words.index('-') + 1]}, {words[2]}): {words[4]}"


def _cgroups() -> Iterator[str]:
    """Every group below the root that we see, in every hierarchy."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        if words[words.index("-") + 1] not in ("cgroup", "cgroup2"):
            continue
        for directory, names, _ in os.walk(words[4]):
            yield from (f"{directory}/{name}" for name in names)


def _own_processes() -> dict[int, str]:
    """pid -> description, zombies too, but for those that are `left_to_init`."""
    found = {}
    namespace = os.readlink("/proc/self/ns/mnt")
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            fields = _read(f"/proc/{entry}/stat").rpartition(")")[2].split()
            if int(fields[6]) & PF_KTHREAD or left_to_init(fields):
                continue
            ours = int(fields[1]) == os.getpid() or (
                world.entered() and (_in_own_group(entry) or _mounts_of(entry) == namespace)
            )
            command = _read(f"/proc/{entry}/cmdline").replace("\0", " ").strip() if ours else ""
        except OSError:
            continue  # it ended while we looked
        if ours:
            zombie = "zombie, " if fields[0] == "Z" else ""
            found[int(entry)] = f"{command or '(no command line)'} [{zombie}pid {entry}, started {fields[19]}]"
    return found


def left_to_init(fields: Sequence[str]) -> bool:
    """Whether it has ended, with all of its threads, and init alone has still to take note, which not every init does at
    once: some look every two seconds. `fields`: of proc_pid_stat(5), from the third, the state, on."""
    state, parent, threads = fields[0], fields[1], fields[17]
    return state == "Z" and parent == "1" and int(threads) <= 1


def _read(path: str) -> str:
    """Of a file in /proc, in one piece; several hundred are read around each test."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return b"".join(iter(lambda: os.read(fd, 1 << 16), b"")).decode(errors="replace")
    finally:
        os.close(fd)


def _in_own_group(pid: str) -> bool:
    """Whether it is in a cgroup that is ours, below the root of our cgroup namespace: others' paths begin with ``/..``."""
    paths = [line.split(":", 2)[2] for line in _read(f"/proc/{pid}/cgroup").splitlines()]
    return any(path != "/" and not path.startswith("/..") for path in paths)


def _mounts_of(pid: str) -> str:
    """Its mount namespace; "" for a zombie, which has none any more."""
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return ""


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
