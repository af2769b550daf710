"""`create`, `start` and `run` (docs/oci-cli.md has the order of every step)."""

from __future__ import annotations

import os
import struct
import time

from orchestrator.errors import CommandError, InputError, OperationError, PystackError
from orchestrator.kernel import pidfd, process
from orchestrator.kernel.cgroup import pause as wait_a_moment
from orchestrator.kernel.identity import own_uid
from orchestrator.kernel.jsontext import dumps
from orchestrator.kernel.syscalls import cloexec_from
from orchestrator.standalone import preparing
from orchestrator.standalone.bearing import apply_to_process, raise_limits
from orchestrator.standalone.birth import MOST_WORD, Birth
from orchestrator.standalone.command_line import Line
from orchestrator.standalone.configs import check_config, complete_mappings, read_config
from orchestrator.standalone.ending import destroy, run_poststart, run_poststop
from orchestrator.standalone.filters import add_filter
from orchestrator.standalone.first_process import FAILED, GO, HOOKS, ON, READY, START, FirstProcess
from orchestrator.standalone.foreground import Foreground
from orchestrator.standalone.groups import Group, path_of
from orchestrator.standalone.hooks import failure_of, hooks_of, run_hooks
from orchestrator.standalone.identities import identity_of
from orchestrator.standalone.journal import Journal
from orchestrator.standalone.mapping import lines_of, write_maps
from orchestrator.standalone.namespaces import Namespaces, bear, namespaces_of
from orchestrator.standalone.places import layout_of, records_of
from orchestrator.standalone.plans import Plan
from orchestrator.standalone.records import (
    CREATED,
    CREATING,
    NOTIFY,
    Record,
    StateRoot,
    boot_id,
    check_name,
    is_being_made,
    listen,
    open_process,
    read_terminal_socket,
)
from orchestrator.standalone.stating import state_of, status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    import socket
    from collections.abc import Callable, Mapping
    from typing import Any

    from orchestrator.standalone.configs import Config
    from orchestrator.standalone.notifying import Readiness
else:  # It would make enumerations of all that it has
    import _signal as signal

_NOT_FOUND, _NOT_EXECUTABLE = (2, 20), (13, 8)
_MOST_KEPT = 1 << 16
_MADE_S = 10.0
_SEE_ROOT = ("prestart", "createRuntime", "createContainer")
_KEEP_GROUPS, _TELL_PIDFD = "run.oci.keep_original_groups", "run.oci.pidfd_receiver"
"""Annotations, as crun has them: the supplementary groups stay the caller's; who is sent a pidfd of the container."""


def create(line: Line, journal: Journal) -> int:
    creation = Creation(line, journal)
    with creation.undone_on_failure():
        creation.prepare()
        creation.bear()
    return 0


def run(line: Line, journal: Journal) -> int:
    """The container's exit code, unless it is detached."""
    detached = line.flag("detach")
    creation = Creation(line, journal, foreground=not detached)
    keep = line.flag("keep")
    with creation.undone_on_failure():
        creation.prepare()
        creation.bear()
        if creation.foreground is not None:
            creation.foreground.hold()
        readiness = readiness_of(creation.records, creation.record.id)
        begin(creation.control, creation.record)
        run_poststart(creation.record, creation.config)
    if detached:
        wait_until_ready(readiness, creation.record)
        return 0
    assert creation.foreground is not None
    creation.foreground.readiness = readiness
    code = creation.foreground.wait(creation.record.pid)
    if not keep:
        destroy(creation.records, creation.record, journal)
    return code


def start(line: Line, journal: Journal) -> int:
    records = records_of(line)
    record = _once_made(records, line.words[0])
    channel = records.connect(record.id)
    if channel is None or not record.made:
        status = status_of(records, record)
        if channel is not None:
            channel.close()
        raise OperationError(f"cannot start a container in the {status} state: {record.id}")
    config = records.read_config(record.id)
    try:
        readiness = readiness_of(records, record.id)
        begin(channel, record)
    except PystackError:
        if (fd := open_process(record)) is not None:
            pidfd.send(fd, signal.SIGKILL)
            os.close(fd)
        raise
    try:
        run_poststart(record, config)
    except OperationError:
        destroy(records, record, journal)
        raise
    wait_until_ready(readiness, record)
    return 0


