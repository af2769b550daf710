"""Control groups as files: which hierarchies there are, and the few operations on a group (cgroups(7), cgroup-v2.rst).

A machine has one of three layouts. ``v2``: one unified hierarchy with all controllers. ``v1``: one hierarchy for each
controller (or several controllers mounted together, or none at all: ``name=systemd``). ``hybrid``: v1 hierarchies with
the controllers, and beside them a unified hierarchy that may have no controller but still has what v1 lacks:
``cgroup.kill``, ``cgroup.freeze``, ``cgroup.events`` and CLONE_INTO_CGROUP.

Everything here takes paths, knows no names of ours, and raises OSError with the path. Standard library only.
"""

from __future__ import annotations

import errno
import os
import select

from orchestrator.kernel.suppress import suppress
from orchestrator.values import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Mapping
    from typing import Literal

    Mode = Literal["v1", "v2", "hybrid"]
else:  # `signal` makes enumerations of all of them
    import _signal as signal

_OPTIONS_THAT_ARE_NO_CONTROLLERS = frozenset({"rw", "ro", "xattr", "noprefix", "clone_children", "all", "none", "seclabel"})
_FREEZE_WAIT_S = 0.5
_KILL_BATCH = 256
_EMPTY_ROUNDS = 100
"""How often a group without any freezer is killed anew before we stop believing that it will ever be empty."""


@frozen
class Layout:
    """`unified`: where the v2 hierarchy is mounted, or None. `controllers`: v1 controller -> its hierarchy's mount."""

    mode: Mode
    unified: str | None
    controllers: Mapping[str, str]

    def roots(self) -> tuple[str, ...]:
        """Every hierarchy's mount once, the unified one first; hierarchies without a controller (``name=``) left out."""
        v1 = sorted(set(self.controllers.values()))
        return (self.unified, *v1) if self.unified is not None else tuple(v1)


def detect(mountinfo_text: str | None = None) -> Layout:
    """The layout that /proc/self/mountinfo (or `mountinfo_text`) describes (proc_pid_mountinfo(5)).

    Where a hierarchy is mounted more than once, a mount of its root is preferred to one of a part of it.
    Raises OSError (ENOENT) when no cgroup file system is mounted at all.
    """
    if mountinfo_text is None:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            mountinfo_text = file.read()
    unified: tuple[bool, str] | None = None
    controllers: dict[str, tuple[bool, str]] = {}
    for line in mountinfo_text.splitlines():
        before, separator, after = line.partition(" - ")
        fields, tail = before.split(" "), after.split(" ")
        if not separator or len(fields) < 6 or len(tail) < 3:
            continue
        found = (fields[3] == "/", _unescape(fields[4]))
        if tail[0] == "cgroup2":
            if unified is None or (found[0] and not unified[0]):
                unified = found
        elif tail[0] == "cgroup":
            for name in tail[2].split(","):
                if name in _OPTIONS_THAT_ARE_NO_CONTROLLERS or "=" in name:
                    continue
                if name not in controllers or (found[0] and not controllers[name][0]):
                    controllers[name] = found
    if unified is None and not controllers:
        raise OSError(errno.ENOENT, "no cgroup file system is mounted", "/sys/fs/cgroup")
    mode: Mode = "v1" if unified is None else "hybrid" if controllers else "v2"
    return Layout(mode, unified[1] if unified else None, {name: where for name, (_, where) in sorted(controllers.items())})


def _unescape(text: str) -> str:
    """Undo the kernel's ``\\040`` escapes in mountinfo."""
    if "\\" not in text:
        return text
    for code in ("040", "011", "012"):
        text = text.replace(f"\\{code}", chr(int(code, 8)))
    return text.replace("\\134", "\\")


def available(unified: str) -> frozenset[str]:
    """The controllers that the v2 hierarchy at `unified` has for its children."""
    return frozenset(read(f"{unified}/cgroup.controllers").split())


def read(path: str) -> str:
    """A control file's text without the final newline. Raises OSError; FileNotFoundError also when the group (of a file in
    /proc the process) goes while it is read."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = []
        while chunk := os.read(fd, 65536):
            chunks.append(chunk)
    except OSError as exc:
        if exc.errno in (errno.ENODEV, errno.ESRCH):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
        raise
    finally:
        os.close(fd)
    return b"".join(chunks).decode("ascii", "replace").rstrip("\n")


def write(path: str, value: str, dir_fd: int | None = None) -> None:
    """Write `value` to a control file that must exist, in one write(2): the kernel takes each write as one command."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        os.write(fd, value.encode("ascii"))
    except OSError as exc:
        raise OSError(exc.errno, f"cannot write {value!r}: {os.strerror(exc.errno or 0)}", path) from None
    finally:
        os.close(fd)


def make(path: str) -> bool:
    """mkdir, and only if that fails its parents: one system call for all but the first container of a project. Tries again
    when another one's end removes the common parent in between. True if it is new."""
    for _ in range(10):
        try:
            os.mkdir(path, 0o755)
            return True
        except FileExistsError:
            return False
        except FileNotFoundError:
            with suppress(FileExistsError):
                os.makedirs(os.path.dirname(path), 0o755)
    os.mkdir(path, 0o755)
    return True


def counter(path: str, key: str) -> int:
    """The number behind `key` in a flat keyed file (``memory.events``); 0 when the key is not there."""
    for line in read(path).splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return 0


def children(path: str) -> tuple[str, ...]:
    """Names of the groups directly below `path`, sorted; none when `path` does not exist."""
    try:
        with os.scandir(path) as entries:
            return tuple(sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False)))
    except FileNotFoundError:
        return ()


