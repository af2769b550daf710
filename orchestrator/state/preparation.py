"""A project's directories are made, and its id range is given out: the supervisor's part of `state.directory`."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from orchestrator.contracts.site import IdMap, Site
from orchestrator.errors import HostError, OperationError, access_hint
from orchestrator.kernel.atomic import replace_file
from orchestrator.kernel.identity import own_uid
from orchestrator.kernel.plain import open_plain, opener
from orchestrator.model.project import Project
from orchestrator.state.directory import (
    CONTAINERS,
    FIRST_ID,
    ID_RANGE,
    IDS,
    LOGS,
    SLOTS,
    base_of,
    data_root_of,
    is_base,
    recorded_base,
)

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def prepare(site: Site) -> Site:
    """Make the project's directories, check their owner, and give the project an id range that no other one has: the
    recorded one, that of its containers if the record is damaged, else a free one.

    Raises HostError when a directory cannot be made or is not ours.
    """
    make_project_directory(site)
    data_root = data_root_of(site)
    projects = os.path.join(data_root, "projects")
    for path in (os.path.dirname(site.run_dir), site.run_dir):
        make_private(path)
    for name in (CONTAINERS, LOGS):
        make_private(os.path.join(site.data_dir, name))
    if recorded_base(site.data_dir) is not None:
        return site
    with data_lock(data_root):
        taken = {recorded_base(os.path.join(projects, name)) for name in os.listdir(projects)}
        base = _base_in_use(site) or _free_base(site.ids.host_base, taken)
        if base is None:
            raise OperationError(f"all {SLOTS} id ranges are in use", hint=f"remove projects below {projects}")
        try:
            replace_file(os.path.join(site.data_dir, IDS), b"%d\n" % base)
        except OSError as exc:
            hint = f"make room below {data_root}, and run the command again" if exc.errno in _NO_ROOM else None
            raise HostError(f"cannot write {os.path.join(site.data_dir, IDS)}: {exc.strerror}", hint=hint) from exc
    return Site(site.project, site.key, site.data_dir, site.run_dir, IdMap(base, ID_RANGE))


def make_project_directory(site: Site) -> None:
    """`Site.data_dir`, and nothing in it. Raises HostError."""
    data_root = data_root_of(site)
    for path in (data_root, os.path.join(data_root, "projects"), site.data_dir):
        make_private(path)


@contextmanager
def data_lock(data_root: str) -> Iterator[None]:
    """Held for moments, while something is given out that all projects of the data directory share."""
    path = os.path.join(data_root, "lock")
    try:
        fd = open_plain(path, os.O_WRONLY | os.O_CREAT)
    except OSError as exc:
        raise HostError(f"cannot open {path}: {exc.strerror}", hint=access_hint(exc)) from exc
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def same_project(recorded: Project, wanted: Project) -> bool:
    """Whether `wanted` may take over what was recorded under the same name: it comes from the same folder, or that folder
    is gone (moved, or lost with damaged records)."""
    folder = os.path.realpath(recorded.working_dir) if recorded.working_dir else ""
    return not os.path.isdir(folder) or folder == os.path.realpath(wanted.working_dir)


def make_private(path: str) -> None:
    """A directory with mode 0700 that belongs to us and is no symbolic link; made with its parents if it is missing.

    The containers' own view of their root starts below; the parents stay closed to other users, so the mode of what
    containers write does not matter to them.
    """
    try:
        while (info := _made(path)) is None:
            continue
    except OSError as exc:
        raise HostError(
            f"cannot make {path}: {exc.strerror}",
            hint="run as root, or choose another place with --data-dir and PYSTACK_RUN_DIR",
        ) from exc
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != own_uid():
        raise HostError(
            f"{path} is not a directory of user {own_uid()}", hint="remove it, or choose another data directory"
        )


def _made(path: str) -> os.stat_result | None:
    """A directory that is there, or is made; None if its last owner took it away meanwhile. Raises OSError."""
    missing, parent = [], path
    while not os.path.lexists(parent):
        missing.append(parent)
        parent = os.path.dirname(parent)
    for directory in reversed(missing):
        with suppress(FileExistsError):  # Another command was faster.
            os.mkdir(directory, 0o700)
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _free_base(wish: int, taken: set[int | None]) -> int | None:
    first = (wish - FIRST_ID) // ID_RANGE
    bases = (base_of((first + step) % SLOTS) for step in range(SLOTS))
    return next((base for base in bases if base not in taken), None)


def _base_in_use(site: Site) -> int | None:
    """The id range that the project's containers were made with, from the id maps in their OCI configs."""
    mark = b'"hostID": '
    bundles = os.path.join(site.data_dir, CONTAINERS)
    for name in sorted(os.listdir(bundles)):
        try:
            with open(os.path.join(bundles, name, "spec.json"), "rb", opener=opener) as file:
                _, *found = file.read().split(mark)
        except OSError:
            continue
        for text in found:
            digits = text[: len(text) - len(text.lstrip(b"0123456789"))]
            if digits and is_base(int(digits)):
                return int(digits)
    return None
