"""Container Device Interface: what a specification file says, which devices a request chooses, and what they add to a
container (https://github.com/cncf-tags/container-device-interface, SPEC.md, versions 0.3.0 to 0.8.0). Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.errors import HostError, InputError
from orchestrator.model.devices import ALL_OF_THEM, DeviceRequest
from orchestrator.oci.devices import PartMount
from orchestrator.values import frozen

FOLDERS = ("/etc/cdi", "/var/run/cdi")
"""Where specification files are; the second one's devices win."""
_VERSION = re.compile(r"v?0\.([3-8])\.[0-9]+")
_KIND = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_EDITS = ("env", "deviceNodes", "mounts", "hooks", "intelRdt", "additionalGids")
_GPU_VENDORS = ("nvidia.com", "amd.com", "intel.com")
_BY_DRIVER = {"nvidia": "nvidia.com", "amd": "amd.com", "cdi": ""}
_HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


@frozen
class CdiNode:
    """`source`: on the host. `kind` "" and numbers None: as that has them; `mode` too."""

    path: str
    source: str
    kind: str = ""
    major: int | None = None
    minor: int | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    access: str = "rwm"


@frozen
class Edits:
    """``containerEdits``."""

    environment: tuple[str, ...] = ()
    nodes: tuple[CdiNode, ...] = ()
    mounts: tuple[PartMount, ...] = ()
    groups: tuple[int, ...] = ()
    hooks: tuple[tuple[str, dict[str, Any]], ...] = ()

    def and_(self, other: Edits) -> Edits:
        return Edits(
            (*self.environment, *other.environment),
            (*self.nodes, *other.nodes),
            (*self.mounts, *other.mounts),
            tuple(dict.fromkeys((*self.groups, *other.groups))),
            (*self.hooks, *other.hooks),
        )


@frozen
class CdiSpec:
    """One file. `kind`: ``vendor.com/class``. `devices`: name -> its own edits. `edits`: of all of them."""

    file: str
    kind: str
    devices: Mapping[str, Edits]
    edits: Edits


def parse_spec(file: str, data: object) -> CdiSpec:
    """Raises InputError that names the file."""
    try:
        spec = _object(data, "the file")
        version, kind = spec.get("cdiVersion"), spec.get("kind")
        if not isinstance(version, str) or _VERSION.fullmatch(version) is None:
            raise ValueError(f"cdiVersion {version!r} is not supported: 0.3.0 to 0.8.0 are")
        if not isinstance(kind, str) or _KIND.fullmatch(kind) is None:
            raise ValueError(f"kind {kind!r} is not vendor.com/class")
        devices = {}
        for number, item in enumerate(_list(spec.get("devices"), "devices")):
            device = _object(item, f"devices[{number}]")
            name = device.get("name")
            if isinstance(name, int) and not isinstance(name, bool):  # YAML reads `name: 0` as a number.
                name = str(name)
            if not isinstance(name, str) or not name:
                raise ValueError(f"devices[{number}] has no name")
            devices[name] = _edits(device.get("containerEdits"), f"devices[{number}].containerEdits")
        return CdiSpec(file, kind, devices, _edits(spec.get("containerEdits"), "containerEdits"))
    except ValueError as exc:
        raise InputError(f"the CDI file {file}: {exc}") from exc


def _edits(data: object, place: str) -> Edits:
    if data is None:
        return Edits()
    given = _object(data, place)
    for key in given:
        if key not in _EDITS:
            raise ValueError(f"{place}.{key} is not supported")
    if given.get("intelRdt"):
        raise ValueError(f"{place}.intelRdt is not supported")
    return Edits(
        tuple(_text(item, f"{place}.env") for item in _list(given.get("env"), f"{place}.env")),
        tuple(_node(item, f"{place}.deviceNodes") for item in _list(given.get("deviceNodes"), f"{place}.deviceNodes")),
        tuple(_mount(item, f"{place}.mounts") for item in _list(given.get("mounts"), f"{place}.mounts")),
        tuple(
            _number(item, f"{place}.additionalGids") or 0
            for item in _list(given.get("additionalGids"), f"{place}.additionalGids")
        ),
        tuple(_hook(item, f"{place}.hooks") for item in _list(given.get("hooks"), f"{place}.hooks")),
    )


def _node(data: object, place: str) -> CdiNode:
    item = _object(data, place)
    path = _text(item.get("path"), f"{place}.path")
    source = _text(item.get("hostPath") or path, f"{place}.hostPath")
    if not path.startswith("/") or not source.startswith("/"):
        raise ValueError(f"{place}: {path} is not an absolute path")
    numbers = {key: _number(item.get(key), f"{place}.{key}") for key in ("major", "minor", "fileMode", "uid", "gid")}
    kind = _text(item.get("type") or "", f"{place}.type")
    if kind not in ("", "b", "c", "u"):
        raise ValueError(f"{place}: {kind!r} is not a kind of device")
    access = _text(item.get("permissions") or "rwm", f"{place}.permissions")
    if set(access) - set("rwm"):
        raise ValueError(f"{place}: the permissions {access!r} are not made of r, w and m")
    kind = "c" if kind == "u" else kind
    return CdiNode(
        path, source, kind, numbers["major"], numbers["minor"], numbers["fileMode"], numbers["uid"], numbers["gid"], access
    )


