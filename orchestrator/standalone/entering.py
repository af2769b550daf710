"""`exec`: a further process in a container (docs/oci-cli.md)."""

from __future__ import annotations

import os

from orchestrator.errors import InputError, OperationError
from orchestrator.kernel import constants as c
from orchestrator.kernel import pidfd, process
from orchestrator.kernel.jsontext import loads
from orchestrator.kernel.process import clone3, setns
from orchestrator.kernel.rooted import open_in, read_small_file
from orchestrator.standalone.bearing import apply_to_process, raise_limits
from orchestrator.standalone.becoming import become, find_command
from orchestrator.standalone.birth import MOST_WORD, Birth
from orchestrator.standalone.command_line import Line
from orchestrator.standalone.configs import MOST_BYTES, check_process, check_shape
from orchestrator.standalone.filters import add_filter
from orchestrator.standalone.first_process import FAILED, GO
from orchestrator.standalone.foreground import Foreground
from orchestrator.standalone.identities import Identity, home_of, identity_of, numbers_of
from orchestrator.standalone.journal import Journal
from orchestrator.standalone.namespaces import KINDS
from orchestrator.standalone.places import group_of, records_of
from orchestrator.standalone.records import CREATED, PAUSED, RUNNING, Record, open_process, read_terminal_socket
from orchestrator.standalone.starting import failure, kept_descriptors, write_pid_file
from orchestrator.standalone.stating import state_of, status_of
from orchestrator.standalone.terminals import make_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from typing import Any, NoReturn
else:  # Both would make enumerations of all that they have
    import _socket as socket

_SETS = ("bounding", "effective", "permitted")
"""What ``--cap`` adds to; the others give a program without file capabilities nothing."""


def execute(line: Line, journal: Journal) -> int:
    """The exit code of the process, unless it is detached."""
    records = records_of(line)
    record = records.read(line.words[0])
    status = status_of(records, record)
    if status == PAUSED and not line.flag("ignore-paused"):
        raise OperationError(f"cannot exec in a paused container: {record.id}")
    if status not in (CREATED, RUNNING, PAUSED):
        raise OperationError(f"cannot exec in a {status} container: {record.id}")
    config = records.read_config(record.id)
    wanted = process_of(line, config)
    check_shape(wanted)
    check_process(wanted)
    kept = kept_descriptors(line)
    process.set_not_dumpable()
    linux = config.get("linux") or {}
    identity = identity_of(wanted, {"personality": linux.get("personality")}, journal.warn)
    identity.kept = kept
    add_filter(identity, linux.get("seccomp"), state_of(record, status))
    return _Entering(line, record, wanted, identity).run()


def process_of(line: Line, config: Mapping[str, Any]) -> dict[str, Any]:
    """The ``process``: that of ``--process``, or the container's with what the options say. Raises InputError."""
    own = dict(config.get("process") or {})
    if path := line.text("process"):
        try:
            with open(path, "rb") as file:
                given = loads(file.read(MOST_BYTES))
        except (OSError, ValueError) as exc:
            raise InputError(f"cannot read the process {path}: {exc}") from exc
        if not isinstance(given, dict):
            raise InputError(f"{path} is not a JSON object")
        wanted = given
        wanted.setdefault("cwd", "/")
        for key in ("apparmorProfile", "selinuxLabel"):
            if own.get(key):
                wanted.setdefault(key, own[key])
    else:
        if len(line.words) < 2:
            raise InputError("exec: the command is missing")
        wanted = {**own, "args": list(line.words[1:]), "terminal": False}
    if len(line.words) > 1 and line.text("process"):
        wanted["args"] = list(line.words[1:])
    return _with_options(line, wanted)


def _with_options(line: Line, wanted: dict[str, Any]) -> dict[str, Any]:
    wanted["env"] = [*(wanted.get("env") or ()), *line.texts("env")]
    if cwd := line.text("cwd"):
        wanted["cwd"] = cwd
    if line.flag("tty"):
        wanted["terminal"] = True
    if text := line.text("user"):
        uid, colon, gid = text.partition(":")
        if not uid.isdigit() or (colon and not gid.isdigit()):
            raise InputError(f"{text!r} is not of the form UID[:GID]")
        wanted["user"] = {**(wanted.get("user") or {}), "uid": int(uid)}
        if colon:
            wanted["user"]["gid"] = int(gid)
    groups = [number for text in line.texts("additional-gids") for number in numbers_of(text, "--additional-gids")]
    if groups:
        user = wanted["user"] = dict(wanted.get("user") or {})
        user["additionalGids"] = [*(user.get("additionalGids") or ()), *groups]
    if caps := line.texts("cap"):
        sets = {name: list(values or ()) for name, values in (wanted.get("capabilities") or {}).items()}
        for name in _SETS:
            sets[name] = [*sets.get(name, ()), *caps]
        wanted["capabilities"] = sets
    if line.flag("no-new-privs"):
        wanted["noNewPrivileges"] = True
    if profile := line.text("apparmor"):
        wanted["apparmorProfile"] = profile
    if label := line.text("process-label"):
        wanted["selinuxLabel"] = label
    return wanted


