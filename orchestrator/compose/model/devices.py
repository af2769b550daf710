"""The devices of a service, as the runtime takes them: ``devices``, ``device_cgroup_rules``, ``gpus``, and those of
``deploy.resources.reservations``.

Source: compose-spec, and Docker Compose v5.6.1.
"""

from __future__ import annotations

import posixpath
import re

from orchestrator.compose.kinds.values import cast_int, go_text
from orchestrator.compose.model.reader import Reader, at
from orchestrator.compose.model.security import has_host_ids
from orchestrator.compose.model.selection import services_of
from orchestrator.compose.text.diagnostics import Diagnostic
from orchestrator.compose.text.tree import Node, diagnostic
from orchestrator.model.devices import (
    ALL_OF_THEM,
    DeviceGrant,
    DeviceRequest,
    DeviceRule,
    Devices,
    clean_access,
    is_cdi_name,
    parse_rule,
)

_HIDDEN = ("/dev/pts", "/dev/shm", "/dev/mqueue", "/proc", "/sys")
"""Where other file systems are mounted over what is made there."""


def devices(read: Reader, node: Node, path: str) -> Devices:
    grants = []
    for number, item in enumerate(read.each(node, "devices")):
        place = f"{path}.devices[{number}]"
        grants.append(read.attempt(item, place, lambda n, place=place: _grant(read, n, place), None))  # type: ignore[misc]
    rules: list[DeviceRule | None] = []
    for number, item in enumerate(read.each(node, "device_cgroup_rules")):
        place = f"{path}.device_cgroup_rules[{number}]"
        rules.append(read.attempt(item, place, lambda n: parse_rule(go_text(n.value)), None))
    requests = _requests(read, node, f"{path}.gpus", "gpus", gpus=True)
    reserved = at(node, "deploy", "resources", "reservations")
    if reserved is not None:
        below = f"{path}.deploy.resources.reservations.devices"
        requests += _requests(read, reserved, below, "devices", gpus=False)
    return Devices(
        tuple(grant for grant in grants if grant is not None), tuple(rule for rule in rules if rule is not None), requests
    )


def unmapped_devices(model: Node) -> list[Diagnostic]:
    """A warning for each bind of a part of /dev where a service has rules: its files cannot be the container's root's."""
    found = []
    for name, service in services_of(model).items():
        if service.get("device_cgroup_rules") is None or has_host_ids(service):
            continue
        mounts = service.get("volumes")
        for number, item in enumerate(mounts.elements() if mounts is not None else ()):
            source = item.get("source")
            if source is not None and posixpath.normpath(go_text(source.value) + "/").startswith("/dev"):
                message = "what is below belongs to nobody in the container: only devices that everybody may use will open"
                hint = "name them with devices:, or write userns_mode: host"
                path = f"services.{name}.volumes[{number}]"
                found.append(diagnostic(item, path, message, hint=hint, code="no-effect"))
    return found


def _grant(read: Reader, node: Node, place: str) -> DeviceGrant:
    source, target = read.text(node, "source") or "", read.text(node, "target") or ""
    if is_cdi_name(source):
        return DeviceGrant(source, source, place=place)
    if not source.startswith("/"):
        hint = "write /dev/NAME, or the name of a CDI device: vendor.com/class=name"
        raise _hinted(f'"{source}" is not the path of a device', hint)
    if not target.startswith("/"):
        raise ValueError(f'the target "{target}" is not an absolute path')
    if "\0" in source + target:
        raise ValueError("the path of a device holds a NUL byte")
    target = posixpath.normpath("/" + target.lstrip("/"))
    if target in ("/", "/dev") and posixpath.normpath(source) != "/dev":
        raise ValueError(f"a device cannot be made at {target}")
    if any(target == hidden or target.startswith(f"{hidden}/") for hidden in _HIDDEN):
        raise ValueError(f"a device cannot be made at {target}: another file system is mounted there")
    return DeviceGrant(source, target, clean_access(read.text(node, "permissions") or "rwm"), place)


def _hinted(message: str, hint: str) -> ValueError:
    error = ValueError(message)
    error.hint = hint  # type: ignore[attr-defined]
    return error


def _requests(read: Reader, node: Node, path: str, key: str, *, gpus: bool) -> tuple[DeviceRequest, ...]:
    found = []
    for number, item in enumerate(read.each(node, key)):
        place = f"{path}[{number}]"
        count = item.get("count")
        capabilities = read.texts(item, "capabilities")
        found.append(
            DeviceRequest(
                # As Docker Compose: what stands below gpus is one.
                tuple(dict.fromkeys((*capabilities, "gpu"))) if gpus else capabilities,
                read.text(item, "driver") or "",
                ALL_OF_THEM if count is None else read.attempt(count, f"{place}.count", _count, ALL_OF_THEM),
                read.texts(item, "device_ids"),
                read.pairs(item, place, "options", keep_null=True),
                place,
            )
        )
    return tuple(found)


def _count(node: Node) -> int:
    text = go_text(node.value)
    if text == "all" or re.fullmatch(r"-1", text):
        return ALL_OF_THEM
    count = cast_int(text)
    if count < 1:
        raise ValueError(f'"{text}" is not a number of devices, nor all')
    return count