def _mount(data: object, place: str) -> PartMount:
    item = _object(data, place)
    source = _text(item.get("hostPath"), f"{place}.hostPath")
    target = _text(item.get("containerPath"), f"{place}.containerPath")
    if not source.startswith("/") or not target.startswith("/"):
        raise ValueError(f"{place}: {source} and {target} must be absolute paths")
    if (kind := item.get("type") or "bind") not in ("bind", "none"):
        raise ValueError(f"{place}: a mount of type {kind!r} is not supported")
    options = tuple(_text(option, f"{place}.options") for option in _list(item.get("options"), f"{place}.options"))
    return PartMount(source, target, options)


def _hook(data: object, place: str) -> tuple[str, dict[str, Any]]:
    item = _object(data, place)
    name = item.get("hookName")
    if name not in _HOOKS:
        raise ValueError(f"{place}: {name!r} is not the name of a hook")
    return str(name), {key: value for key, value in item.items() if key in ("path", "args", "env", "timeout")}


def _object(data: object, place: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ValueError(f"{place} is not an object")
    return data


def _list(data: object, place: str) -> list[Any]:
    if data is None:
        return []
    if not isinstance(data, list):
        raise ValueError(f"{place} is not a list")
    return data


def _text(data: object, place: str) -> str:
    if not isinstance(data, str) or "\0" in data:
        raise ValueError(f"{place}: {data!r} is not a string")
    return data


def _number(data: object, place: str) -> int | None:
    if data is None:
        return None
    if not isinstance(data, int) or isinstance(data, bool) or not 0 <= data < 1 << 32:
        raise ValueError(f"{place}: {data!r} is not a number")
    return data


# ---- what is asked for ------------------------------------------------------------------------------------------------


def edits_of(specs: Sequence[CdiSpec], name: str, place: str = "") -> Edits:
    """Of one device: ``vendor.com/class=name``. Raises HostError."""
    kind, _, device = name.partition("=")
    for spec in reversed(specs):
        if spec.kind == kind and device in spec.devices:
            return spec.edits.and_(spec.devices[device])
    raise HostError(f'there is no CDI device "{name}": {_known(specs)}', hint=_hint(), place=place)


def chosen(specs: Sequence[CdiSpec], request: DeviceRequest) -> tuple[str, ...]:
    """The names of the devices that `request` gets. Raises HostError."""
    kind = _kind_for(specs, request)
    names = [name for spec in specs if spec.kind == kind for name in spec.devices]
    every = list(dict.fromkeys(names))
    if request.ids:
        return tuple(each if "=" in each else f"{kind}={each}" for each in request.ids)
    if request.count == ALL_OF_THEM:
        return (f"{kind}=all",) if "all" in every else tuple(f"{kind}={name}" for name in every)
    # Devices have several names (by number, by UUID, all together): a count means the numbers, where there are some.
    single = [name for name in every if name != "all"]
    single = [name for name in single if name.isdecimal()] or single
    if len(single) < request.count:
        message = f"{request.count} devices {kind} are asked for, and there are {len(single)}"
        raise HostError(message, place=request.place)
    return tuple(f"{kind}={name}" for name in single[: request.count])


def _kind_for(specs: Sequence[CdiSpec], request: DeviceRequest) -> str:
    kinds = list(dict.fromkeys(spec.kind for spec in specs))
    vendor = _BY_DRIVER.get(request.driver, request.driver)
    if "/" in vendor:
        found = [kind for kind in kinds if kind == vendor]
    elif vendor:
        found = [kind for kind in kinds if kind.split("/")[0] == vendor]
    elif request.ids and all("=" in each for each in request.ids):
        return request.ids[0].partition("=")[0]
    else:
        found = [kind for kind in kinds if kind.split("/")[1] in request.capabilities]
    ranked = sorted(found, key=lambda kind: (kind.split("/")[0] not in _GPU_VENDORS, kinds.index(kind)))
    if ranked:
        return ranked[0]
    what = f'the driver "{request.driver}"' if request.driver else f"the capabilities {', '.join(request.capabilities)}"
    raise HostError(f"no CDI device has {what}: {_known(specs)}", hint=_hint(), place=request.place)


def _known(specs: Sequence[CdiSpec]) -> str:
    names = [f"{spec.kind}={name}" for spec in specs for name in spec.devices]
    if not names:
        return f"{' and '.join(FOLDERS)} have no CDI files"
    return "there are " + ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


def _hint() -> str:
    return f"a vendor's tool writes CDI files to {FOLDERS[0]}: nvidia-ctk cdi generate --output={FOLDERS[0]}/nvidia.yaml"

