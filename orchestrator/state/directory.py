"""Where things are on disk: the one home of these names.

    DATA/                       /var/lib/pystack (0700)
      images/                   skeletons and layers, shared by all projects
      volumes/FULL_NAME/        volume.json, _data: named and anonymous volumes
      lock                      held while an id range or a volume is given out
      projects/NAME/            a project's own: Site.data_dir, with the files of `FILES`
        containers/ID/          bundles
        logs/ID.log             what containers wrote, with ID.idx beside it
    RUN/KEY/                    /run/pystack/KEY (0700): control.sock, monitor.sock

`site_of` reads and never writes: client verbs call it. `prepare` is the supervisor's.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from orchestrator.contracts.site import IdMap, Site
from orchestrator.errors import HostError, OperationError
from orchestrator.kernel.atomic import replace_file
from orchestrator.kernel.identity import own_uid
from orchestrator.model.names import ProjectName, project_key, short_hash
from orchestrator.model.project import Project

DEFAULT_DATA = "/var/lib/pystack"
DEFAULT_RUN = "/run/pystack"

LOCK = "lock"
IDS = "ids"
WANTED = "wanted.json"
WANTED_COPY = "wanted.json.copy"
JOURNAL = "records.journal"
EVENTS = "events.jsonl"
EVENTS_BEFORE = "events.jsonl.1"
SUPERVISOR_LOG = "supervisor.log"
CONTAINERS = "containers"
LOGS = "logs"

FILES = {
    LOCK: "the supervisor's; its pid (state.lock)",
    IDS: "the first host id of the project's range",
    WANTED: "the stack and its containers as last decided (state.records)",
    WANTED_COPY: "the same, for when the first is damaged",
    JOURNAL: "what changed since (state.records)",
    EVENTS: "the event log (state.journal)",
    EVENTS_BEFORE: "its older half",
    "networks.json": "the subnets that networks were given (network.record)",
    "exits.journal": "starts and exits (runtime.monitor)",
    "monitor.log": "what the monitor complained about",
    SUPERVISOR_LOG: "what the supervisor complained about (client)",
    CONTAINERS: "bundles (runtime.bundle)",
    LOGS: "what containers wrote (runtime.monitor)",
}
"""A project's directory: all that may be in it, and who writes it. Beside these: ``NAME.damaged-N`` (`state.sealed`)."""

ID_RANGE = 65536
FIRST_ID = 0x7000_0000
"""Above what distributions and systemd hand out (systemd's UIDS-GIDS: containers end at 1879048191), below 2^31."""
SLOTS = 4095


def project_directory(data_root: str, project: ProjectName) -> str:
    return os.path.join(data_root, "projects", project)


def site_of(data_root: str, run_root: str, project: ProjectName) -> Site:
    """The project's place on this machine. The id range is the recorded one, else the one its name hashes to."""
    data_root = os.path.abspath(data_root)
    key = project_key(data_root, project)
    data_dir = project_directory(data_root, project)
    base = _read_base(data_dir) or _slot_base(int(short_hash(key, 6), 16) % SLOTS)
    return Site(project, key, data_dir, os.path.join(os.path.abspath(run_root), key), IdMap(base, ID_RANGE))


def prepare(site: Site) -> Site:
    """Make the project's directories, check their owner, and give the project an id range that no other one has: the
    recorded one, that of its containers if the record is damaged, else a free one.

    Raises HostError when a directory cannot be made or is not ours.
    """
    data_root = data_root_of(site)
    projects = os.path.join(data_root, "projects")
    for path in (data_root, projects, os.path.dirname(site.run_dir), site.run_dir, site.data_dir):
        make_private(path)
    for name in (CONTAINERS, LOGS):
        make_private(os.path.join(site.data_dir, name))
    if _read_base(site.data_dir) is not None:
        return site
    with data_lock(data_root):
        taken = {_read_base(os.path.join(projects, name)) for name in os.listdir(projects)}
        base = _base_in_use(site) or _free_base(site.ids.host_base, taken)
        if base is None:
            raise OperationError(f"all {SLOTS} id ranges are in use", hint=f"remove projects below {projects}")
        try:
            replace_file(os.path.join(site.data_dir, IDS), b"%d\n" % base)
        except OSError as exc:
            raise HostError(f"cannot write {os.path.join(site.data_dir, IDS)}: {exc.strerror}") from exc
    return Site(site.project, site.key, site.data_dir, site.run_dir, IdMap(base, ID_RANGE))


@contextmanager
def data_lock(data_root: str) -> Iterator[None]:
    """Held for moments, while something is given out that all projects of the data directory share."""
    path = os.path.join(data_root, "lock")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as exc:
        raise HostError(f"cannot open {path}: {exc.strerror}", hint="run as root") from exc
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


def data_root_of(site: Site) -> str:
    return os.path.dirname(os.path.dirname(site.data_dir))


def make_private(path: str) -> None:
    """A directory with mode 0700 that belongs to us and is no symbolic link; made with its parents if it is missing.

    The containers' own view of their root starts below; the parents stay closed to other users, so the mode of what
    containers write does not matter to them.
    """
    missing, parent = [], path
    while not os.path.lexists(parent):
        missing.append(parent)
        parent = os.path.dirname(parent)
    try:
        for directory in reversed(missing):
            with suppress(FileExistsError):
                os.mkdir(directory, 0o700)
        info = os.lstat(path)
    except OSError as exc:
        raise HostError(
            f"cannot make {path}: {exc.strerror}",
            hint="run as root, or choose another place with --data-dir and PYSTACK_RUN_DIR",
        ) from exc
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != own_uid():
        raise HostError(
            f"{path} is not a directory of user {own_uid()}", hint="remove it, or choose another data directory"
        )


def boot_id() -> str:
    """This boot's id (random(4)): a record with another one is from before a reboot."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def _slot_base(slot: int) -> int:
    return FIRST_ID + slot * ID_RANGE


def _is_base(number: int) -> bool:
    return number % ID_RANGE == 0 and 0 <= (number - FIRST_ID) // ID_RANGE < SLOTS


def _read_base(data_dir: str) -> int | None:
    """The recorded id range; None if there is none, or the number is damaged: no change of one bit of a digit makes another
    range's first id of it."""
    try:
        with open(os.path.join(data_dir, IDS), "rb") as file:
            base = int(file.read(64).split(b"\n")[0])
    except (OSError, ValueError):
        return None
    return base if _is_base(base) else None


def _free_base(wish: int, taken: set[int | None]) -> int | None:
    first = (wish - FIRST_ID) // ID_RANGE
    bases = (_slot_base((first + step) % SLOTS) for step in range(SLOTS))
    return next((base for base in bases if base not in taken), None)


def _base_in_use(site: Site) -> int | None:
    """The id range that the project's containers were made with, from the id maps in their OCI configs."""
    mark = b'"hostID": '
    bundles = os.path.join(site.data_dir, CONTAINERS)
    for name in sorted(os.listdir(bundles)):
        try:
            with open(os.path.join(bundles, name, "spec.json"), "rb") as file:
                _, *found = file.read().split(mark)
        except OSError:
            continue
        for text in found:
            digits = text[: len(text) - len(text.lstrip(b"0123456789"))]
            if digits and _is_base(int(digits)):
                return int(digits)
    return None
