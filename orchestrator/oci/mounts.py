"""What is mounted in a container, in the words of an OCI config (runtime-spec, config.md, "Mounts"). Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any

from orchestrator.contracts.images import Image
from orchestrator.contracts.runtime import VolumeFill
from orchestrator.errors import InputError
from orchestrator.model.granted import GrantedFile
from orchestrator.model.namespaces import Sharing
from orchestrator.model.service import Service
from orchestrator.model.volume import Mount, MountKind, Owner, Recursion
from orchestrator.oci.devices import has_device_list
from orchestrator.oci.inputs import SandboxInputs
from orchestrator.oci.terms import HOSTS_OWN, LOWER, OWNER_BY_SOURCE, OWNER_SOURCE

_BASE_MOUNTS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("/proc", "proc", "proc", ("nosuid", "noexec", "nodev")),
    ("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    ("/dev/pts", "devpts", "devpts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")),
    ("/dev/shm", "tmpfs", "shm", ("nosuid", "noexec", "nodev", "mode=1777", "size=65536k")),
    ("/dev/mqueue", "mqueue", "mqueue", ("nosuid", "noexec", "nodev")),
    ("/sys", "sysfs", "sysfs", ("nosuid", "noexec", "nodev", "ro")),
    ("/sys/fs/cgroup", "cgroup", "cgroup", ("nosuid", "noexec", "nodev", "relatime", "ro")),
)
"""Destination, type, source, options; in the order in which they are mounted."""

_TREE_OPTIONS = ("rbind", "rprivate", "rnodev", "idmap")
"""Of a bind or a volume, with all mounts below it. ``idmap``: what the container's root writes belongs to the host's root,
not to a mapped id. ``nodev`` stands for Docker's device cgroup, where there is none: a device node below a bound directory
must not open."""

_EVERYONES = frozenset(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom"))
"""Devices that every container has. Bound by name they open: ``/dev/null:/etc/file`` hides a file."""

_SHM = "/dev/shm"
_HOSTS_SHM = {
    "destination": _SHM, "type": "bind", "source": _SHM, "options": ["rbind", "rprivate", "nosuid", "noexec", "nodev"]
}  # fmt: skip

_BY_SOURCE = {Owner.BY_SOURCE: OWNER_BY_SOURCE, Owner.SOURCE: OWNER_SOURCE}
_NOT_TARGETS = ("/", "/proc", "/dev")


def mounts_of(inputs: SandboxInputs) -> list[dict[str, Any]]:
    """The config's ``mounts``, in order. One of the stack's replaces ours at the same place and below it.
    Raises InputError for a target that nothing can be mounted at, and for an image that cannot be mounted."""
    service, image, volume_paths = inputs.service, inputs.image, inputs.volume_paths
    open_devices = has_device_list(service)
    shm = _shared_memory(service)
    chosen = {_granted_target(file): _granted_mount(file) for file in service.files if file.source}
    chosen |= {_target(mount, service): _service_mount(mount, inputs) for mount in service.volumes}
    for target in map(clean_path, image.config.volumes):
        if target not in chosen:
            check_target(target, f'volume of the image "{image.reference}": ', service.place)
            chosen[target] = _bind(_volume_directory(volume_paths, target), target, ())
    base: list[dict[str, Any]] = [
        {"destination": at, "type": kind, "source": source, "options": _base_options(at, options, service)}
        for at, kind, source, options in _BASE_MOUNTS
        if (at != _SHM or shm) and not any(at == target or at.startswith(f"{target}/") for target in chosen)
    ]
    if shm is _HOSTS_SHM:
        base = [_HOSTS_SHM if mount["destination"] == _SHM else mount for mount in base]
    for mount in image.mounts:
        if clean_path(mount.target) not in chosen:
            base.append(_bind(mount.source, clean_path(mount.target), HOSTS_OWN))
    # Parents before what lies below them, else in the order of the stack.
    mounts = base + [chosen[target] for target in sorted(chosen, key=lambda path: path.count("/"))]
    mounts += [_bind(part.source, clean_path(part.target), part.options) for part in inputs.parts.mounts]
    if service.namespaces.host_user:  # Its ids are the host's already.
        mounts = [mount | {"options": [option for option in mount["options"] if option != "idmap"]} for mount in mounts]
    return [_with_devices(mount) for mount in mounts] if open_devices else mounts


def _with_devices(mount: dict[str, Any]) -> dict[str, Any]:
    """A bind below which devices open: the container's group says which."""
    if mount["type"] != "bind":
        return mount
    return {**mount, "options": [option for option in mount["options"] if option not in ("nodev", "rnodev")]}


def _shared_memory(service: Service) -> dict[str, Any] | bool:
    """Whether there is a /dev/shm; it goes with the IPC namespace, as Docker has it."""
    sharing = service.namespaces.ipc.sharing
    return _HOSTS_SHM if sharing is Sharing.HOST else sharing is not Sharing.NONE


def _base_options(destination: str, options: tuple[str, ...], service: Service) -> list[str]:
    if service.security.privileged and destination.startswith("/sys"):
        return [option for option in options if option != "ro"]
    if destination != "/dev/shm" or not service.shm_bytes:
        return list(options)
    return [f"size={service.shm_bytes}" if option.startswith("size=") else option for option in options]


def fills_of(service: Service, image: Image, volume_paths: Mapping[str, str]) -> tuple[VolumeFill, ...]:
    """Named and anonymous volumes start with what the image has at their place; the host image has nothing to give. A
    volume of which a folder is mounted is not empty."""
    if image.reference == "host":
        return ()
    wanted = dict.fromkeys(map(clean_path, image.config.volumes), True)
    for mount in service.volumes:
        wanted[clean_path(mount.target)] = mount.kind is MountKind.VOLUME and not (mount.nocopy or mount.subpath)
    return tuple(VolumeFill(path, _volume_directory(volume_paths, path)) for path, copy in wanted.items() if copy)