def subtree(path: str) -> list[str]:
    """`path` and all groups below it, children before their parents. Iterative: depth is the container's choice."""
    found, pending = [], [path]
    while pending:
        group = pending.pop()
        found.append(group)
        pending.extend(f"{group}/{name}" for name in children(group))
    found.reverse()
    return found


def members(path: str) -> list[int]:
    """Process ids in the group and below it, as this process's pid namespace numbers them (0: not visible here)."""
    pids: list[int] = []
    for group in subtree(path):
        with suppress(FileNotFoundError):
            pids.extend(int(line) for line in read(f"{group}/cgroup.procs").split())
    return pids


def kill(path: str) -> None:
    """End every process in the v2 group `path` and below it. A group that is gone has no processes: no error.

    ``cgroup.kill`` (Linux 5.14) does it atomically; before that, the group is frozen so that nothing forks away or
    changes its pid's owner while it is killed. SIGKILL ends a frozen v2 process at once.
    """
    try:
        write(f"{path}/cgroup.kill", "1")
        return
    except FileNotFoundError:
        if not os.path.isdir(path):
            return
    with suppress(FileNotFoundError):
        write(f"{path}/cgroup.freeze", "1")
    try:
        _kill_members(path)
    finally:
        with suppress(FileNotFoundError):
            write(f"{path}/cgroup.freeze", "0")


def kill_v1(freezer: str) -> None:
    """End every process in the group `freezer` of the v1 freezer hierarchy: freeze, kill, thaw (freezer-subsystem.rst).

    A frozen process cannot fork, exit or have its pid taken over, so one pass reaches all; the signals act on thawing.
    Freezing that does not complete in time (a process in uninterruptible sleep) does not stop the killing.
    """
    try:
        freeze_v1(freezer, _FREEZE_WAIT_S)
        _kill_members(freezer)
    except FileNotFoundError:
        return
    finally:
        with suppress(FileNotFoundError):
            write(f"{freezer}/freezer.state", "THAWED")


def kill_until_empty(path: str, spared: int = 0) -> None:
    """End every process of a group that cannot be frozen, or all but the process `spared`, again and again until no new
    one appears. Raises OSError if they keep appearing."""
    for _ in range(_EMPTY_ROUNDS):
        if not _kill_members(path, spared):
            return
        pause(0.002)
    raise OSError(errno.EBUSY, "processes keep appearing", path)


def _kill_members(path: str, spared: int = 0) -> int:
    """Send SIGKILL to each member but `spared`, and return how many there were.

    By pidfd, and only after a second look at the list: a pid that ended and was reused in between is not in it.
    In batches, because a group may have more members than we may have file descriptors.
    """
    pids = [pid for pid in members(path) if pid not in (0, spared)]
    killed = 0
    for start in range(0, len(pids), _KILL_BATCH):
        held: dict[int, int] = {}
        try:
            for pid in pids[start : start + _KILL_BATCH]:
                with suppress(ProcessLookupError):
                    held[pid] = os.pidfd_open(pid)
            for pid in held.keys() & set(members(path)):
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(held[pid], signal.SIGKILL)
                    killed += 1
        finally:
            for fd in held.values():
                os.close(fd)
    return killed


def freeze(path: str, timeout_s: float) -> bool:
    """Stop every process in the v2 group `path` and below it, and each that comes, until `thaw`. True once all stand still;
    False after `timeout_s`: one is in uninterruptible sleep. Raises OSError when the group is gone."""
    write(f"{path}/cgroup.freeze", "1")
    return _wait_event(path, lambda events: b"frozen 1" in events, timeout_s)


def freeze_v1(freezer: str, timeout_s: float) -> bool:
    """As `freeze`, of a group of the v1 freezer hierarchy."""
    state = f"{freezer}/freezer.state"
    write(state, "FROZEN")
    waited_s, pause_s = 0.0, 0.001
    while read(state) != "FROZEN":
        if waited_s >= timeout_s:
            return False
        pause(pause_s)
        waited_s, pause_s = waited_s + pause_s, min(pause_s * 2, 0.05)
    return True


def wait_unpopulated(path: str, timeout_s: float) -> bool:
    """Wait until no live process is in the v2 group `path` or below it; False after `timeout_s`."""
    return _wait_event(path, lambda events: b"populated 1" not in events, timeout_s)


def _wait_event(path: str, reached: Callable[[bytes], bool], timeout_s: float) -> bool:
    """``cgroup.events`` raises POLLPRI when something in it changes, so this wakes exactly then. A group that is gone has
    reached everything."""
    try:
        fd = os.open(f"{path}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        poll = select.poll()
        poll.register(fd, select.POLLPRI)
        remaining_s, step_s = timeout_s, 0.25
        while True:
            # Reading arms the notification: an event after this read is reported by the poll below.
            if reached(os.pread(fd, 4096, 0)):
                return True
            if remaining_s <= 0:
                return False
            # Wakes at once on a change; the step only bounds what another event in between can cost the deadline.
            poll.poll(min(step_s, remaining_s) * 1000)
            remaining_s -= step_s
    except OSError as exc:
        if exc.errno == errno.ENODEV:
            return True
        raise
    finally:
        os.close(fd)


def remove(path: str) -> bool:
    """Remove the group and all below it; False when processes are still in it (EBUSY). A group that is gone: True."""
    try:
        os.rmdir(path)
        return True
    except FileNotFoundError:
        return True
    except OSError as exc:
        if exc.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise
    for group in subtree(path):
        try:
            os.rmdir(group)
        except FileNotFoundError:
            continue
        except OSError as exc:
            if exc.errno in (errno.EBUSY, errno.ENOTEMPTY):
                return False
            raise
    return True


def pause(seconds: float) -> None:
    """Wait a moment for what v1 hierarchies cannot notify of."""
    select.poll().poll(seconds * 1000)
