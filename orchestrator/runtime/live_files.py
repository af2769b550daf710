"""Generated files (`contracts.runtime.GeneratedFile`) that change under a run that goes on.

They are files of a tmpfs of the run, mounted over their places (`monitor.final`). Root in the container may have moved
these places, or put links there, so nothing is written but what is still such a file: a regular one, on a tmpfs, of the
container's own user, who could write it just as well.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
from collections.abc import Iterable, Sequence

from orchestrator.contracts.runtime import GeneratedFile, SandboxSpec
from orchestrator.errors import HostError
from orchestrator.kernel.constants import TMPFS_MAGIC
from orchestrator.kernel.rooted import open_in
from orchestrator.kernel.syscalls import filesystem_type
from orchestrator.runtime.sandbox import ActiveRun
from orchestrator.values import replace


def with_contents(spec: SandboxSpec, files: Iterable[GeneratedFile]) -> SandboxSpec:
    """`spec` with the contents of those of `files` that it has."""
    new = {file.path: file.content for file in files}
    assert None not in new.values(), "a file is renewed with a content"
    return replace(spec, files=tuple(replace(file, content=new.get(file.path, file.content)) for file in spec.files))


def write_anew(active: ActiveRun, files: Sequence[GeneratedFile], host_base: int) -> None:
    """In a run, unless it has ended. `host_base`: the host's id of the container's root. Raises HostError."""
    try:
        root = os.open(f"/proc/{active.run.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(active.pidfd, 0)  # It is there, so the number was not another's.
            for file in files:
                _write(root, file, host_base)
    except OSError as exc:
        raise HostError(f"cannot write {exc.filename or 'a file'} in {active.run.container}: {exc.strerror}") from exc
    finally:
        os.close(root)


def _write(root: int, file: GeneratedFile, host_base: int) -> None:
    assert file.content is not None
    try:
        place = open_in(root, os.fsencode(file.path))
    except OSError:
        return  # Its place is another one by now, or leads in circles.
    try:
        found = os.fstat(place)
        ours = stat.S_ISREG(found.st_mode) and found.st_uid == host_base + file.uid
        if not ours or filesystem_type(place) != TMPFS_MAGIC:
            return
        fd = os.open(f"/proc/self/fd/{place}", os.O_WRONLY | os.O_CLOEXEC)
    finally:
        os.close(place)
    try:
        # At no moment empty, and no old line behind a new one: somebody may be reading.
        os.pwrite(fd, file.content.ljust(found.st_size, b"\n"), 0)
        os.ftruncate(fd, len(file.content))
    finally:
        os.close(fd)
