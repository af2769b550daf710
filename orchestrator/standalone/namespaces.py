"""Which namespaces a container is born in: new ones, others' by path, and the host's (config-linux.md, "Namespaces")."""

from __future__ import annotations

import os

from orchestrator.errors import HostError, InputError
from orchestrator.kernel import constants as c
from orchestrator.kernel import process
from orchestrator.kernel.process import SharedPid
from orchestrator.values import entity, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

KINDS = {
    "user": (c.CLONE_NEWUSER, "user"),
    "network": (c.CLONE_NEWNET, "net"),
    "pid": (c.CLONE_NEWPID, "pid"),
    "mount": (c.CLONE_NEWNS, "mnt"),
    "uts": (c.CLONE_NEWUTS, "uts"),
    "ipc": (c.CLONE_NEWIPC, "ipc"),
    "cgroup": (c.CLONE_NEWCGROUP, "cgroup"),
    "time": (c.CLONE_NEWTIME, "time"),
}
"""The flag, and the name below /proc/PID/ns."""
_CLOCKS = ("monotonic", "boottime")


@entity
class Namespaces:
    """`new`: flags for clone3(2). `paths`: type -> descriptor, of those that the parent enters for a moment."""

    new: int = 0
    paths: dict[str, int] = field(default_factory=dict)
    mount: int = -1
    user: int = -1
    new_cgroup: bool = False
    new_time: bool = False
    offsets: str = ""


def namespaces_of(config: Mapping[str, Any]) -> Namespaces:
    """Opens those by path. Raises InputError, HostError."""
    found = Namespaces()
    linux = config.get("linux") or {}
    for number, item in enumerate(linux.get("namespaces") or ()):
        kind, path = item["type"], item.get("path")
        flag, name = KINDS[kind]
        if path:
            fd = _open(path, name, f"linux.namespaces[{number}].path")
            if kind == "mount":
                found.mount = fd
            elif kind == "user":
                found.user = fd
            else:
                found.paths[kind] = fd
        elif kind == "cgroup":
            found.new_cgroup = True  # By itself, once it is in its groups.
        elif kind == "time":
            found.new_time = True
        else:
            found.new |= flag
    for clock, offset in (linux.get("timeOffsets") or {}).items():
        if clock not in _CLOCKS:
            raise InputError(f"{clock!r} is not a clock: {', '.join(_CLOCKS)}", place="linux.timeOffsets")
        found.offsets += f"{clock} {offset.get('secs') or 0} {offset.get('nanosecs') or 0}\n"
    return found


def _open(path: str, name: str, place: str) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        raise HostError(f"cannot open the namespace {path}: {exc.strerror}", place=place) from exc
    try:
        # nsfs: no other file system has files that setns(2) takes, and the link says what kind it is of.
        found = os.readlink(f"/proc/self/fd/{fd}")
        kind = _kind_of(fd)
        if kind is not None and kind != next(flag for flag, known in KINDS.values() if known == name):
            raise InputError(f"{path} is not a {name} namespace ({found})", place=place)
        if kind is None:
            raise InputError(f"{path} is not a namespace", place=place)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _kind_of(fd: int) -> int | None:
    """NS_GET_NSTYPE (ioctl_nsfs(2)); None: no namespace."""
    import fcntl

    try:
        return int(fcntl.ioctl(fd, 0xB703))
    except OSError:
        return None


def _enter(namespaces: Namespaces) -> dict[str, int]:
    """A child that is born now is born in the namespaces that have a path, and in the new time namespace. What `_leave`
    needs to get us back; it is called whatever happens here."""
    # `_bear_by_another` has to be born in our own PID namespace: it tells the child's pid as it sees it.
    paths = {kind: fd for kind, fd in namespaces.paths.items() if kind != "pid" or namespaces.user < 0}
    own = {kind: os.open(f"/proc/self/ns/{KINDS[kind][1]}", os.O_RDONLY | os.O_CLOEXEC) for kind in paths}
    if namespaces.new_time:
        own["time"] = os.open("/proc/self/ns/time", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for kind, fd in paths.items():
            try:
                process.setns(fd, KINDS[kind][0])
            except OSError as exc:
                raise HostError(f"cannot enter the {kind} namespace: {exc.strerror}") from exc
        if namespaces.new_time:
            process.unshare(c.CLONE_NEWTIME)
            if namespaces.offsets:
                _set_offsets(namespaces.offsets)
    except BaseException:
        _leave(own)
        raise
    return own


def _leave(own: dict[str, int]) -> None:
    for kind, fd in own.items():
        process.setns(fd, KINDS[kind][0])
        os.close(fd)


def _set_offsets(text: str) -> None:
    try:
        fd = os.open("/proc/self/timens_offsets", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as exc:
        raise HostError(f"cannot set the offsets of the clocks: {exc.strerror}: {text.strip()}") from exc


def bear(namespaces: Namespaces, cgroup: int | None) -> int:
    """clone3(2): the pid of a child in its namespaces, 0 in the child. The mount namespace by path is the child's matter.
    `cgroup`: the v2 directory it is born in; none with a user namespace by path, in which it may not be. For a
    single-threaded process."""
    own = _enter(namespaces)
    pid = -1
    try:
        pid = process.clone3(namespaces.new, cgroup=cgroup) if namespaces.user < 0 else _bear_by_another(namespaces)
    finally:
        if pid != 0:  # The child stays where it was born.
            _leave(own)
    return pid


def _bear_by_another(namespaces: Namespaces) -> int:
    """What is new must belong to the user namespace: so a process in between enters that first."""
    born = SharedPid()
    between = process.clone3(0)
    if between == 0:
        try:
            process.set_not_dumpable()
            if (fd := namespaces.paths.get("pid")) is not None:
                process.setns(fd, c.CLONE_NEWPID)  # Only for who is born from here on.
            process.setns(namespaces.user, c.CLONE_NEWUSER)
            os.setgroups([])
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            if process.clone3(namespaces.new | c.CLONE_PARENT, tell=born) == 0:
                return 0
        except OSError as exc:
            os._exit(exc.errno or 1)
        os._exit(0)
    _, status = os.waitpid(between, 0)
    if status or not born.value:
        number = os.waitstatus_to_exitcode(status)
        raise HostError(f"cannot enter the user namespace: {os.strerror(number) if number > 0 else 'killed'}")
    return born.value
