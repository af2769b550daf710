"""`update`: other limits for a container that is there."""

from __future__ import annotations

import sys

from orchestrator.errors import InputError, OperationError
from orchestrator.kernel.jsontext import loads
from orchestrator.standalone.command_line import Line
from orchestrator.standalone.configs import MOST_BYTES, check_resources
from orchestrator.standalone.journal import Journal
from orchestrator.standalone.places import group_of, records_of
from orchestrator.standalone.records import STOPPED
from orchestrator.standalone.stating import status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NUMBERS = {
    "blkio-weight": ("blockIO", "weight"),
    "cpu-period": ("cpu", "period"),
    "cpu-quota": ("cpu", "quota"),
    "cpu-burst": ("cpu", "burst"),
    "cpu-rt-period": ("cpu", "realtimePeriod"),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime"),
    "cpu-share": ("cpu", "shares"),
    "cpu-shares": ("cpu", "shares"),
    "cpu-idle": ("cpu", "idle"),
    "memory": ("memory", "limit"),
    "memory-reservation": ("memory", "reservation"),
    "memory-swap": ("memory", "swap"),
    "kernel-memory": ("memory", "kernel"),
    "kernel-memory-tcp": ("memory", "kernelTCP"),
    "pids-limit": ("pids", "limit"),
}
_TEXTS = {"cpuset-cpus": ("cpu", "cpus"), "cpuset-mems": ("cpu", "mems")}
_REFUSED = ("l3-cache-schema", "mem-bw-schema")
_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_MEMORY = "memory"


def update(line: Line, journal: Journal) -> int:
    records = records_of(line)
    record = records.read(line.words[0])
    wanted = _wanted(line)
    check_resources(wanted)
    if status_of(records, record) == STOPPED:
        raise OperationError(f"container not running: {record.id}")
    group = group_of(record)
    if group is None:
        raise OperationError(f"container {record.id} has no cgroup: it has no limits")
    config = records.read_config(record.id)
    linux = config.setdefault("linux", {})
    merged = dict(linux.get("resources") or {})
    changed: dict[str, Any] = {}
    for section, values in wanted.items():
        if isinstance(values, dict):
            merged[section] = {**(merged.get(section) or {}), **values}
        else:
            merged[section] = values
        changed[section] = merged[section]
    group.limit(changed, devices=bool(wanted.get("devices")))
    linux["resources"] = merged
    records.write_config(record.id, config)
    return 0


def _wanted(line: Line) -> dict[str, Any]:
    """Raises InputError."""
    for name in _REFUSED:
        if line.text(name):
            raise InputError(f"--{name} is not supported: there is no resctrl file system")
    if path := line.text("resources"):
        return _read(path)
    wanted: dict[str, Any] = {}
    for name, (section, key) in _NUMBERS.items():
        if text := line.text(name):
            wanted.setdefault(section, {})[key] = _number(name, text)
    for name, (section, key) in _TEXTS.items():
        if text := line.text(name):
            wanted.setdefault(section, {})[key] = text
    return wanted


def _number(name: str, text: str) -> int:
    unit = _UNITS.get(text[-1:].lower(), 1) if name.startswith((_MEMORY, "kernel")) else 1
    digits = text[:-1] if unit > 1 else text
    if not digits.removeprefix("-").isdigit() or len(digits) > 20:
        raise InputError(f"--{name}: {text!r} is not a number")
    return int(digits) * unit


def _read(path: str) -> dict[str, Any]:
    try:
        if path == "-":
            data = sys.stdin.buffer.read(MOST_BYTES)
        else:
            with open(path, "rb") as file:
                data = file.read(MOST_BYTES)
        found = loads(data)
    except (OSError, ValueError) as exc:
        raise InputError(f"cannot read the resources {path}: {exc}") from exc
    if not isinstance(found, dict):
        raise InputError(f"{path} is not a JSON object")
    return found
