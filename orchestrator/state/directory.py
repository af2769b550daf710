"""Where things are on disk.

    DATA/                       /var/lib/pystack (0700)
      images/                   skeletons and layers, shared by all projects
      volumes/FULL_NAME/_data   named and anonymous volumes
      projects/NAME/            a project's own: Site.data_dir
        lock  ids  wanted.json  records.journal  events.jsonl  exits.journal  supervisor.log
        containers/ID/          bundles
        logs/ID.log             what containers wrote, with ID.idx beside it
    RUN/KEY/                    /run/pystack/KEY (0700): control.sock, monitor.sock

`site_of` reads and never writes: client verbs call it. `prepare` is the supervisor's.
"""

from __future__ import annotations

import os
import stat

from orchestrator.contracts.site import IdMap, Site
from orchestrator.errors import HostError, OperationError
from orchestrator.model.keys import ProjectName, project_key, short_hash

DEFAULT_DATA = "/var/lib/pystack"
DEFAULT_RUN = "/run/pystack"

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
    try:
        with open(os.path.join(data_dir, "ids"), "rb") as file:
            base = int(file.read(32))
    except (FileNotFoundError, PermissionError, ValueError):
        base = _slot_base(int(short_hash(key, 6), 16) % SLOTS)
    return Site(project, key, data_dir, os.path.join(os.path.abspath(run_root), key), IdMap(base, ID_RANGE))


def prepare(site: Site) -> Site:
    """Make the project's directories, check their owner, and give the project an id range that no other one has.

    Raises HostError when a directory cannot be made or is not ours.
    """
    import fcntl
    from pathlib import Path  # Here, as it takes longer than all that client verbs do with this module.

    data_root = data_root_of(site)
    projects = os.path.join(data_root, "projects")
    for path in (data_root, projects, os.path.dirname(site.run_dir), site.run_dir, site.data_dir):
        make_private(path)
    for name in ("containers", "logs"):
        make_private(os.path.join(site.data_dir, name))
    recorded = Path(site.data_dir, "ids")
    if recorded.exists():
        return site
    with open(os.path.join(data_root, "lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        taken = {_read_base(str(path)) for path in Path(data_root, "projects").glob("*/ids")}
        wish = (site.ids.host_base - FIRST_ID) // ID_RANGE
        for step in range(SLOTS):
            base = _slot_base((wish + step) % SLOTS)
            if base not in taken:
                recorded.write_text(f"{base}\n")
                return Site(site.project, site.key, site.data_dir, site.run_dir, IdMap(base, ID_RANGE))
    raise OperationError(f"all {SLOTS} id ranges are in use", hint=f"remove projects below {data_root}/projects")


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
            try:
                os.mkdir(directory, 0o700)
            except FileExistsError:
                continue  # Another command was faster.
        info = os.lstat(path)
    except OSError as exc:
        raise HostError(
            f"cannot make {path}: {exc.strerror}",
            hint="run as root, or choose another place with --data-dir and PYSTACK_RUN_DIR",
        ) from exc
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid():
        raise HostError(
            f"{path} is not a directory of user {os.geteuid()}", hint="remove it, or choose another data directory"
        )


def boot_id() -> str:
    """This boot's id (random(4)): a record with another one is from before a reboot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def _slot_base(slot: int) -> int:
    return FIRST_ID + slot * ID_RANGE


def _read_base(path: str) -> int:
    try:
        with open(path, "rb") as file:
            return int(file.read(32))
    except (OSError, ValueError):
        return -1