def _once_made(records: StateRoot, name: str) -> Record:
    """The record, when its `create` has come to an end: whoever saw it in `list` need not wait for that."""
    record, waited_s, pause_s = records.read(name), 0.0, 0.001
    while is_being_made(record) and waited_s < _MADE_S:
        wait_a_moment(pause_s)
        waited_s, pause_s = waited_s + pause_s, min(pause_s * 2, 0.02)
        record = records.read(name)
    return record


COMMANDS: Mapping[str, Callable[[Line, Journal], int]] = {"create": create, "run": run, "start": start}


def readiness_of(records: StateRoot, name: str) -> Readiness | None:
    """The container's socket, where its `create` was asked for one and we are told whom to tell."""
    caller = os.environ.get("NOTIFY_SOCKET")
    if not caller or not os.path.isdir(records.path(name, NOTIFY)):
        return None
    from orchestrator.standalone.notifying import Readiness

    return Readiness(records, name, caller)


def wait_until_ready(readiness: Readiness | None, record: Record) -> None:
    """As systemd has it of a command that starts a service: it ends when that is ready, or has ended."""
    if readiness is None:
        return
    if (process := open_process(record)) is not None:
        readiness.wait(record.pid, process)
        os.close(process)
    readiness.close()


def begin(channel: socket.socket, record: Record) -> None:
    """Tell the first process to go on, and wait until it is the user's program. Raises CommandError, OperationError."""
    try:
        channel.send(START)
        said = channel.recv(MOST_WORD)
    except (BrokenPipeError, ConnectionResetError):
        raise OperationError(f"container {record.id} is not running any more") from None
    if said:
        raise failure(said)
    channel.close()


def failure(said: bytes) -> PystackError:
    """What the first process said that it could not do."""
    if said[:1] != FAILED or len(said) < 5:
        return OperationError(f"the container's first process says {said[:20]!r}")
    (number,) = struct.unpack("=i", said[1:5])
    about = os.fsdecode(said[5:])
    reason = os.strerror(number) if number else "an internal error"
    if about.startswith(("execute ", "executable file")):
        code = 127 if number in _NOT_FOUND else 126
        what = about if about.startswith("executable") else f"cannot {about}"
        return CommandError(f"{what}: {reason}", exit_code=code if number in (*_NOT_FOUND, *_NOT_EXECUTABLE) else 1)
    return OperationError(f"cannot {about}: {reason}")


