"""`state`, `list`, `ps`, `features` and `spec`."""

from __future__ import annotations

import os

from orchestrator.errors import InputError, OperationError
from orchestrator.kernel.jsontext import dumps
from orchestrator.standalone.command_line import Line
from orchestrator.standalone.configs import NAMESPACES, OCI_VERSIONS
from orchestrator.standalone.journal import Journal
from orchestrator.standalone.places import group_of, records_of
from orchestrator.standalone.records import STOPPED
from orchestrator.standalone.stating import state_of, status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

_HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
_INDENT = "  "


def state(line: Line, journal: Journal) -> int:
    records = records_of(line)
    record = records.read(line.words[0])
    status = status_of(records, record)
    shown = state_of(record, status)
    shown["pid"] = 0 if status == STOPPED else record.pid
    shown |= {"rootfs": record.rootfs, "created": record.created, "owner": _owner(record.owner)}
    print(pretty(shown))
    return 0


def list_containers(line: Line, journal: Journal) -> int:
    form = _form(line)
    records = records_of(line)
    rows = []
    for name in records.names():
        try:
            record = records.read(name)
        except (OperationError, InputError) as exc:
            journal.warn(str(exc))
            continue
        status = status_of(records, record)
        shown = state_of(record, status)
        shown["pid"] = 0 if status == STOPPED else record.pid
        rows.append({**shown, "rootfs": record.rootfs, "created": record.created, "owner": _owner(record.owner)})
    if line.flag("quiet"):
        for row in rows:
            print(row["id"])
    elif form == "json":
        print(dumps(rows))
    else:
        names = ("id", "pid", "status", "bundle", "created", "owner")
        print(table([tuple(name.upper() for name in names), *(tuple(str(row[name]) for name in names) for row in rows)]))
    return 0


def ps(line: Line, journal: Journal) -> int:
    form = _form(line)
    records = records_of(line)
    record = records.read(line.words[0])
    if status_of(records, record) == STOPPED:
        raise OperationError(f"container not running: {record.id}")
    group = group_of(record)
    pids = [record.pid] if group is None else group.pids()
    if form == "json":
        print(dumps(pids))
        return 0
    rows = [("PID", "COMMAND")]
    for pid in pids:
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        rows.append((str(pid), "".join(letter if letter.isprintable() else "?" for letter in words)))
    print(table(rows))
    return 0


def _form(line: Line) -> str:
    form = line.text("format", "table")
    if form not in ("table", "json"):
        raise InputError(f"{form!r} is not a format", hint="table or json")
    return form


def _owner(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def pretty(value: Any, indent: str = "") -> str:
    """JSON for people, without the import of `json`."""
    inner = indent + _INDENT
    if isinstance(value, dict) and value:
        items = (f"{inner}{dumps(key)}: {pretty(item, inner)}" for key, item in value.items())
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if isinstance(value, (list, tuple)) and value:
        return "[\n" + ",\n".join(inner + pretty(item, inner) for item in value) + f"\n{indent}]"
    return dumps(value)


def features(line: Line, journal: Journal) -> int:
    """features.md of the runtime-spec."""
    from orchestrator.kernel import seccomp
    from orchestrator.kernel.caps import CAPABILITIES
    from orchestrator.standalone.mount_options import known_options

    shown = {
        "ociVersionMin": OCI_VERSIONS[0],
        "ociVersionMax": OCI_VERSIONS[1],
        "hooks": list(_HOOKS),
        "mountOptions": known_options(),
        "linux": {
            "namespaces": sorted(NAMESPACES),
            "capabilities": list(CAPABILITIES),
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False, "rdma": True},
            "seccomp": {
                "enabled": True,
                **seccomp.words(),
                "knownFlags": [*seccomp.FLAGS, "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
                "supportedFlags": [*seccomp.FLAGS, "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
            },
            "apparmor": {"enabled": os.path.isdir("/sys/kernel/security/apparmor")},
            "selinux": {"enabled": os.path.isdir("/sys/fs/selinux")},
            "intelRdt": {"enabled": False},
            "memoryPolicy": {
                "modes": [
                    "MPOL_BIND", "MPOL_DEFAULT", "MPOL_INTERLEAVE", "MPOL_LOCAL", "MPOL_PREFERRED", "MPOL_PREFERRED_MANY",
                    "MPOL_WEIGHTED_INTERLEAVE",
                ],
                "flags": ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"],
            },
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": False},
        },
        "annotations": {"org.opencontainers.runtime-spec.version": OCI_VERSIONS[1]},
        "potentiallyUnsafeConfigAnnotations": [],
    }  # fmt: skip
    print(pretty(shown))
    return 0


def spec(line: Line, journal: Journal) -> int:
    from orchestrator.standalone.default_config import default_config

    path = os.path.join(line.text("bundle") or ".", line.text("config") or "config.json")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        raise OperationError(f"{path} is there already", hint="remove it first") from None
    with open(fd, "w", encoding="utf-8") as file:
        file.write(pretty(default_config(rootless=line.flag("rootless"))) + "\n")
    return 0


COMMANDS: Mapping[str, Callable[[Line, Journal], int]] = {
    "state": state,
    "list": list_containers,
    "ps": ps,
    "features": features,
    "spec": spec,
}
