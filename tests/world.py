"""A world of the test run's own: whatever is in it that was not there before a test was made by that test.

The process of pytest moves into three namespaces before the first test:

* *mount*: private, so mounts made elsewhere never appear here;
* *network*: with ``lo`` alone, so every other link, address, port and nf_tables table is ours;
* *cgroup*: every hierarchy is mounted anew and shows, as its root, a group ``pystack-run-...`` that we made.

Another pystack project (of any version), Docker, Podman and a second run of these tests may start and stop containers on
the same machine all the while: nothing of theirs can be seen, or collided with, from in here. Processes belong to the run
when they are in its mount namespace, in one of its cgroups, or its children (see `tests.leaks`).

A helper process ends what is in our groups and removes them when pytest has ended, however it ended. Needs root; without
it there are no kernel tests, and nothing here is done.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct
import time
from dataclasses import dataclass
from pathlib import Path

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWNET = 0x00020000, 0x02000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE, MNT_DETACH = 2, 4, 8, 0x4000, 1 << 18, 2
PREFIX = "pystack-run-"
RUNNER = "runner"
"""The v2 group below ours that pytest itself is in: a group with controllers may have no processes of its own."""
REMOVAL_DEADLINE_S = 10.0
LEFT_OVER_S = 60.0
"""A group that is younger may be one that a helper has not locked yet."""

_libc = ctypes.CDLL(None, use_errno=True)
_outside: list[str] = []


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A mounted cgroup hierarchy (cgroups(7)). `data`: the mount options that name it."""

    mount: str
    kind: str
    data: str


def entered() -> bool:
    """Whether this process is in a world of its own."""
    return bool(_outside)


def outside() -> list[str]:
    """What a command is to begin with to run where this process was before: ``[*outside(), "ip", "link"]``."""
    assert entered(), "nothing is outside of a world that nobody has entered"
    return [*_outside]


def enter() -> None:
    """Move this process there, once. Call it before there are threads. OSError names the step that was refused."""
    if entered() or os.geteuid() != 0:
        return
    doors = [(option, os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)) for option, name in _DOORS]
    mounted = hierarchies()
    homes = [_home(hierarchy.mount) for hierarchy in mounted if hierarchy.kind == "cgroup2"]
    group = f"{PREFIX}{os.urandom(4).hex()}"
    _enter_cgroups(mounted, group)
    _check(_libc.unshare(CLONE_NEWNS | CLONE_NEWNET), "unshare(CLONE_NEWNS | CLONE_NEWNET)")
    _check(_libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "making / private")
    for hierarchy in reversed(mounted):
        _check(_libc.umount2(os.fsencode(hierarchy.mount), MNT_DETACH), f"umount {hierarchy.mount}")
    for hierarchy in mounted:
        path, kind, data = map(os.fsencode, (hierarchy.mount, hierarchy.kind, hierarchy.data))
        _check(_libc.mount(kind, path, kind, MS_NOSUID | MS_NODEV | MS_NOEXEC, data), f"mount {hierarchy.mount}")
    _loopback_up()
    namespaces = " ".join(f"--{option}=/proc/{os.getpid()}/fd/{fd}" for option, fd in doors)
    there = 'cd "$0"; ' + "".join(f"echo 0 >'{home}/cgroup.procs'; " for home in homes) + 'exec "$@"'
    # setns(2) of a mount namespace leaves the working directory at the root.
    _outside.extend(["sh", "-c", f'exec nsenter {namespaces} -- sh -c "$0" "$(pwd -P)" "$@"', there])


_DOORS = (("mount", "mnt"), ("net", "net"), ("cgroup", "cgroup"))