class Creation:
    """One `create`. `control`: to the first process, until it is told to begin."""

    control: socket.socket

    def __init__(self, line: Line, journal: Journal, *, foreground: bool = False) -> None:
        self.line, self.journal = line, journal
        self.records = records_of(line)
        self.is_run = line.command == "run"
        self.foreground = Foreground() if foreground else None
        self.group: Group | None = None
        self.config: Config = {}
        self.claimed = False
        self.record = Record(line.words[0], "")
        self.kept = kept_descriptors(line)
        self.namespaces = Namespaces()
        self.plan: Plan | None = None

    def undone_on_failure(self) -> Undo:
        return Undo(self)

    # ---- before it is born ----------------------------------------------------------------------------------------

    def prepare(self) -> None:
        line = self.line
        check_name(self.record.id)
        bundle = os.path.abspath(line.text("bundle") or ".")
        config = self.config = read_config(os.path.join(bundle, line.text("config") or "config.json"))
        check_config(config)
        complete_mappings(config, own_uid(), os.getegid())
        if config.get("process") is None:
            raise InputError("process is missing")
        layout = layout_of(line)
        self.namespaces = namespaces_of(config)
        record = self.record
        record.bundle = bundle
        record.rootfs = os.path.join(bundle, config["root"]["path"])
        record.created = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime())}.{time.time_ns() % 10**9:09d}Z"
        record.oci_version, record.annotations = config["ociVersion"], config.get("annotations") or {}
        record.boot, record.owner = boot_id(), own_uid()
        record.creator = os.getpid()
        record.creator_ticks = pidfd.start_time(record.creator) or 0
        if layout is not None:
            self.group = Group(layout, path_of(config, record.id))
        terminal = bool(config["process"].get("terminal"))
        self._check_terminal(terminal)
        self.records.claim(record.id)
        self.claimed = True
        if self.group is not None:
            self.group.check_unused()
            record.cgroup = self.group.path  # From here on it is ours, to be killed and removed.
        self.records.write(record)
        self.records.write_config(record.id, config)
        if self.group is not None:
            self.group.make()
            self.group.limit((config.get("linux") or {}).get("resources") or {}, devices=True)
        elif (config.get("linux") or {}).get("resources"):
            self._without_groups((config["linux"] or {})["resources"])
        self.plan = self._plan(layout, terminal)

    def _without_groups(self, resources: Mapping[str, Any]) -> None:
        if any(value for key, value in resources.items() if key != "devices"):
            self.journal.warn("there are no control groups (--cgroup-manager=disabled): linux.resources has no effect")

    def _check_terminal(self, terminal: bool) -> None:
        console = self.line.text("console-socket")
        if console and not terminal:
            raise InputError("cannot use console socket if the runtime will not allocate a tty")
        if terminal and not console and self.foreground is None:
            message = "cannot allocate tty if the runtime will detach without setting console socket"
            raise InputError(message, hint="use --console-socket")

    def _plan(self, layout: Any, terminal: bool) -> Plan:
        config, record, line = self.config, self.record, self.line
        linux: Mapping[str, Any] = config.get("linux") or {}
        configured = config["process"]
        in_user = bool(self.namespaces.user >= 0 or "user" in {item["type"] for item in linux.get("namespaces") or ()})
        identity = identity_of(configured, linux, self.journal.warn)
        identity.kept = self.kept
        identity.set_groups = record.annotations.get(_KEEP_GROUPS) not in ("1", "true")
        if os.environ.get("LISTEN_FDS"):
            identity.variables.setdefault(b"LISTEN_FDS", os.environb[b"LISTEN_FDS"])
            identity.variables.setdefault(b"LISTEN_PID", b"1")
        add_filter(identity, linux.get("seccomp"), state_of(record, CREATING))
        propagation = linux.get("rootfsPropagation") or ""
        own = {item["type"]: item.get("path") for item in linux.get("namespaces") or ()}
        plan = Plan(
            listener=None if self.is_run else listen(self.records.path(record.id)),
            root=preparing.open_root(record.rootfs, propagation),
            identity=identity,
            new_user="user" in own and not own["user"],
            new_network="network" in own and not own["network"],
            new_cgroup=self.namespaces.new_cgroup and layout is not None,
            own_mounts="mount" in own,
            mount_path=self.namespaces.mount,
            keyring=not line.flag("no-new-keyring"),
            hostname=(config.get("hostname") or "").encode(),
            domainname=(config.get("domainname") or "").encode(),
            root_propagation=preparing.propagation_of(propagation),
            root_read_only=bool(config["root"].get("readonly")),
            mounts=preparing.mounts_of(config, record.bundle, record.cgroup or None, layout),
            devices=preparing.devices_of(config, in_user_namespace=in_user),
            dev_links=preparing.needs_devices(config),
            masked=preparing.paths_of(linux.get("maskedPaths")),
            read_only=preparing.paths_of(linux.get("readonlyPaths")),
            sysctls=preparing.sysctls_of(config),
            bundle=record.bundle,
            shown_at=record.rootfs if hooks_of(config, *_SEE_ROOT) else "",
            create_hooks=hooks_of(config, "createContainer"),
            start_hooks=hooks_of(config, "startContainer"),
            terminal=terminal,
            pivot=not line.flag("no-pivot"),
        )
        caller = os.environ.get("NOTIFY_SOCKET", "")
        if caller.startswith("/"):
            from orchestrator.standalone import notifying

            plan.mounts.append(notifying.make_place(self.records, record.id, caller))
            identity.variables[b"NOTIFY_SOCKET"] = os.fsencode(os.path.join(caller, NOTIFY))
        plan.state = {status: _template(record, status) for status in (CREATING, CREATED)}
        if terminal:
            size = configured.get("consoleSize")
            if size:
                plan.size = size.get("height") or 0, size.get("width") or 0
            path = line.text("console-socket")
            plan.console = read_terminal_socket(path) if path else self._own_console(plan)
        return plan

    def _own_console(self, plan: Plan) -> socket.socket:
        assert self.foreground is not None
        return self.foreground.take_terminal(plan.size)

    # ---- birth ----------------------------------------------------------------------------------------------------

    def bear(self) -> None:
        """Until it waits for `start`. Raises HostError, OperationError, CommandError."""
        plan, record = self.plan, self.record
        assert plan is not None
        birth = Birth(self.group, direct=self.namespaces.user < 0)
        self.control = birth.give(
            lambda cgroup: bear(self.namespaces, cgroup),
            lambda control: FirstProcess(plan, birth, control).run(),
            failure,
            self._note,
        )
        pid = birth.pid
        if plan.listener is not None:
            plan.listener.close()
        linux = self.config.get("linux") or {}
        if plan.new_user:
            write_maps(pid, lines_of(linux["uidMappings"]), lines_of(linux["gidMappings"]))
        raise_limits(pid, plan.identity.limits)
        apply_to_process(pid, self.config["process"])
        self._say(GO + struct.pack("=i", pid))
        self._hear(HOOKS)
        hooks = hooks_of(self.config, "prestart", "createRuntime")
        if hooks:
            try:
                run_hooks(hooks, dumps(state_of(record, CREATING)).encode(), record.bundle)
            except OSError as exc:
                raise OperationError(failure_of("prestart or createRuntime", exc)) from exc
        self._say(ON)
        self._hear(READY)
        record.made = True
        self.records.write(record)
        if path := self.line.text("pid-file"):
            write_pid_file(path, pid)
        if receiver := record.annotations.get(_TELL_PIDFD):
            from orchestrator.standalone.notifying import send_pidfd

            send_pidfd(receiver, pid)
        if self.foreground is not None and plan.terminal and not self.line.text("console-socket"):
            self.foreground.receive_terminal()

    def _note(self, pid: int) -> None:
        self.record.pid = pid
        self.record.start_ticks = pidfd.start_time(pid) or 0
        self.records.write(self.record)

    def _say(self, word: bytes) -> None:
        try:
            self.control.send(word)
        except (BrokenPipeError, ConnectionResetError):
            self._hear(b"")

    def _hear(self, word: bytes) -> None:
        try:
            said = self.control.recv(MOST_WORD)
        except ConnectionResetError:  # It has not heard what it was told.
            said = b""
        if not said:
            raise OperationError("the container's first process was killed")
        if said[:1] != word:
            raise failure(said)


