"""Where things are, by the global options: the directory of records, and the machine's cgroup layout."""

from __future__ import annotations

import os

from orchestrator.errors import HostError, InputError
from orchestrator.kernel import cgroup
from orchestrator.kernel.identity import own_uid
from orchestrator.standalone.command_line import Line
from orchestrator.standalone.groups import Group
from orchestrator.standalone.records import Record, StateRoot

_MANAGERS = ("cgroupfs", "disabled")


def records_of(line: Line) -> StateRoot:
    root = line.of_all("root")
    if not root:
        own = os.environ.get("XDG_RUNTIME_DIR", "")
        root = os.path.join(own, "pystack-oci") if own_uid() != 0 and own else "/run/pystack-oci"
    return StateRoot(os.path.abspath(root))


def layout_of(line: Line) -> cgroup.Layout | None:
    """None: without control groups. Raises InputError, HostError."""
    manager = line.of_all("cgroup-manager", "cgroupfs")
    if line.given.get("systemd-cgroup") or manager == "systemd":
        hint = "use --cgroup-manager=cgroupfs"
        raise InputError("the cgroup manager systemd is not supported: this runtime makes its groups itself", hint=hint)
    if manager not in _MANAGERS:
        raise InputError(f"{manager!r} is not a cgroup manager", hint=f"one of: {', '.join(_MANAGERS)}")
    if manager == "disabled":
        return None
    try:
        return cgroup.detect()
    except OSError as exc:
        raise HostError(f"{exc.strerror}", hint="or use --cgroup-manager=disabled") from exc


def group_of(record: Record) -> Group | None:
    """That of a container that is there; None: it has none."""
    if not record.cgroup:
        return None
    try:
        return Group(cgroup.detect(), record.cgroup)
    except OSError as exc:
        raise HostError(f"{exc.strerror}") from exc
