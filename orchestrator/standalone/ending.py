"""`kill`, `delete`, `pause` and `resume`."""

from __future__ import annotations

import os

from orchestrator.errors import InputError, OperationError
from orchestrator.kernel import cgroup, pidfd
from orchestrator.kernel.cgroup import pause as wait_a_moment
from orchestrator.kernel.jsontext import dumps
from orchestrator.standalone.command_line import Line
from orchestrator.standalone.hooks import Hook, failure_of, hooks_of
from orchestrator.standalone.hooks import run_hooks as run
from orchestrator.standalone.journal import Journal
from orchestrator.standalone.places import group_of, records_of
from orchestrator.standalone.records import CREATED, PAUSED, RUNNING, STOPPED, Record, StateRoot, is_zombie, open_process
from orchestrator.standalone.stating import state_of, status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Mapping
    from typing import Any
else:  # Both would make enumerations of all that they have
    import _signal as signal

_END_S = 10.0


def kill(line: Line, journal: Journal) -> int:
    records = records_of(line)
    from orchestrator.standalone.signals import signal_number

    number = signal_number(line.words[1] if len(line.words) > 1 else "SIGTERM")
    for record in _meant(records, line):
        _kill(records, record, number, everyone=line.flag("all"), quiet=line.flag("regex"))
    return 0


def _kill(records: StateRoot, record: Record, number: int, *, everyone: bool, quiet: bool) -> None:
    status = status_of(records, record)
    if everyone:
        group = group_of(record)
        if group is None:
            raise OperationError(f"container {record.id} has no cgroup: its processes are not known")
        if number == signal.SIGKILL:
            group.kill()
        else:
            for pid in group.pids():
                _send(pid, number)
        return
    if status not in (CREATED, RUNNING, PAUSED):
        if quiet:
            return
        raise OperationError(f"container not running: {record.id} is {status}")
    process = open_process(record)
    if process is None:
        raise OperationError(f"container not running: {record.id}")
    pidfd.send(process, number)
    os.close(process)
    if number == signal.SIGKILL and not _has_pid_namespace(records, record) and (group := group_of(record)) is not None:
        group.kill()  # Nobody else ends the others.


def _has_pid_namespace(records: StateRoot, record: Record) -> bool:
    namespaces = (records.read_config(record.id).get("linux") or {}).get("namespaces") or ()
    return any(item.get("type") == "pid" and not item.get("path") for item in namespaces)


def _send(pid: int, number: int) -> None:
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return
    pidfd.send(fd, number)
    os.close(fd)


def delete(line: Line, journal: Journal) -> int:
    records = records_of(line)
    force = line.flag("force")
    if force and not line.flag("regex") and not os.path.isdir(records.path(line.words[0])):
        return 0
    for record in _meant(records, line):
        status = status_of(records, record)
        if status != STOPPED and not force and not (status == CREATED):
            raise OperationError(
                f"cannot delete container {record.id}: it is {status}", hint="stop it, or use delete --force"
            )
        destroy(records, record, journal)
    return 0


def _meant(records: StateRoot, line: Line) -> list[Record]:
    if not line.flag("regex"):
        return [records.read(line.words[0])]
    import re  # Costs as long as a container, and few need it.

    try:
        expression = re.compile(line.words[0])
    except re.error as exc:
        raise InputError(f"{line.words[0]!r} is not a regular expression: {exc}") from exc
    return [records.read(name) for name in records.names() if expression.search(name)]


def destroy(records: StateRoot, record: Record, journal: Journal, *, hooks: bool = True) -> None:
    """End its processes, then its cgroup, its poststop hooks, and last its record: whoever is killed in between is followed
    by another `delete`. Raises HostError, OperationError."""
    config = records.read_config(record.id)
    group = group_of(record)
    if group is not None:
        group.thaw()
    _end(record)
    if group is not None:
        group.remove()
    if hooks:
        run_poststop(records, record, config, journal, kill=False)
    records.remove(record.id)


def _end(record: Record) -> None:
    process = open_process(record)
    if process is None:
        return
    try:
        pidfd.send(process, signal.SIGKILL)
        _thaw(record.pid)
        waited_s, pause_s = 0.0, 0.001
        # A zombie has ended: whoever is its parent may take as long as it likes.
        while not is_zombie(record.pid) and open_process_is(record):
            if waited_s > _END_S:
                raise OperationError(f"the process {record.pid} of {record.id} does not end")
            wait_a_moment(pause_s)
            waited_s, pause_s = waited_s + pause_s, min(pause_s * 2, 0.02)
    finally:
        os.close(process)


def _thaw(pid: int) -> None:
    """Where somebody has moved it to a group that is frozen: SIGKILL waits for that to end (v1)."""
    try:
        layout = cgroup.detect()
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            groups = [line.rstrip("\n").split(":", 2) for line in file]
        for _, controllers, path in groups:
            if controllers == "freezer" and "freezer" in layout.controllers:
                cgroup.write(f"{layout.controllers['freezer']}{path}/freezer.state", "THAWED")
    except OSError:
        return  # It has ended, or its group is not to be seen here.


def open_process_is(record: Record) -> bool:
    process = open_process(record)
    if process is None:
        return False
    os.close(process)
    return True


def run_poststart(record: Record, config: Mapping[str, Any]) -> None:
    """Raises OperationError: the container is to be destroyed (runtime.md, "Lifecycle")."""
    hooks = hooks_of(config, "poststart")
    if not hooks:
        return
    try:
        run(hooks, dumps(state_of(record, RUNNING)).encode(), record.bundle)
    except OSError as exc:
        raise OperationError(failure_of("poststart", exc)) from exc


def run_poststop(
    records: StateRoot, record: Record, config: Mapping[str, Any], journal: Journal, *, kill: bool
) -> None:
    """Each of them, whatever the others do; a failing one is a warning (runtime.md, "Lifecycle")."""
    if kill:
        _end(record)
    for hook in hooks_of(config, "poststop"):
        _run_one(hook, record, journal)


def _run_one(hook: Hook, record: Record, journal: Journal) -> None:
    try:
        run([hook], dumps(state_of(record, STOPPED)).encode(), record.bundle)
    except OSError as exc:
        journal.warn(failure_of("poststop", exc))


def pause(line: Line, journal: Journal) -> int:
    records = records_of(line)
    record = records.read(line.words[0])
    status = status_of(records, record)
    if status not in (CREATED, RUNNING):
        raise OperationError(f"cannot pause container {record.id}: it is {status}")
    group = group_of(record)
    if group is None:
        raise OperationError(f"container {record.id} has no cgroup: it cannot be paused")
    group.freeze()
    return 0


def resume(line: Line, journal: Journal) -> int:
    records = records_of(line)
    record = records.read(line.words[0])
    status = status_of(records, record)
    group = group_of(record)
    if status not in (PAUSED, CREATED) or group is None or not group.is_frozen():
        raise OperationError(f"cannot resume container {record.id}: it is {status}")
    group.thaw()
    return 0


COMMANDS: Mapping[str, Callable[[Line, Journal], int]] = {
    "kill": kill,
    "delete": delete,
    "pause": pause,
    "resume": resume,
}
