"""What a service's devices are on this machine: nodes below /dev, and the files of the Container Device Interface; and
whether what it asks for of labels and capabilities can be had here.

It is looked up when a container is made, and never waited for: a file that is no regular one, or too large, is an error.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator

from orchestrator.errors import HostError, InputError
from orchestrator.kernel.caps import CAPABILITIES
from orchestrator.model.devices import DeviceGrant, DeviceNode
from orchestrator.model.service import Service
from orchestrator.oci.cdi import FOLDERS, CdiNode, CdiSpec, Edits, chosen, edits_of, parse_spec
from orchestrator.oci.devices import HostParts, has_device_list
from orchestrator.oci.schema import REFUSED

MOST_FILE_BYTES = 2**22
MOST_NODES = 4096
_NOT_OF_THE_HOST = frozenset({"/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd", "/dev/console", "/dev/ptmx"})
"""Not given to a privileged container, which has its own."""
_LSM_SIGNS = {
    "apparmor": ("AppArmor", "/sys/module/apparmor/parameters/enabled"),
    "selinux": ("SELinux", "/sys/fs/selinux/enforce"),
}
"""What says that a security module is at work, where securityfs is not mounted."""


def kernel_version() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(letter for letter in minor if letter.isdecimal()) or 0)


def parts_of(service: Service, ids: int, folders: tuple[str, ...] = FOLDERS, *, held: int = -1) -> HostParts:
    """Raises HostError for a device that is not there, for a label that would have to be applied, and for a capability that
    we cannot give; InputError for a CDI file that cannot be read. `ids`: how many ids a container has. `folders`: of CDI
    files. `held`: a mask of our own capabilities."""
    _check_labels(service)
    _check_capabilities(service, held)
    if not has_device_list(service):
        return HostParts()
    nodes = [node for grant in service.devices.grants if not grant.is_cdi for node in _granted(grant, ids)]
    if service.security.privileged:
        nodes = [*_all_of_the_host(ids), *nodes]
    wanted = [(grant.source, grant.place) for grant in service.devices.grants if grant.is_cdi]
    edits = Edits()
    if wanted or service.devices.requests:
        specs = _specs(folders)
        for request in service.devices.requests:
            wanted += [(name, request.place) for name in chosen(specs, request)]
        for name, place in dict(wanted).items():
            edits = edits.and_(_without_hooks(edits_of(specs, name, place), name, place))
    nodes += [_cdi_node(node, ids) for node in edits.nodes]
    last = {node.path: node for node in nodes}
    return HostParts(tuple(last.values()), edits.environment, edits.mounts, edits.groups, edits.hooks)


def _without_hooks(edits: Edits, name: str, place: str) -> Edits:
    """A device whose hooks do not run would not work."""
    if edits.hooks and "hooks" in REFUSED:
        kinds = ", ".join(dict.fromkeys(kind for kind, _ in edits.hooks))
        message = f'the CDI device "{name}" asks for hooks ({kinds}), and none are run here'
        raise HostError(message, hint="take them out of its CDI file if it works without", place=place)
    return edits


# ---- nodes of the host ------------------------------------------------------------------------------------------------


def _granted(grant: DeviceGrant, ids: int) -> list[DeviceNode]:
    try:
        found = os.stat(grant.source)
    except OSError as exc:
        reason = "does not exist" if isinstance(exc, FileNotFoundError) else f"cannot be used: {exc.strerror}"
        hint = "is its driver loaded?" if isinstance(exc, FileNotFoundError) else None
        raise HostError(f"the device {grant.source} {reason}", hint=hint, place=grant.place) from exc
    if not stat.S_ISDIR(found.st_mode):
        node = _node(grant.target, found, ids, grant.access)
        if node is None:
            raise HostError(f"{grant.source} is not a device", hint="a file is mounted with volumes:", place=grant.place)
        return [node]
    prefix = grant.target.rstrip("/")
    nodes = []
    for path, below in _below(grant.source):
        if (node := _node(f"{prefix}/{os.path.relpath(path, grant.source)}", below, ids, grant.access)) is not None:
            nodes.append(node)
    if not nodes:
        raise HostError(f"there is no device below {grant.source}", place=grant.place)
    return nodes


def _all_of_the_host(ids: int) -> Iterator[DeviceNode]:
    for path, found in _below("/dev"):
        if (node := _node(path, found, ids, "rwm")) is not None:
            yield node


def _below(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """What there is below `folder`, without following links; not what a container has of its own."""
    waiting, count = [folder.rstrip("/")], 0
    while waiting:
        try:
            entries = sorted(os.scandir(waiting.pop()), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            if entry.path in _NOT_OF_THE_HOST:
                continue
            count += 1
            if count > MOST_NODES:
                raise HostError(f"{folder} has more than {MOST_NODES} entries", hint="name the devices")
            try:
                found = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if stat.S_ISDIR(found.st_mode):
                waiting.append(entry.path)
            else:
                yield entry.path, found


def _node(path: str, found: os.stat_result, ids: int, access: str) -> DeviceNode | None:
    """Owned by the container's root; the group keeps its number, as in Docker: ``group_add`` names it."""
    if not (stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode)):
        return None
    kind = "c" if stat.S_ISCHR(found.st_mode) else "b"
    major, minor = os.major(found.st_rdev), os.minor(found.st_rdev)
    group = found.st_gid if found.st_gid < ids else 0
    return DeviceNode(path, kind, major, minor, stat.S_IMODE(found.st_mode), 0, group, access)


