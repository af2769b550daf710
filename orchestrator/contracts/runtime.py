"""The runtime as the scheduler sees it.

A **container** is a sandbox (directory, cgroup, user and network namespace, writable layer, log) that outlives the
**runs** (processes with fresh pid, mnt, uts, ipc and cgroup namespaces) inside it: a restart is a new run in the same
sandbox, with the same address, files and log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NewType, Protocol

from orchestrator.model.health import Look, ProbeResult
from orchestrator.model.names import ContainerId
from orchestrator.values import field, frozen

OciConfig = NewType("OciConfig", dict[str, Any])
"""An OCI runtime config (runtime-spec, config.md), JSON-ready. Compiled by `plan.oci`, compiled further by `runtime`."""


@frozen
class GeneratedFile:
    """A file that the runtime writes into the bundle and binds over `path` in the container (``/etc/hosts``). `content`
    None: what the container was made with before. `uid`, `gid`: the container's."""

    path: str
    content: bytes | None = field(default=None, repr=False)
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


@frozen
class VolumeFill:
    """Copy the image's content below `image_path` into `directory` (on the host) if that is empty, before the first run."""

    image_path: str
    directory: str


@frozen
class LogPolicy:
    """`kept` False: nothing is. `max_bytes` 0: all is, in one file; else a file of that size is followed by another, and
    `max_files` of them are kept; those that a reader has still to read are kept longer, up to `held_bytes` more (0: however
    many)."""

    max_bytes: int = 0
    max_files: int = 1
    kept: bool = True
    held_bytes: int = 1 << 30


@frozen
class SandboxSpec:
    """Everything a container is made of. `lowers`: image layers, topmost first. `config.root.path` is not used: the root
    is an overlay of `lowers` and a private upper directory in the bundle. `shares`: the type of a namespace (``network``,
    ``pid``, ``ipc``) -> the container whose it is: of this project, or else of another one of the same data directory. The
    network namespace is of the other's sandbox, the others are of its run. Who is in another's network has its files of
    `oci.namespaces.NETWORK_FILES` too: those that have no content here. `stdin_open`: its stdin is a pipe that stays open;
    of no use with a terminal, which does."""

    container: ContainerId
    lowers: tuple[str, ...]
    config: OciConfig
    files: tuple[GeneratedFile, ...] = ()
    fills: tuple[VolumeFill, ...] = ()
    log: LogPolicy = LogPolicy()
    shares: Mapping[str, ContainerId] = field(default_factory=dict)
    stdin_open: bool = False


@frozen
class Exit:
    """How a run ended. Exactly one of `code` and `signal` is set, or neither when the status was lost (``lost``).

    `oom_killed`: its PID 1 was killed for want of memory, or ended as one does whose program was. `oom_kills`: how many
    of its processes were, that one too.
    `peak_bytes`: the most memory that the container has used so far; None when the machine does not say. ``*_stalled_s``:
    for how long, in this run, a process of it waited for processors, memory or disks (PSI, "some").
    """

    code: int | None = None
    signal: int | None = None
    oom_killed: bool = False
    finished_at: float = 0.0
    """Seconds since the epoch, for display."""
    oom_kills: int = 0
    peak_bytes: int | None = None
    cpu_stalled_s: float = 0.0
    memory_stalled_s: float = 0.0
    io_stalled_s: float = 0.0

    def is_end_of(self, other: Exit) -> bool:
        """Whether both are of one and the same run of a container, whatever is known beside."""
        return (self.code, self.signal, self.finished_at) == (other.code, other.signal, other.finished_at)

    @property
    def lost(self) -> bool:
        return self.code is None and self.signal is None

    @property
    def status(self) -> int:
        """The shell's view: the code, 128 + signal, or 255 when lost."""
        if self.code is not None:
            return self.code
        return 128 + self.signal if self.signal is not None else 255

    @property
    def ok(self) -> bool:
        return self.code == 0


@frozen
class Run:
    """One run. `number` counts from 1 within the container; `pid` is the host's; `started_at`: epoch seconds, display.
    `warnings`: what of it is not quite as it was asked for, in sentences; known to who started it."""

    container: ContainerId
    number: int
    pid: int
    started_at: float
    warnings: tuple[str, ...] = ()


