"""What `create` opens of the host for the container's first process: the root, the sources of binds, nodes of devices.

All of it is prepared as descriptors before the process is born, with the host's rights and in the host's mount namespace,
and attached by it (`first_process`): nothing of the host is looked up by a name of the container's.
"""

from __future__ import annotations

import errno
import os
import stat

from orchestrator.errors import HostError, InputError
from orchestrator.kernel import cgroup, mounts
from orchestrator.kernel import constants as c
from orchestrator.kernel.sysctls import sysctl_name, sysctl_path
from orchestrator.runtime.options import PROPAGATION
from orchestrator.standalone.mapping import map_lines, mount_namespace, outside
from orchestrator.standalone.mount_options import Options, parse
from orchestrator.standalone.plans import Device, Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    Config = Mapping[str, Any]


_DEVICES = (("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9))
_KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
_FALLBACKS = {"proc": b"/proc", "sysfs": b"/sys"}
_WITHOUT_SOURCE = frozenset({"tmpfs", "proc", "sysfs", "devpts", "mqueue", "ramfs"})
_MOST_STRING = 255
"""fsconfig(2) takes no longer values."""
_UNKNOWN_TO_THE_KERNEL = (b"x-", b"X-")


def open_root(path: str, propagation: str) -> int:
    """The root file system, detached. Raises InputError."""
    if not os.path.isdir(path):
        raise InputError(f"the root file system {path} is not a directory", place="root.path")
    tree = mounts.open_tree(c.AT_FDCWD, os.fsencode(path), recursive=True)
    kind = c.MS_SLAVE if propagation in ("slave", "rslave") else c.MS_PRIVATE
    mounts.set_attributes(tree, propagation=kind, recursive=True)
    return tree


def propagation_of(text: str) -> tuple[int, bool] | None:
    return (PROPAGATION[text.removeprefix("r")], text.startswith("r")) if text else None


def mounts_of(config: Config, bundle: str, group: str | None, layout: cgroup.Layout | None) -> list[Mount]:
    """In the config's order. `group`: the container's cgroup. Raises InputError, HostError."""
    found: list[Mount] = []
    own_cgroup = any(item["type"] == "cgroup" for item in (config.get("linux") or {}).get("namespaces") or ())
    for number, item in enumerate(config.get("mounts") or ()):
        place = f"mounts[{number}]"
        options = parse(item.get("options") or (), f"{place}.options")
        kind = item.get("type") or ""
        target = os.fsencode(item["destination"])
        what = item.get("source") if options.bind or kind == "bind" else f"a file system of type {kind}"
        about = os.fsencode(f"mount {what} at {item['destination']}")
        try:
            if options.bind or kind == "bind":
                found.append(_bind(config, item, options, bundle, target, about, place))
            elif kind in ("cgroup", "cgroup2"):
                if layout is not None:
                    found += _cgroups(target, about, options, layout, group, own_cgroup)
            else:
                found.append(_new(item, kind, options, target, about, place))
        except OSError as exc:
            message = f"cannot mount {item.get('source') or kind} at {item['destination']}: {exc.strerror}"
            raise HostError(message, place=place) from exc
    return found


def _bind(
    config: Config, item: Config, options: Options, bundle: str, target: bytes, about: bytes, place: str
) -> Mount:
    source = item.get("source")
    if not source:
        raise InputError("a bind mount needs a source", place=f"{place}.source")
    path = os.path.join(bundle, source)
    if options.copy_link and os.path.islink(path):
        return Mount(target, about, link=os.readlink(os.fsencode(path)))
    tree = mounts.open_tree(c.AT_FDCWD, os.fsencode(path), recursive=options.recursive)
    kind, below = options.propagation or (c.MS_PRIVATE, True)
    last = (kind, below) if kind == c.MS_UNBINDABLE else None  # Once it is where it belongs: what is so cannot be copied.
    mounts.set_attributes(tree, propagation=c.MS_PRIVATE if last else kind, recursive=below)
    if options.set_ or options.clear:
        mounts.set_attributes(tree, options.set_, options.clear)
    if options.tree_set or options.tree_clear:
        mounts.set_attributes(tree, options.tree_set, options.tree_clear, recursive=True)
    if options.idmap or item.get("uidMappings") or item.get("gidMappings"):
        lines = map_lines(config, item, options.idmap, place)
        recursive = options.recursive and (options.idmap.startswith("ridmap") or not options.idmap)
        namespace = mount_namespace(*lines)
        try:
            mounts.set_attributes(tree, userns=namespace, recursive=recursive)
        finally:
            os.close(namespace)
    directory = stat.S_ISDIR(os.fstat(tree).st_mode)
    return Mount(target, about, tree, directory=directory, propagation=last)


def _new(item: Config, kind: str, options: Options, target: bytes, about: bytes, place: str) -> Mount:
    if not kind or kind == "none":
        raise InputError("a mount needs a type, or the option bind", place=place)
    data = [(key, value) for key, value in options.data if not key.startswith(_UNKNOWN_TO_THE_KERNEL)]
    source = os.fsencode(item.get("source") or kind)
    mount = Mount(target, about, kind=os.fsencode(kind), data=data, set_=options.set_ | options.tree_set)
    mount.clear = options.clear | options.tree_clear
    mount.propagation = options.propagation
    mount.copy_up = options.copy_up
    mount.mode_of_target = kind == "tmpfs" and not any(key == b"mode" for key, _ in data)
    mount.fallback = _FALLBACKS.get(kind, b"")
    if any(value is not None and len(value) > _MOST_STRING for _, value in data):
        mount.source = source
        mount.old_way = b",".join(key if value is None else key + b"=" + value for key, value in data)
    else:
        mount.data.insert(0, (b"source", source))
    if options.copy_up and kind != "tmpfs":
        raise InputError("tmpcopyup is for tmpfs", place=f"{place}.options")
    if item.get("uidMappings") and kind in _WITHOUT_SOURCE:
        raise InputError(f"a mount of type {kind} has no id mappings", place=f"{place}.uidMappings")
    return mount


def _cgroups(
    target: bytes, about: bytes, options: Options, layout: cgroup.Layout, group: str | None, own: bool
) -> list[Mount]:
    """What a program expects below /sys/fs/cgroup: the v2 hierarchy, or a directory for each of v1's."""
    attributes = options.set_ | options.tree_set
    if not layout.controllers:
        return [_hierarchy(target, about, str(layout.unified), b"cgroup2", [], attributes, group, own)]
    data: list[tuple[bytes, bytes | None]] = [(b"source", b"cgroup"), (b"mode", b"755"), (b"nr_inodes", b"256")]
    top = Mount(target, about, kind=b"tmpfs", data=data)
    top.set_ = attributes & ~c.MOUNT_ATTR_RDONLY
    found = [top]
    places: dict[str, list[str]] = {}
    for name, where in layout.controllers.items():
        places.setdefault(where, []).append(name)
    for where, names in places.items():
        base = os.path.basename(where)
        data = [(name.encode(), None) for name in names]
        found.append(_hierarchy(target + b"/" + base.encode(), about, where, b"cgroup", data, attributes, group, own))
        links = [name for name in names if name != base and len(names) > 1]
        found += [Mount(target + b"/" + name.encode(), about, link=base.encode()) for name in links]
    if layout.unified is not None:
        place = target + b"/" + os.path.basename(layout.unified).encode()
        found.append(_hierarchy(place, about, layout.unified, b"cgroup2", [], attributes, group, own))
    if attributes & c.MOUNT_ATTR_RDONLY:
        found.append(Mount(target, about, kind=b"", set_=c.MOUNT_ATTR_RDONLY))
    return found


def _hierarchy(
    target: bytes,
    about: bytes,
    where: str,
    kind: bytes,
    data: list[tuple[bytes, bytes | None]],
    attributes: int,
    group: str | None,
    own: bool,
) -> Mount:
    """Without a cgroup namespace of its own the container's part is bound, so that it sees no other's."""
    if own:
        return Mount(target, about, kind=kind, data=[(b"source", b"cgroup"), *data], set_=attributes)
    path = f"{where}/{group}" if group else where
    tree = mounts.open_tree(c.AT_FDCWD, os.fsencode(path))
    mounts.set_attributes(tree, attributes, propagation=c.MS_PRIVATE)
    return Mount(target, about, tree)


def needs_devices(config: Config) -> bool:
    """Not where /dev is somebody else's, who has them."""
    for item in config.get("mounts") or ():
        if os.path.normpath("/" + item["destination"].lstrip("/")) == "/dev":
            options = parse(item.get("options") or (), "mounts")
            if options.bind or item.get("type") == "bind":
                return False
    return True


def devices_of(config: Config, *, in_user_namespace: bool) -> list[Device]:
    """Those that every container has, and its own. Raises InputError, HostError."""
    linux = config.get("linux") or {}
    found: dict[bytes, Device] = {}
    if needs_devices(config):
        for name, minor in _DEVICES:
            path = f"/dev/{name}".encode()
            found[path] = Device(path, b"make " + path, stat.S_IFCHR | 0o666, os.makedev(1, minor))
        found[b"/dev/tty"] = Device(b"/dev/tty", b"make /dev/tty", stat.S_IFCHR | 0o666, os.makedev(5, 0))
    for item in linux.get("devices") or ():
        path = os.fsencode(os.path.normpath(item["path"]))
        mode = (0o666 if item.get("fileMode") is None else item["fileMode"] & 0o7777) | _KINDS[item["type"]]
        number = 0 if item["type"] == "p" else _number(item)
        device = Device(path, b"make the device " + path, mode, number)
        device.uid, device.gid = item.get("uid") or 0, item.get("gid") or 0
        found[path] = device
    if in_user_namespace:
        for device in found.values():
            _make_outside(device, lambda kind, number: outside(linux.get(f"{kind}Mappings") or (), number))
    return list(found.values())


def _number(item: Config) -> int:
    try:
        return os.makedev(item["major"], item["minor"])
    except OverflowError:
        raise InputError(f"{item['major']}:{item['minor']} is not the number of a device", place="linux.devices") from None


def _make_outside(device: Device, in_container: Callable[[str, int], int]) -> None:
    """Nobody can make a node in a user namespace: it is made in a small tmpfs out here, and mounted over an empty file."""
    name = b"node"
    try:
        attributes = c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NOEXEC
        top = mounts.new_filesystem(b"tmpfs", [(b"mode", b"0755"), (b"size", b"4k")], attributes)
        try:
            before = os.umask(0)
            os.mknod(name, device.mode, device.device, dir_fd=top)
            os.umask(before)
            uid, gid = in_container("uid", device.uid), in_container("gid", device.gid)
            os.chown(name, uid, gid, dir_fd=top, follow_symlinks=False)
            device.tree = mounts.open_tree(top, name)
        finally:
            os.close(top)
    except OSError as exc:
        if exc.errno == errno.EINVAL:  # Parts of what has no place can be copied since Linux 6.15.
            _borrow(device)
        else:
            raise HostError(f"cannot make the device {os.fsdecode(device.path)}: {exc.strerror}") from exc


def _borrow(device: Device) -> None:
    """The host's node of that number, under the same name."""
    name = os.fsdecode(device.path)
    try:
        fd = os.open(device.path, os.O_PATH | os.O_CLOEXEC)
        try:
            found = os.fstat(fd)
            if stat.S_IFMT(found.st_mode) != stat.S_IFMT(device.mode) or found.st_rdev != device.device:
                hint = "Linux 6.15 can make one for a user namespace"
                raise HostError(f"{name} is another device on the host", hint=hint)
            device.tree = mounts.open_tree(fd, b"")
            mounts.set_attributes(device.tree, propagation=c.MS_PRIVATE)
        finally:
            os.close(fd)
    except OSError as exc:
        raise HostError(f"cannot open the device {name}: {exc.strerror}") from exc


def sysctls_of(config: Config) -> list[tuple[bytes, bytes]]:
    """Path below /proc/sys, value."""
    given: Mapping[str, str] = (config.get("linux") or {}).get("sysctl") or {}
    return [(sysctl_path(sysctl_name(name)).encode(), value.encode()) for name, value in given.items()]


def paths_of(given: Sequence[str] | None) -> list[bytes]:
    return [os.fsencode(path) for path in given or ()]