class _Entering:
    def __init__(self, line: Line, record: Record, wanted: Mapping[str, Any], identity: Identity) -> None:
        self.line, self.record, self.wanted, self.identity = line, record, wanted, identity
        self.detached = line.flag("detach")
        self.terminal = bool(wanted.get("terminal"))
        self.foreground = None if self.detached else Foreground()
        self.console: socket.socket | None = None
        self.about = b"begin"

    def run(self) -> int:
        line, record = self.line, self.record
        path = line.text("console-socket")
        if path and not self.terminal:
            raise InputError("cannot use console socket if the runtime will not allocate a tty")
        if self.terminal and path:
            self.console = read_terminal_socket(path)
        elif self.terminal and self.foreground is not None:
            self.console = self.foreground.take_terminal(None)
        elif self.terminal:
            message = "cannot allocate tty if the runtime will detach without setting console socket"
            raise InputError(message, hint="use --console-socket")
        target = open_process(record)
        if target is None:
            raise OperationError(f"container not running: {record.id}")
        kinds = _others(record.pid)
        place = -1 if kinds & c.CLONE_NEWNS else _root_of(record)
        affinity = self.wanted.get("execCPUAffinity") or {}
        if affinity.get("initial"):
            os.sched_setaffinity(0, numbers_of(affinity["initial"], "process.execCPUAffinity.initial"))
        if kinds & c.CLONE_NEWPID:
            setns(target, c.CLONE_NEWPID)  # Only for who is born from here on.
        below = (line.text("cgroup") or "").strip("/")
        if ".." in below.split("/"):
            raise InputError(f"--cgroup {below!r} is not below the container's cgroup")
        birth = Birth(group_of(record), f"/{below}" if below else "")
        control = birth.give(
            lambda cgroup: clone3(0, cgroup=cgroup),
            lambda control: self._child(birth, control, target, kinds & ~c.CLONE_NEWPID, place),
            failure,
        )
        pid = birth.pid
        self._attend(control, pid, affinity)
        if file := line.text("pid-file"):
            write_pid_file(file, pid)
        if self.foreground is None:
            return 0
        if self.terminal and not path:
            self.foreground.receive_terminal()
        return self.foreground.wait(pid)

    def _attend(self, control: socket.socket, pid: int, affinity: Mapping[str, Any]) -> None:
        """Until it is the user's program."""
        try:
            raise_limits(pid, self.identity.limits)
            apply_to_process(pid, self.wanted)
            if affinity.get("final"):
                os.sched_setaffinity(pid, numbers_of(affinity["final"], "process.execCPUAffinity.final"))
            if self.foreground is not None:
                self.foreground.hold()
            control.send(GO + pid.to_bytes(4, "little"))
            said = control.recv(MOST_WORD)
            if said:
                raise failure(said)
        except BaseException:
            os.kill(pid, 9)  # Our child, and not reaped.
            os.waitpid(pid, 0)
            raise

    def _child(self, birth: Birth, control: socket.socket, target: int, kinds: int, place: int) -> NoReturn:
        """As `first_process`: nothing is imported or looked up once it is in the container."""
        number = 0
        try:
            self.about = b"enter the control groups"
            birth.enter(control)
            said = control.recv(16)
            if said[:1] != GO:
                os._exit(1)
            self.identity.pid = int.from_bytes(said[1:], "little")
            self._enter(target, kinds, place)
        except OSError as exc:
            number = exc.errno or 0
        except BaseException:
            number = 0
        try:
            control.send(FAILED + number.to_bytes(4, "little") + self.about)
        finally:
            os._exit(1)

    def _enter(self, target: int, kinds: int, place: int) -> None:
        identity = self.identity
        self.about = b"enter the container's namespaces"
        if kinds:
            setns(target, kinds)
        if kinds & c.CLONE_NEWUSER:
            os.setgroups([])
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            process.set_not_dumpable()
        if place >= 0:
            os.fchdir(place)
            os.chroot(b".")
        os.setsid()
        root = os.open(b"/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if self.console is not None:
            self.about = b"make the terminal"
            make_terminal(root, self.console, identity.uid, None)
        self.about = b"enter the working directory " + identity.cwd
        fd = open_in(root, identity.cwd, os.O_PATH | os.O_DIRECTORY)  # It is made for a container alone.
        os.fchdir(fd)
        os.close(fd)
        if not os.getcwdb().startswith(b"/"):
            raise OSError(2, "")
        identity.variables.setdefault(b"HOME", home_of(identity.uid, read_small_file(root, b"/etc/passwd") or b""))
        os.close(root)
        command = find_command(identity, self._say)
        become(identity, self._say, own_stdio=self.console is None)
        self.about = b"execute " + identity.argv[0]
        os.execve(command, identity.argv, identity.variables)

    def _say(self, about: bytes) -> None:
        self.about = about


def _root_of(record: Record) -> int:
    """Where it has no mount namespace of its own. Raises OperationError."""
    try:
        root = os.open(f"/proc/{record.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        root = -1
    if root < 0 or pidfd.start_time(record.pid) != record.start_ticks:
        raise OperationError(f"container not running: {record.id}")
    return root


def _others(pid: int) -> int:
    """The flags of the namespaces that the process has and we have not."""
    kinds = 0
    for flag, name in KINDS.values():
        try:
            theirs, ours = os.stat(f"/proc/{pid}/ns/{name}"), os.stat(f"/proc/self/ns/{name}")
        except FileNotFoundError:
            continue
        if theirs.st_ino != ours.st_ino:
            kinds |= flag
    return kinds