@frozen
class FirstProcess:
    """What a run began with, as it is now. `name`: of its program, at most 15 bytes (comm in proc_pid_comm(5)). `pid`: in
    its own pid namespace. `handled`, `ignored`: sets of signals, by number (proc_pid_status(5), SigCgt and SigIgn)."""

    name: str
    pid: int
    handled: frozenset[int] = frozenset()
    ignored: frozenset[int] = frozenset()

    def ignores(self, number: int) -> bool:
        """Also by having no handler, where it is an init: pid_namespaces(7)."""
        return number in self.ignored or (self.pid == 1 and number not in self.handled)


@frozen
class ContainerState:
    """What the runtime knows of a container that exists. `run` is the running one; `last` the last that ended."""

    container: ContainerId
    run: Run | None = None
    last_run: int = 0
    last_exit: Exit | None = None


@frozen
class ExecSpec:
    """A further process in a running container. None: as the container's main process has it.

    `stdio`: three file descriptors of the caller's, which stay the caller's; they are given to the process's user, if they
    are pipes. None: /dev/null. `tty`: instead, a pty of the container's own devpts, of `rows` and `columns` (0: as it
    comes), whose master is handed out by `Runtime.exec`'s `on_tty`. `privileged`: with all capabilities. `name`: letters;
    what was begun under it before, by a supervisor that was killed, is ended first.
    """

    argv: tuple[str, ...]
    stdio: tuple[int, int, int] | None = None
    environment: Mapping[str, str] | None = None
    """Added to the container's environment."""
    working_dir: str | None = None
    user: str | None = None
    tty: bool = False
    rows: int = 0
    columns: int = 0
    privileged: bool = False
    name: str = ""


class Execution(Protocol):
    """A process of `Runtime.exec`, from when it was executed."""

    def signal(self, number: int) -> None:
        """SIGINT and SIGQUIT go to its process group, as a terminal's keys do. Nothing happens to one that has ended."""
        ...

    def release(self) -> None:
        """Cancelling the call no longer ends it."""
        ...


ExecSink = Callable[[Execution], None]


@frozen
class Attachment:
    """The standard input of `run`. `fd`: to write to it, the receiver's and non-blocking; -1: there is none. `tty`: that is
    the master of its terminal, whose size may be set; it must not be read. `stdin`: what is written is meant to be read."""

    run: Run
    fd: int = -1
    tty: bool = False
    stdin: bool = False


class TtySink(Protocol):
    def __call__(self, master_fd: int, /) -> None:
        """Receives the pty's master; the receiver owns it."""
        ...


