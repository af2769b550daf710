"""Writing settings (`resources`) to where their controllers are, on v1, v2 and mixtures of both.

A limit that cannot be kept is an error that names what would provide it; only that of pids, which every container has by
default, is given up in silence (`apply` says so).
"""

from __future__ import annotations

import errno
import os

from orchestrator.errors import HostError
from orchestrator.kernel import cgroup
from orchestrator.kernel.cgroup import Layout
from orchestrator.kernel.suppress import suppress
from orchestrator.runtime.resources import File, Setting
from orchestrator.values import frozen, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_HINT = "`pystack doctor` shows which cgroup controllers this machine offers, and /proc/cgroups what its kernel has"
_USUAL = ("cpu", "memory", "pids")
"""Delegated together: almost every container wants them."""
_V2_NAMES = {"blkio": "io"}
_REALTIME = "cpu.realtimeRuntime"
_NOT_HERE = (errno.ENOENT, errno.EBUSY, errno.EOPNOTSUPP)
_PERIOD_US = 1_000_000
_REALTIME_TRIES, _REALTIME_PAUSE_S = 20, 0.02


@frozen
class Places:
    """Where the groups of a container are. `v1`: controller -> group."""

    layout: Layout
    relative_path: str
    v1: Mapping[str, str]


def apply(settings: Sequence[Setting], places: Places) -> tuple[str, ...]:
    """Write each setting where its controller is; returns the limits that cannot be kept here and that nobody asked for.
    Raises HostError that names the setting."""
    unenforced = []
    for setting in settings:
        try:
            _write(setting, places)
        except OSError as exc:
            if setting.controller == "pids" and exc.errno in _NOT_HERE:
                unenforced.append("pids")
                continue
            raise _refused(setting, exc, places) from exc
    return tuple(unenforced)


def change(before: Sequence[Setting], after: Sequence[Setting], places: Places) -> None:
    """From what `before` says to what `after` says. Raises HostError; what was written until then stays."""
    said = {setting.key for setting in after}
    apply([_nothing(setting) for setting in before if setting.key not in said], places)
    known = {setting.key: setting for setting in before}
    apply([setting for setting in after if known.get(setting.key) != setting or setting.most is not None], places)


def _nothing(setting: Setting) -> Setting:
    v1, v2 = (tuple(replace(file, value=file.none) for file in files) for files in (setting.v1, setting.v2))
    return replace(setting, v1=v1, v2=v2, most=None)


def _refused(setting: Setting, exc: OSError, places: Places) -> HostError:
    name, layout = setting.controller, places.layout
    place = f"linux.resources.{setting.key}"
    if exc.errno == errno.ENOTSUP and not exc.filename:
        version = "v1" if name in layout.controllers else "v2"
        message = f'control groups {version} have no "{setting.key}"'
        return HostError(message, hint="leave it out on this machine", place=place)
    if exc.filename in (name, _V2_NAMES.get(name)):
        message = f'"{setting.key}" needs the cgroup controller {_V2_NAMES.get(name, name)}: this machine does not offer it'
        return HostError(message, hint=_HINT, place=place)
    where = (exc.filename or "").rpartition("/")[2]
    message = f'the kernel refuses "{setting.key}" of {places.relative_path}: {where}: {exc.strerror}'
    return HostError(message, hint=_HINT if exc.errno == errno.ENOENT else None, place=place)


def _write(setting: Setting, places: Places) -> None:
    """Raises OSError: with the controller as its file name when that is not here, with ENOTSUP and no file name when this
    version has no such setting."""
    layout = places.layout
    if (group := places.v1.get(setting.controller)) is not None:
        if not setting.v1:
            raise OSError(errno.ENOTSUP, "")
        _check_use(setting, f"{group}/memory.usage_in_bytes")
        if setting.key == _REALTIME:
            _write_realtime(setting, group, places)
        else:
            _write_first(setting, setting.v1, group, _write_v1)
    elif layout.unified is None:
        raise OSError(errno.ENOENT, "the controller is not mounted", setting.controller)
    elif not setting.v2:
        only_v1 = setting.controller in ("net_cls", "net_prio")
        raise OSError(errno.ENOENT, "", setting.controller) if only_v1 else OSError(errno.ENOTSUP, "")
    else:
        group = f"{layout.unified}/{places.relative_path}"
        with suppress(FileNotFoundError):
            _check_use(setting, f"{group}/memory.current")
        try:
            _write_first(setting, setting.v2, group, _write_v2)
        except FileNotFoundError:
            # The files exist only when every ancestor delegates the controller: enabled on the first miss, not every time.
            delegate(layout.unified, places.relative_path, _V2_NAMES.get(setting.controller, setting.controller))
            try:
                _write_first(setting, setting.v2, group, _write_v2)
            except FileNotFoundError:
                # The controller is there, this file of it is not: an older kernel, or one without that feature.
                raise OSError(errno.ENOENT, "this kernel has no such file", f"{group}/{setting.v2[0].name}") from None


