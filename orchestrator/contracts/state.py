"""What survives a crash: the wanted state on disk, and the volumes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum
from typing import Protocol

from orchestrator.contracts.network import Endpoint, Published
from orchestrator.contracts.runtime import Exit
from orchestrator.model.chaos import Injection
from orchestrator.model.health import HealthCheck
from orchestrator.model.job import Schedule
from orchestrator.model.manual import Manual
from orchestrator.model.names import ContainerId, Instance, Role, ServiceName
from orchestrator.model.network import Network
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.model.volume import Volume
from orchestrator.values import field, frozen


class Wanted(Enum):
    """What the user asked for; separate from what is."""

    RUNNING = "running"
    STOPPED = "stopped"
    """By ``stop``: stays stopped, also under ``always`` and ``unless-stopped``."""


@frozen
class Definition:
    """What a container was made from, and how it is kept: fixed until it is replaced, whatever the files say by now.

    `image`: the image's identity. `check`: the health check in force. `stop_signal`: a signal's number.
    """

    service: Service
    image: str = ""
    check: HealthCheck | None = None
    stop_signal: int = 15


@frozen
class ContainerRecord:
    """One container as it was last decided. `config_hash`: of what it was made from (`plan.hashing`).

    Written as an intent, before anything of the container exists. `boot_id`: of the boot during which it was made or last
    started.
    `gave_up`: why the restart policy stopped restarting it ("" while it has not); `refused`: the exit code of a start that
    was refused, 0 of one that was not. `created_at`: epoch seconds, display.
    `ran_against`: for each service it depends on and volume it uses, what stood there when it last started: container names
    with their `created_at`, or the volume's identity. `auto_remove`: it goes when it ends (``run --rm``). `own_name_only`:
    it does not answer to its service's names (``run`` without ``--use-aliases``). `paused`: its processes stand still, or
    are about to; those of its next run do not. `prepared`: which ``pre_start`` has been done for it
    (`plan.hashing`), "": none. `greeted`: the number of the last run that had its ``post_start``. `reconnecting`: it is
    being brought to `endpoints` from others, and is anywhere in between. `manual`: what of its networks is not as its
    definition says. `faults`: those on purpose that it has (`scheduler.chaos`), by id: they end with their supervisor.
    `due_at`: of a job's run that its schedule made, the instant (epoch seconds) that it is for; 0.0: it was run by hand.
    `halted`: it was stopped for as long as the machine is down.
    `succeeds`: the container in whose place it is to be, while there are both (`scheduler.rolling`); `took_over`: it is
    there, and the other one has only to go.
    `forgiven`: of its `restarts`, those that do not count. `frozen_for`: it is `paused` until these are back
    (`scheduler.cascade`).
    """

    container: ContainerId
    instance: Instance
    definition: Definition
    config_hash: str = ""
    wanted: Wanted = Wanted.RUNNING
    endpoints: tuple[Endpoint, ...] = ()
    published: tuple[Published, ...] = ()
    restarts: int = 0
    last_exit: Exit | None = None
    gave_up: str = ""
    refused: int = 0
    created_at: float = 0.0
    boot_id: str = ""
    ran_against: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    auto_remove: bool = False
    own_name_only: bool = False
    paused: bool = False
    prepared: str = ""
    greeted: int = 0
    reconnecting: bool = False
    manual: Manual = Manual()
    faults: Mapping[str, Injection] = field(default_factory=dict)
    forgiven: int = 0
    frozen_for: tuple[ContainerId, ...] = ()
    due_at: float = 0.0
    halted: bool = False
    succeeds: ContainerId = ContainerId("")
    took_over: bool = False

    @property
    def announced(self) -> bool:
        """Whether it answers to names and has host ports."""
        return self.took_over or not self.succeeds

    @property
    def surplus(self) -> ContainerId:
        """Which of the two goes when whoever is at work on them does not go on; "": there are no two."""
        return self.succeeds if self.took_over or not self.succeeds else self.container


def in_order(records: Iterable[ContainerRecord]) -> list[ContainerRecord]:
    """Replicas by their numbers, then one-offs. Of two replicas in one place that comes first which is answered with: with
    ``--index`` somebody means that one."""
    found = list(records)
    surplus = {item.surplus for item in found}
    return sorted(
        found, key=lambda item: (item.instance.role is not Role.REPLICA, item.instance.number, item.container in surplus)
    )


@frozen
class Armed:
    """A job whose schedule is in force, as the stack had it when that began, whatever is recorded of it since.
    `decided_at`: for each entry of the schedule, until when what was due has been decided on. `waiting`: for which instants
    runs are due that have not been made yet. All in epoch seconds."""

    definition: Service
    schedule: tuple[Schedule, ...]
    decided_at: tuple[float, ...]
    waiting: tuple[float, ...] = ()


@frozen
class Finding:
    """Something on disk that is not as it was written: the file, what is wrong with it, and what was done about it."""

    file: str
    what: str
    done: str

    def __str__(self) -> str:
        return f"{self.file} {self.what}: {self.done}"


@frozen
class ProjectRecord:
    """`project`: the whole stack as last given. `networks`: those that exist, as they were made. `jobs`: those whose
    schedules are in force."""

    project: Project
    containers: tuple[ContainerRecord, ...] = ()
    networks: tuple[Network, ...] = ()
    jobs: Mapping[ServiceName, Armed] = field(default_factory=dict)


class Records(Protocol):
    """The project's records. All methods are synchronous and small; the caller is the project's only writer (it holds the
    project's lock). Raise HostError when the disk refuses."""

    def load(self) -> ProjectRecord | None:
        """What was recorded, or None if nothing is known of the project. What is damaged never raises: it is left out, and
        `findings` tells. Raises OperationError for records of a newer version, HostError when the disk refuses."""
        ...

    def findings(self) -> tuple[Finding, ...]:
        """What the last `load` found damaged. The files are kept aside by the next `commit`."""
        ...

    def commit(self, record: ProjectRecord) -> None:
        """Replace everything, durably: the intent before the side effects. Once per operation, not once per container."""
        ...

    def update(self, record: ContainerRecord) -> None:
        """Replace or add one container's record; survives a killed process, not a power cut."""
        ...

    def forget(self, container: ContainerId) -> None:
        """Drop one container's record."""
        ...

    def clear(self) -> None:
        """The project is gone: remove all its records and directories except volumes."""
        ...


class Volumes(Protocol):
    """Named and anonymous volumes: directories that outlive containers. Named ones are shared by all projects of a data
    directory, anonymous ones belong to a container of one project. Raise HostError when the disk refuses."""

    def ensure(self, volume: Volume) -> str:
        """The volume's directory, made if it is missing, and mounted if it has options: then it may block for long.
        Raises OperationError for a missing external volume, for options that it was not made with, and when it cannot be
        mounted."""
        ...

    def check(self, volume: Volume) -> None:
        """Changes nothing. Raises the OperationError with which `ensure` would refuse `volume` as things are."""
        ...

    def ensure_anonymous(self, container: ContainerId, target: str, labels: Mapping[str, str] | None = None) -> str:
        """The directory of the container's anonymous volume at `target`. `labels`: of one that is made now."""
        ...

    def release(self, volume: Volume) -> None:
        """No container of this project uses `volume` any more: what was mounted for its options is unmounted, unless
        another project uses it. Raises OperationError."""
        ...

    def existing(self, volumes: Sequence[Volume]) -> tuple[Volume, ...]:
        """Those of `volumes` that exist."""
        ...

    def identity(self, volume: Volume) -> str | None:
        """What tells this volume from one of the same name that comes after its removal; None if it does not exist."""
        ...

    def owned(self) -> tuple[Volume, ...]:
        """The named volumes that this project made, known without any record of it."""
        ...

    def remove(self, volume: Volume) -> bool:
        """Delete the volume and its content; False if it did not exist. External volumes are never removed."""
        ...

    def with_anonymous(self, containers: Collection[ContainerId]) -> frozenset[ContainerId]:
        """Those of `containers` that have anonymous volumes."""
        ...

    def remove_anonymous(self, container: ContainerId) -> None:
        """Delete the anonymous volumes of a container."""
        ...

    def remove_unclaimed(self, containers: Collection[ContainerId]) -> int:
        """Delete the anonymous volumes of all containers of the project but these; how many there were."""
        ...

    def take_over(self, containers: Collection[ContainerId]) -> tuple[Finding, ...]:
        """Make the anonymous volumes that version 1 named by the container's id alone this project's, for its recorded
        `containers`; the findings tell which ones were left, because another project has a container of that id."""
        ...