class Runtime(Protocol):
    """All containers of one project. Every method raises HostError when the machine refuses (the errno is in the text)."""

    async def create(self, spec: SandboxSpec) -> int:
        """Make the sandbox, or make it anew after its left-overs or after a crash; returns the network namespace's file
        descriptor (owned by the runtime, valid until `remove`), or -1 where that is not the project's. An existing writable
        layer of the same id is kept. Raises InputError for a config with a key that this runtime does not do
        (`oci.validate`): none is ignored; and OperationError for a file without content that no bundle has, and for one of
        `shares` that does not exist."""
        ...

    async def start(
        self,
        container: ContainerId,
        *,
        stdin: int | None = None,
        on_tty: TtySink | None = None,
        size: tuple[int, int] = (0, 0),
    ) -> Run:
        """A new run; returns once its program has been executed. Raises CommandError (126, 127) when it cannot be,
        OperationError when a run is still alive, or when one of `shares` does not run whose run it needs.

        `stdin`: a descriptor of the caller's, which stays the caller's; without one it is a pipe that stays open, where the
        spec says so, else /dev/null. With ``process.terminal`` stdin, stdout and stderr are a terminal of the container's
        own, of `size` (rows, columns; 0: as it comes), which is its controlling terminal too; what it shows is the run's
        log. `on_tty`: it has a terminal in any case, and `on_tty` gets its master before this returns, and owns it (and
        sets its size); the run's log stays empty. Not both `stdin` and `on_tty`."""
        ...

    async def prepare(self, container: ContainerId) -> None:
        """Do all of the next `start` that can be done before its time, to be followed soon by that or by `unprepare`.
        Changes nothing that can be seen; what is wrong, `start` will say. While there is a run, it waits for its end."""
        ...

    async def unprepare(self, container: ContainerId) -> None:
        """Nothing of what `prepare` has done is left. Also done by `create` and `remove`."""
        ...

    async def attach(self, container: ContainerId) -> Attachment:
        """The standard input of the run. Raises OperationError when there is none."""
        ...

    async def wait(self, run: Run) -> Exit:
        """Returns when `run` has ended and its log has been read to the end. Any number of callers; at once if it
        ended before, also before a restart of the supervisor."""
        ...

    async def signal(self, container: ContainerId, number: int) -> None:
        """Send a signal to the run's PID 1. Nothing happens if there is no run."""
        ...

    async def first_process(self, container: ContainerId) -> FirstProcess | None:
        """The run's; None if there is no run, or it is just ending."""
        ...

    async def kill(self, container: ContainerId) -> None:
        """End every process of the container at once (cgroup.kill). Nothing happens if there is no run."""
        ...

    async def pause(self, container: ContainerId) -> None:
        """Let the run's processes stand still until `resume`, whoever lives; signals wait, but for SIGKILL. Returns when
        they do; nothing happens if they did. Raises OperationError when there is no run, or one cannot be stopped in time:
        then they go on."""
        ...

    async def resume(self, container: ContainerId) -> None:
        """Let them go on. Nothing happens if they do. To be called before the `start` that follows the end of a run that
        was paused."""
        ...

    async def exhaust(self, container: ContainerId) -> None:
        """Have the kernel's OOM killer end the run's PID 1: for a moment its limit of memory is one that it cannot keep.
        Returns when it has ended and the limits are as they were. What else is in the container may be killed before.
        Raises OperationError when there is no run, or where the kernel would kill nobody."""
        ...

    async def probe(self, container: ContainerId, argv: Sequence[str], timeout_s: float) -> ProbeResult:
        """Run a health probe in the container; after `timeout_s` the probe and all its children are killed.
        A command that cannot be executed gives exit code 126 or 127 with the reason as output; never raises for it."""
        ...

    async def look(self, container: ContainerId, wanted: Look, timeout_s: float) -> ProbeResult:
        """Look at the run from outside, from its network namespace where that matters; nothing is executed in it, and it
        cannot hold up the caller beyond `timeout_s`, whatever it does. Exit code 0: it is so; 1, with the reason as output:
        it is not; None: there was no answer in time. What is looked at `once` returns when it is so; of the log only what
        this run has written counts. Raises OperationError when there is no run."""
        ...

    async def exec(
        self, container: ContainerId, spec: ExecSpec, on_tty: TtySink | None = None, on_start: ExecSink | None = None
    ) -> Exit:
        """Run a process in the container until it ends (cancelling kills it, unless it was released). `on_start` is called
        once it has been executed. Raises OperationError when the container does not run, or ends before the process did
        (exit code 137), CommandError when the command cannot be executed."""
        ...

    async def update(self, container: ContainerId, resources: Mapping[str, Any]) -> None:
        """Give a container these limits, an OCI ``linux.resources``, in place of all that it had: those of its run change
        at once, later runs begin with them. Raises InputError for what this runtime does not do, HostError when the machine
        refuses, and nothing has changed then; OperationError when there is no such container."""
        ...

    async def renew_files(self, container: ContainerId, files: Sequence[GeneratedFile]) -> None:
        """Those of `files` that a container was made with have these contents from now on: in its run at once, if it has
        not put others in their places, and in later runs. All have a content. Raises OperationError when there is no such
        container."""
        ...

    async def remove(self, container: ContainerId) -> None:
        """Remove everything of the container: processes, cgroups, namespaces, writable layer, files, log. Does it for
        left-overs too. Tries everything, then raises what went wrong."""
        ...

    async def containers(self) -> tuple[ContainerState, ...]:
        """What exists, sorted by id."""
        ...

    def on_unlogged(self, tell: Callable[[ContainerId, int, str], None]) -> None:
        """From now on `tell` gets how many bytes of a container's output could not be written to its log since it was last
        told, and why; of one container at once, and then every ten seconds and at the run's end."""
        ...