def _cdi_node(node: CdiNode, ids: int) -> DeviceNode:
    made = None
    if not node.kind or node.major is None or node.minor is None or node.mode is None:
        try:
            made = _node(node.path, os.stat(node.source), ids, node.access)
        except OSError as exc:
            raise HostError(f"the device {node.source} of a CDI file cannot be used: {exc.strerror}") from exc
        if made is None:
            raise HostError(f"{node.source}, which a CDI file names, is not a device")
    return DeviceNode(
        node.path,
        node.kind or (made.kind if made else "c"),
        node.major if node.major is not None else made.major if made else 0,
        node.minor if node.minor is not None else made.minor if made else 0,
        node.mode if node.mode is not None else made.mode if made else 0o666,
        node.uid or 0,
        node.gid if node.gid is not None else made.gid if made else 0,
        node.access,
    )


# ---- files of the Container Device Interface --------------------------------------------------------------------------


def _specs(folders: tuple[str, ...]) -> list[CdiSpec]:
    found = []
    for folder in folders:
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        found += [_read(os.path.join(folder, name)) for name in names if name.endswith((".json", ".yaml", ".yml"))]
    return found


def _read(path: str) -> CdiSpec:
    # YAML is slow to import, and few stacks have such devices.
    from orchestrator.compose.text.diagnostics import ComposeError
    from orchestrator.compose.text.files import FileError, Source, read_text
    from orchestrator.compose.text.tree import parse, plain

    try:
        text = read_text(path, MOST_FILE_BYTES)
        if path.endswith(".json"):
            return parse_spec(path, json.loads(text))
        (tree,) = parse(Source(path, path, text))
        return parse_spec(path, plain(tree))
    except FileError as exc:
        raise InputError(f"the CDI file {path} {exc}", hint=exc.hint) from exc
    except ComposeError as exc:
        raise InputError(f"the CDI file {path} is not YAML: {exc.diagnostics[0].message}") from exc
    except (ValueError, RecursionError) as exc:
        raise InputError(f"the CDI file {path} is not JSON: {exc}") from exc


def _check_capabilities(service: Service, held: int) -> None:
    """In a user namespace of its own a container can have any; in the host's we can only give what we have."""
    if service.namespaces.host_user and not service.security.privileged:
        for name in service.cap_add:
            if name in CAPABILITIES and not held >> CAPABILITIES[name] & 1:
                hint = "pystack itself must be started with it: in a container, with --privileged"
                place = f"{service.place}.cap_add"
                raise HostError(f"we have no {name} ourselves, and cannot give it", hint=hint, place=place)


# ---- labels -----------------------------------------------------------------------------------------------------------


def _check_labels(service: Service) -> None:
    for module in service.security.labels:
        name, sign = _LSM_SIGNS[module]
        if _at_work(module, sign):
            message = f"this machine has {name}, and its profiles and labels are not applied here"
            hint = f"take the {name} entry out of security_opt: the container runs with what {name} gives every process"
            raise HostError(message, hint=hint, place=f"{service.place}.security_opt")


def _at_work(module: str, sign: str) -> bool:
    for path in ("/sys/kernel/security/lsm", sign):
        try:
            with open(path, encoding="ascii", errors="replace") as file:
                text = file.read(4096)
        except OSError:
            continue
        if path != sign:
            return module in text.strip().split(",")
        return text.startswith(("Y", "0", "1"))
    return False
