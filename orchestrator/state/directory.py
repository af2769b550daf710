"""Where things are on disk: the one home of these names.

    DATA/                       /var/lib/pystack (0700)
      images/                   skeletons and layers, shared by all projects
      volumes/FULL_NAME/        volume.json, _data: named and anonymous volumes
      networks/NAME/            networks that projects share (network.shared_files)
      lock                      held while an id range, a volume or a shared network is given out
      projects/NAME/            a project's own: Site.data_dir, with the files of `FILES`
        containers/ID/          bundles
        logs/ID.log             what containers wrote, with ID.idx beside it
    RUN/KEY/                    /run/pystack/KEY (0700): control.sock, monitor.sock

`site_of` reads and never writes: client verbs call it, so this imports next to nothing. What makes these directories is
`state.preparation`.
"""

from __future__ import annotations

import os

from orchestrator.contracts.site import IdMap, Site
from orchestrator.kernel.plain import opener
from orchestrator.model.keys import ProjectName, check_project_name, project_key, short_hash

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
"""A project's directory: all that may be in it, and who writes it. Beside these: ``NAME.damaged-N`` (`kernel.sealed`)."""

ID_RANGE = 65536
FIRST_ID = 0x7000_0000
"""Above what distributions and systemd hand out (systemd's UIDS-GIDS: containers end at 1879048191), below 2^31."""
SLOTS = 4095


def project_directory(data_root: str, project: ProjectName) -> str:
    return os.path.join(data_root, "projects", project)


def site_of(data_root: str, run_root: str, project: ProjectName) -> Site:
    """The project's place on this machine. The id range is the recorded one, else the one its name hashes to. Raises
    InputError for a name that is too long."""
    check_project_name(project)
    data_root = os.path.abspath(data_root)
    key = project_key(data_root, project)
    data_dir = project_directory(data_root, project)
    base = recorded_base(data_dir) or base_of(int(short_hash(key, 6), 16) % SLOTS)
    return Site(project, key, data_dir, os.path.join(os.path.abspath(run_root), key), IdMap(base, ID_RANGE))


def data_root_of(site: Site) -> str:
    return os.path.dirname(os.path.dirname(site.data_dir))


def boot_id() -> str:
    """This boot's id (random(4)): a record with another one is from before a reboot."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def base_of(slot: int) -> int:
    """The first host id of range `slot`."""
    return FIRST_ID + slot * ID_RANGE


def is_base(number: int) -> bool:
    """Whether it is the first id of a range."""
    return number % ID_RANGE == 0 and 0 <= (number - FIRST_ID) // ID_RANGE < SLOTS


def recorded_base(data_dir: str) -> int | None:
    """The recorded id range; None if there is none, or the number is damaged: no change of one bit of a digit makes another
    range's first id of it."""
    try:
        with open(os.path.join(data_dir, IDS), "rb", opener=opener) as file:
            base = int(file.read(64).split(b"\n")[0])
    except (OSError, ValueError):
        return None
    return base if is_base(base) else None