class Undo:
    """What a failed creation has made goes away; its poststop hooks run where its first hooks may have."""

    def __init__(self, creation: Creation) -> None:
        self.creation = creation

    def __enter__(self) -> None:
        process.set_not_dumpable()

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        creation = self.creation
        if exc is None:
            return
        if creation.foreground is not None:
            creation.foreground.restore()
        if not creation.claimed:
            return
        if creation.record.pid:
            run_poststop(creation.records, creation.record, creation.config, creation.journal, kill=True)
        destroy(creation.records, creation.record, creation.journal, hooks=False)


def _template(record: Record, status: str) -> bytes:
    """The state, with %d for the pid."""
    before = record.pid
    record.pid = -1
    text = dumps(state_of(record, status)).replace("%", "%%").replace('"pid": -1', '"pid": %d')
    record.pid = before
    return text.encode()


def kept_descriptors(line: Line) -> list[int]:
    """Of ``--preserve-fds N`` and LISTEN_FDS those that are open; all others are close-on-exec from here on."""
    count = 0
    for text in (line.text("preserve-fds") or "0", os.environ.get("LISTEN_FDS") or "0"):
        if not text.isdigit() or int(text) > _MOST_KEPT:
            raise InputError(f"{text!r} is not a number of descriptors")
        count += int(text)
    kept = []
    own = {int(name) for name in os.listdir("/proc/self/fd")} if count else set()
    for fd in range(3, 3 + count):
        if fd in own and _is_inherited(fd):
            kept.append(fd)
    cloexec_from(3)
    return kept


def _is_inherited(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


def write_pid_file(path: str, pid: int) -> None:
    """Whole or not at all: conmon reads it as soon as it is there."""
    folder, name = os.path.split(os.path.abspath(path))
    temporary = os.path.join(folder, f".{name}.{os.getpid()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    os.write(fd, str(pid).encode())
    os.close(fd)
    os.rename(temporary, path)