def hierarchies() -> list[Hierarchy]:
    """What is mounted of cgroups."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup2":
            found.append(Hierarchy(before.split()[4], kind, ""))
        elif kind == "cgroup":
            words = [word for word in options.split(",") if word not in ("rw", "ro", "xattr", "noprefix", "clone_children")]
            data = ",".join(word for word in words if not word.startswith("release_agent="))
            found.append(Hierarchy(before.split()[4], kind, f"none,{data}" if data.startswith("name=") else data))
    return found


def _enter_cgroups(mounted: list[Hierarchy], group: str) -> None:
    """Have a helper make our group in each hierarchy and the namespace whose root that is, and go into that namespace.

    This process itself stays in its v1 groups, whose limits are somebody's business; of a v2 hierarchy it goes to
    GROUP/runner, or with `nsdelegate` it might not move processes into the groups below (cgroup-v2.rst, "Delegation").
    """
    ready, done = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
    first = os.fork()
    if first == 0:
        if os.fork() == 0:  # Not our child: tests look at those.
            _help(mounted, group, ready[1], done)
        os._exit(0)
    os.waitpid(first, 0)
    os.close(ready[1])
    os.close(done[0])
    answer = os.read(ready[0], 1000).decode()
    os.close(ready[0])
    if not answer.isdigit():
        raise OSError(0, answer or "the helper for cgroups died")
    for hierarchy in mounted:
        if hierarchy.kind == "cgroup2":
            Path(hierarchy.mount, group, RUNNER).mkdir()
            Path(hierarchy.mount, group, RUNNER, "cgroup.procs").write_text("0")
    namespace = os.open(f"/proc/{answer}/ns/cgroup", os.O_RDONLY | os.O_CLOEXEC)
    _check(_libc.setns(namespace, CLONE_NEWCGROUP), "setns(CLONE_NEWCGROUP)")
    os.close(namespace)
    os.write(done[1], b"x")  # `done[1]` stays open as long as we live: its end is how the helper learns of ours.


def _help(mounted: list[Hierarchy], group: str, ready: int, done: tuple[int, int]) -> None:
    """The helper's life. Writes the pid of a process in our namespace, or what went wrong, to `ready`; never returns."""
    os.close(done[1])
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    try:
        for hierarchy in mounted:
            _remove_left_over(hierarchy.mount)
            _make_group(hierarchy, group)
            assert _lock(Path(hierarchy.mount, group)), "nobody else knows its name"
        # A namespace's root is where the process is that makes it: a process of its own goes there, and never comes back.
        traveller = os.fork()
        if traveller == 0:
            for hierarchy in mounted:
                Path(hierarchy.mount, group, "cgroup.procs").write_text("0")
            _check(_libc.unshare(CLONE_NEWCGROUP), "unshare(CLONE_NEWCGROUP)")
            os.write(ready, str(os.getpid()).encode())
            signal.pause()
        os.close(ready)
        os.read(done[0], 1)
        os.kill(traveller, signal.SIGKILL)
        os.waitpid(traveller, 0)
        while os.read(done[0], 1):
            pass
        end = time.monotonic() + REMOVAL_DEADLINE_S
        groups = [Path(hierarchy.mount, group) for hierarchy in mounted]
        while any(not _remove(each) for each in groups) and time.monotonic() < end:
            time.sleep(0.05)
    except OSError as exc:
        os.write(ready, f"{exc.strerror}: {exc.filename}".encode())
    finally:
        os._exit(0)


def _home(mount: str) -> str:
    """The group of the v2 hierarchy that this process is in (proc_pid_cgroup(5): ``0::PATH``), as far as it can be seen."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    home = mount + next(line.removeprefix("0::") for line in lines if line.startswith("0::"))
    return home if Path(home, "cgroup.procs").exists() else mount


def _make_group(hierarchy: Hierarchy, group: str) -> None:
    root = Path(hierarchy.mount)
    if hierarchy.kind == "cgroup2":
        for controller in (root / "cgroup.controllers").read_text().split():
            with contextlib.suppress(OSError):
                (root / "cgroup.subtree_control").write_text(f"+{controller}")
    (root / group).mkdir()
    for name in ("cpuset.cpus", "cpuset.mems"):  # Empty in a new v1 group, and then it takes no process (cpuset(7)).
        if hierarchy.kind == "cgroup" and (root / name).exists():
            (root / group / name).write_text((root / name).read_text())


def _lock(group: Path) -> bool:
    """Whether nobody else holds it. Held until this process ends: a pid would say nothing in another pid namespace."""
    fd = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return False
    return True


def _remove_left_over(mount: str) -> None:
    """Groups of runs whose process and helper were killed together."""
    for group in Path(mount).glob(f"{PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - group.stat().st_mtime > LEFT_OVER_S and _lock(group):
                _remove(group)


def _remove(group: Path) -> bool:
    """End what is in `group`, and remove it and all below it; whether it is gone. Every process there was started by a run
    that is over: none, unless it was killed."""
    for directory, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            for pid in map(int, Path(directory, "cgroup.procs").read_text().split()):
                if pid > 0:  # 0: in a pid namespace that is not ours.
                    os.kill(pid, signal.SIGKILL)
            os.rmdir(directory)
    return not group.exists()


def _loopback_up() -> None:
    get_flags, set_flags, up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        flags = struct.unpack_from("=h", fcntl.ioctl(sock, get_flags, struct.pack("=16sh22x", b"lo", 0)), 16)[0]
        fcntl.ioctl(sock, set_flags, struct.pack("=16sh22x", b"lo", flags | up))


def _check(answer: int, step: str) -> None:
    if answer != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), step)
