"""Generated files (`contracts.runtime.GeneratedFile`) that change under a run that goes on.

They are files of a tmpfs of the run, mounted over their places (`monitor.final`). Root in the container may have moved
these places, or put links there, so nothing is written but what is still such a file: a regular one, on a tmpfs, of the
container's own user, who could write it just as well. Where the root is read-only these files are, too, so that nobody
there can; then it must be on the very tmpfs that we made.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
from collections.abc import Iterable, Sequence
from functools import partial

from orchestrator.contracts.runtime import GeneratedFile, SandboxSpec
from orchestrator.errors import HostError
from orchestrator.kernel import constants as c
from orchestrator.kernel import fdpass, mounts, process
from orchestrator.kernel.rooted import open_in
from orchestrator.kernel.syscalls import filesystem_type
from orchestrator.runtime.errands import Made, from_child
from orchestrator.runtime.monitor.parts import mount_of
from orchestrator.runtime.monitor.stage1 import FILES_SOURCE
from orchestrator.runtime.sandbox import ActiveRun
from orchestrator.values import replace


def with_contents(spec: SandboxSpec, files: Iterable[GeneratedFile]) -> SandboxSpec:
    """`spec` with the contents of those of `files` that it has."""
    new = {file.path: file.content for file in files}
    assert None not in new.values(), "a file is renewed with a content"
    return replace(spec, files=tuple(replace(file, content=new.get(file.path, file.content)) for file in spec.files))


def write_anew(active: ActiveRun, files: Sequence[GeneratedFile], host_base: int) -> None:
    """In a run, unless it has ended. `host_base`: the host's id of the container's root. Blocking. Raises HostError."""
    try:
        root = os.open(f"/proc/{active.run.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    opened = [root]
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(active.pidfd, 0)  # It is there, so the number was not another's.
            fixed: list[tuple[int, GeneratedFile]] = []
            for file in files:
                if (place := _place(root, file, host_base)) < 0:
                    continue
                opened.append(place)
                if os.fstatvfs(place).f_flag & os.ST_RDONLY:
                    fixed.append((place, file))
                else:
                    _write(place, file)
            if fixed:
                _write_fixed(active, fixed, opened)
    except OSError as exc:
        raise HostError(f"cannot write {exc.filename or 'a file'} in {active.run.container}: {exc.strerror}") from exc
    finally:
        fdpass.close_all(opened)


def _place(root: int, file: GeneratedFile, host_base: int) -> int:
    """Where it is, by O_PATH; -1 when that is no such file."""
    try:
        place = open_in(root, os.fsencode(file.path))
    except OSError:
        return -1  # Its place is another one by now, or leads in circles.
    found = os.fstat(place)
    ours = stat.S_ISREG(found.st_mode) and found.st_uid == host_base + file.uid
    if ours and filesystem_type(place) == c.TMPFS_MAGIC:
        return place
    os.close(place)
    return -1


def _write_fixed(active: ActiveRun, fixed: Sequence[tuple[int, GeneratedFile]], opened: list[int]) -> None:
    """Those on read-only mounts: by a copy of each mount that is not, and is nowhere attached. What is made is `opened`."""
    numbers = _own_mounts(active.run.pid)
    own = [(place, file) for place, file in fixed if mount_of(place) in numbers]
    for first in range(0, len(own), fdpass.MOST_FDS):
        some = own[first : first + fdpass.MOST_FDS]
        failure = f"cannot write {some[0][1].path} in {active.run.container}"
        copies, _ = from_child(failure, partial(_writable_copies, active.pidfd, [place for place, _ in some]))
        opened += copies
        for copy, (_, file) in zip(copies, some, strict=False):  # There may be none.
            _write(copy, file)


def _own_mounts(pid: int) -> frozenset[bytes]:
    """The numbers of mounts of the tmpfs that we make, in the namespace of `pid` (proc_pid_mountinfo(5)). What else is on a
    read-only mount may be the host's, and nothing that the container's root could write: a bind that a link leads to."""
    try:
        with open(f"/proc/{pid}/mountinfo", "rb") as table:
            rows = [line.split(b" ") for line in table]
    except OSError:
        return frozenset()  # It has just ended.
    return frozenset(row[0] for row in rows if row[row.index(b"-", 6) + 2] == FILES_SOURCE)


def _writable_copies(pidfd: int, places: Sequence[int]) -> Made:
    """In a child of ours: mounts are copied by who is in their namespace. Nothing is looked up by a name there."""
    try:
        process.setns(pidfd, c.CLONE_NEWNS)
        copies = [mounts.open_tree(place, b"") for place in places]
        for copy in copies:
            mounts.set_attributes(copy, clear=c.MOUNT_ATTR_RDONLY)
    except OSError as exc:
        if exc.errno in _ELSEWHERE:
            return [], ()
        raise
    return copies, ()


_ELSEWHERE = (errno.ESRCH, errno.EINVAL, errno.EPERM)
"""The run has ended, or went to another mount namespace, perhaps of another user namespace."""


def _write(place: int, file: GeneratedFile) -> None:
    assert file.content is not None
    size = os.fstat(place).st_size
    try:
        # Who has a lease on it (fcntl(2)) could let us wait for 45 seconds.
        fd = os.open(f"/proc/self/fd/{place}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, file.path) from None
    try:
        # At no moment empty, and no old line behind a new one: somebody may be reading.
        os.pwrite(fd, file.content.ljust(size, b"\n"), 0)
        os.ftruncate(fd, len(file.content))
    finally:
        os.close(fd)