def _write_first(setting: Setting, files: Sequence[File], group: str, write: Callable[[str, File], None]) -> None:
    """To the first of `files` that is there. Raises FileNotFoundError when none is, unless it is optional."""
    missing: FileNotFoundError | None = None
    for file in files:
        try:
            return write(group, file)
        except FileNotFoundError as exc:
            missing = exc
    if missing is not None and not (setting.optional and os.path.isdir(group)):
        raise missing
    return None


def _check_use(setting: Setting, path: str) -> None:
    if setting.most is not None and (used := int(cgroup.read(path))) > setting.most:
        raise OSError(errno.EBUSY, f"{used} bytes are in use", path)


def _write_v1(group: str, file: File) -> None:
    value = file.value or cgroup.read(f"{os.path.dirname(group)}/{file.name}")
    try:
        cgroup.write(f"{group}/{file.name}", value)
    except OSError as exc:
        # memory.limit_in_bytes must never exceed memory.memsw.limit_in_bytes, which another limit may have left.
        if exc.errno != errno.EINVAL or file.name != "memory.limit_in_bytes":
            raise
        cgroup.write(f"{group}/memory.memsw.limit_in_bytes", "-1")
        cgroup.write(f"{group}/{file.name}", value)


def _write_v2(group: str, file: File) -> None:
    cgroup.write(f"{group}/{file.name}", file.value or "\n")


def delegate(unified: str, relative_path: str, controller: str) -> None:
    """Enable `controller` and the usual ones on the way down to `relative_path`, not in it (cgroup-v2.rst, "Top-down
    Constraint"). Raises OSError when the machine does not have it."""
    offered = cgroup.available(unified)
    if controller not in offered:
        raise OSError(errno.ENOENT, "the controller is not available", controller)
    wanted = sorted({controller, *_USUAL} & offered)
    group = unified
    for part in relative_path.split("/"):
        enabled = cgroup.read(f"{group}/cgroup.subtree_control").split()
        if absent := [name for name in wanted if name not in enabled]:
            cgroup.write(f"{group}/cgroup.subtree_control", " ".join(f"+{name}" for name in absent))
        group = f"{group}/{part}"


def _write_realtime(setting: Setting, group: str, places: Places) -> None:
    """A group that was removed counts until the kernel has let go of it, a moment later."""
    for last in (*[False] * _REALTIME_TRIES, True):
        try:
            _make_room(places.layout.controllers["cpu"], places.relative_path, setting)
            return _write_first(setting, setting.v1, group, _write_v1)
        except OSError as exc:
            if last or exc.errno != errno.EINVAL:
                raise
            cgroup.pause(_REALTIME_PAUSE_S)
    return None


def _make_room(root: str, relative_path: str, setting: Setting) -> None:
    """A v1 group may have no more real time than those above it (sched-rt-group.rst), and new groups have none: ours on the
    way get what this one needs beyond what their other groups have."""
    parts = relative_path.split("/")
    period_us = int(cgroup.read(f"{root}/{relative_path}/cpu.rt_period_us"))
    wanted_us = -(-int(setting.v1[0].value) * _PERIOD_US // period_us)
    room: list[tuple[str, int]] = []
    for depth in range(len(parts) - 1, 0, -1):
        group = f"{root}/{'/'.join(parts[:depth])}"
        wanted_us += sum(_realtime_us(f"{group}/{name}") for name in cgroup.children(group) if name != parts[depth])
        room.insert(0, (group, wanted_us))
    for group, share_us in room:
        if share_us > _realtime_us(group):
            cgroup.write(f"{group}/cpu.rt_runtime_us", str(share_us))


def _realtime_us(group: str) -> int:
    """A group's real time in a second."""
    runtime_us, period_us = (int(cgroup.read(f"{group}/cpu.{name}_us")) for name in ("rt_runtime", "rt_period"))
    return -(-runtime_us * _PERIOD_US // period_us)