def subpaths_of(service: Service) -> dict[str, str]:
    """Destination -> folder, for the mounts that are a part of a volume or an image."""
    found = {clean_path(mount.target): posixpath.normpath(mount.subpath) for mount in service.volumes if mount.subpath}
    return {target: path for target, path in found.items() if path != "."}


def owners_of(service: Service) -> dict[str, str]:
    """Destination -> whose (`oci.terms`), for the binds whose ids depend on their source. Who has the host's ids has no
    others to be mapped. Raises InputError."""
    asked = {clean_path(m.target): m for m in service.volumes if m.kind is MountKind.BIND and m.owner in _BY_SOURCE}
    if not service.namespaces.host_user:
        return {target: _BY_SOURCE[mount.owner] for target, mount in asked.items()}
    for mount in asked.values():
        if mount.owner is Owner.SOURCE:
            message = "x-pystack.owner: source needs a user namespace, and this container is in the host's"
            raise InputError(message, hint="leave it out: its files belong to who writes them", place=mount.place)
    return {}


def _target(mount: Mount, service: Service) -> str:
    place = mount.place or f"{service.place}.volumes"
    if not mount.target.startswith("/"):
        raise InputError(f'the target "{mount.target}" is not an absolute path', place=place)
    target = clean_path(mount.target)
    check_target(target, "", place)
    return target


def _granted_target(file: GrantedFile) -> str:
    target = clean_path(file.target)
    check_target(target, f"the {file.name}: ", file.place)
    return target


def _granted_mount(file: GrantedFile) -> dict[str, Any]:
    return _bind(file.source, clean_path(file.target), ("ro", "rro"))


def check_target(target: str, what: str, place: str) -> None:
    """Raises InputError for a place that nothing can be mounted at; `what` begins the message."""
    if target in _NOT_TARGETS or target.startswith("/proc/"):
        hint = "use a directory of its own below it"
        raise InputError(f'{what}nothing can be mounted at "{target}"', hint=hint, place=place)


def _service_mount(mount: Mount, inputs: SandboxInputs) -> dict[str, Any]:
    target = clean_path(mount.target)
    access = ("ro", "rro") if mount.read_only else ()
    if mount.kind is MountKind.TMPFS:
        options = ["nosuid", "noexec", "nodev", f"mode={mount.tmpfs_mode if mount.tmpfs_mode is not None else 0o1777:o}"]
        if mount.tmpfs_size_bytes:
            options.append(f"size={mount.tmpfs_size_bytes}")
        options = [*options, *mount.options, "ro" if mount.read_only else "rw"]
        return {"destination": target, "type": "tmpfs", "source": "tmpfs", "options": options}
    if mount.kind is MountKind.VOLUME:
        directory = _volume_directory(inputs.volume_paths, mount.target)
        return _bind(posixpath.normpath(posixpath.join(directory, mount.subpath)), target, access)
    if mount.kind is MountKind.IMAGE:
        return _image_mount(mount, target, inputs)
    return _bind_mount(mount, target, inputs)


def _bind_mount(mount: Mount, target: str, inputs: SandboxInputs) -> dict[str, Any]:
    assert mount.source is not None, f"a bind mount without a source: {mount}"
    if mount.relabel and inputs.selinux:
        hint = "label it yourself: chcon -R -t container_file_t, and leave the option out"
        raise InputError(f"this machine has SELinux, and {mount.source} is not relabelled", hint=hint, place=mount.place)
    tree = mount.recursive is not Recursion.DISABLED
    device = clean_path(mount.source) in _EVERYONES
    options = ["rbind" if tree else "bind", mount.propagation or "rprivate", *(() if device else ("rnodev",))]
    if mount.owner is not Owner.KEEP and not device:  # Owners cannot be mapped there, and need not be.
        options.append("idmap")
    if mount.read_only:
        options += ["ro"] if mount.recursive is Recursion.WRITABLE or not tree else ["ro", "rro"]
    return {"destination": target, "type": "bind", "source": mount.source, "options": options}


def _image_mount(mount: Mount, target: str, inputs: SandboxInputs) -> dict[str, Any]:
    """An overlay without an upper directory; of one layer too, for who carries it out knows what that is."""
    image = inputs.mounted_images.get(mount.source or "")
    if image is None:
        raise InputError(f'the image "{mount.source}" is gone', hint="`pystack up` gets it", place=mount.place)
    if image.mounts:
        raise InputError(f'the image "{mount.source}" is parts of this machine, and cannot be mounted', place=mount.place)
    layers = [f"{LOWER}{path}" for path in image.lowers]
    return {"destination": target, "type": "overlay", "source": "overlay", "options": ["ro", "nodev", *layers]}


def _bind(source: str, target: str, options: tuple[str, ...]) -> dict[str, Any]:
    return {"destination": target, "type": "bind", "source": source, "options": [*_TREE_OPTIONS, *options]}


def _volume_directory(volume_paths: Mapping[str, str], target: str) -> str:
    directory = volume_paths.get(target) or volume_paths.get(clean_path(target))
    assert directory is not None, f"no directory for the volume at {target}"
    return directory


def clean_path(path: str) -> str:
    """An absolute path without ``.``, ``..`` and doubled or final slashes."""
    # normpath keeps a leading "//", as POSIX lets it mean something else; Linux does not.
    return posixpath.normpath("/" + path.lstrip("/"))
