"""An OCI runtime config becomes a program: the flat list of steps that the monitor's child executes. Pure.

`_start_steps` and `_exec_steps` are in the order of execution; what each step does is in `monitor/steps.py`, and each can
say in words what it was about, for when it fails.
"""

from __future__ import annotations

import posixpath
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from orchestrator.contracts.runtime import GeneratedFile, SandboxSpec
from orchestrator.errors import InputError
from orchestrator.kernel import constants as c
from orchestrator.kernel.caps import CAPABILITIES
from orchestrator.kernel.limits import DEFAULTS, NUMBERS, UNLIMITED
from orchestrator.kernel.seccomp import flags_of
from orchestrator.oci.annotations import object_in
from orchestrator.oci.namespaces import own_namespaces
from orchestrator.oci.terms import ANNOTATION_INIT, ANNOTATION_SUBPATHS, DEFAULT_PATH, DEFAULT_UMASK, LOWER
from orchestrator.runtime.entering import entering, joining
from orchestrator.runtime.nodes import Node, device_nodes
from orchestrator.runtime.options import MountOptions, parse_options
from orchestrator.runtime.parameters import parameters_of
from orchestrator.runtime.program import Program, Step, StepArgument
from orchestrator.values import field, frozen

_RLIM_INFINITY = (1 << 64) - 1
DEFAULT_TERM = "xterm"
"""Of a process with a terminal, where nothing is said."""

_MOST_SMALL = 2**19
"""Bytes that the step ``files`` has room for, whatever is lost at the ends of pages."""


@frozen
class Hierarchy:
    """A v1 cgroup hierarchy as the container sees it: directory name below /sys/fs/cgroup, and its controllers."""

    name: str
    controllers: tuple[str, ...]


@frozen
class Context:
    """What a program needs to know of where it will run. `bundle`: its directory. `host_base`: the host's id of the
    container's root. `layers`: the monitor's numbers of `layer_paths`. `unified`: there is a v2 hierarchy. `hierarchies`:
    the v1 ones that the container is in. `compile_filter`: `kernel.seccomp.compile_filter` for this machine. `held`: a mask
    of the capabilities that can be given. `owners`: destination of a bind -> the descriptor of the user namespace that its
    ids are mapped by."""

    bundle: str
    host_base: int
    layers: tuple[int, ...]
    unified: bool
    hierarchies: tuple[Hierarchy, ...]
    last_capability: int
    compile_filter: Callable[[Mapping[str, Any]], bytes]
    held: int = -1
    owners: Mapping[str, str] = field(default_factory=dict)


def compile_start(
    spec: SandboxSpec, context: Context, *, terminal: bool = False, size: tuple[int, int] = (0, 0)
) -> Program:
    """The program of a new run. `terminal`: with one of its own, whatever the config says, of `size` (rows, columns; 0: as
    it comes). Raises InputError for a config that asks for what this runtime does not do."""
    return Program(tuple(_start_steps(spec, context, terminal, size)))


def compile_exec(
    process: Mapping[str, Any],
    config: Mapping[str, Any],
    context: Context,
    *,
    terminal: bool,
    size: tuple[int, int] = (0, 0),
    minded: bool = False,
) -> Program:
    """The program of a further process in a running container. `process`: an OCI ``process``. `config`: the container's.
    `minded`: what it leaves behind is reaped (the step `mind`)."""
    return Program(tuple(_exec_steps(process, config, context, terminal, size, minded)))


def compile_view(spec: SandboxSpec, context: Context) -> Iterator[Step]:
    """What of a container's mounts there is while it does not run: binds and volumes, and mounted images, each attached at
    its place. Raises InputError."""
    mounts = [mount for mount in _number_mounts(spec) if mount.kind == "bind" or mount.lowers]
    yield from _image_steps(mounts, dict(zip(layer_paths(spec), context.layers, strict=True)))
    yield from _outer_mount_steps(mounts, context, mapped="user" in own_namespaces(spec.config))
    for mount in mounts:
        yield Step("attach", (mount.slot, mount.target), mount.source)


@frozen
class _Mount:
    """`slot` None: made in the container's own namespaces. `lowers`: of a mounted image. `folder`: the part of it."""

    target: str
    kind: str
    options: MountOptions
    slot: int | None = None
    source: str = ""
    lowers: tuple[str, ...] = ()
    folder: str = ""


def layer_paths(spec: SandboxSpec) -> tuple[str, ...]:
    """All image layers that its mounts are made of: those of its root, topmost first, then those of mounted images."""
    mounted = (path for entry in spec.config.get("mounts") or () for path in lowers_of(entry))
    return tuple(dict.fromkeys((*spec.lowers, *mounted)))


def lowers_of(entry: Mapping[str, Any]) -> list[str]:
    """The layers of a mounted image, topmost first; none for any other mount."""
    if entry.get("type") != "overlay":
        return []
    return [option.removeprefix(LOWER) for option in entry.get("options") or () if option.startswith(LOWER)]


def _start_steps(spec: SandboxSpec, context: Context, terminal: bool, size: tuple[int, int]) -> Iterator[Step]:
    config = spec.config
    linux: Mapping[str, Any] = config.get("linux") or {}
    process: Mapping[str, Any] = config["process"]
    mounts = _number_mounts(spec)
    terminal = bool(process.get("terminal")) or terminal
    read_only = bool((config.get("root") or {}).get("readonly"))

    yield from _limit_steps(process)
    bundle_name = posixpath.basename(context.bundle)
    numbers = dict(zip(layer_paths(spec), context.layers, strict=True))
    root = [numbers[path] for path in spec.lowers]
    yield Step("overlay", (0, root, bundle_name), f"make the root file system in {context.bundle}")
    yield from _image_steps(mounts, numbers)
    own = own_namespaces(config)
    if (linux.get("resources") or {}).get("devices") is not None:
        yield Step("root_devices", (0,), "let devices open in the root file system")
    yield from _outer_mount_steps(mounts, context, mapped="user" in own)
    nodes = device_nodes(linux)
    yield from _node_steps(nodes, mounts, context)
    if "cgroup" not in own:
        yield from _outer_cgroup_steps(mounts, context)
    yield Step(*entering(spec), "enter the namespaces")
    yield Step("session")
    yield Step("take_root", (0,), "attach the root file system")
    yield from _inner_mount_steps(mounts, context, own_cgroup="cgroup" in own)
    for node in nodes:
        if node.target:
            yield Step("node_at", (node.name, node.target), f"make the device {node.target}")
    if spec.files:
        if read_only:
            yield Step("files_read_only")
        yield _files_step(spec.files)
    parameters, names = parameters_of(config)
    for path, value in parameters:
        yield Step("sysctl", (path, value), f"set the sysctl {path} to {value}")
    for path in linux.get("maskedPaths") or ():
        yield Step("mask", (path,), f"mask {path}")
    for path in linux.get("readonlyPaths") or ():
        yield Step("read_only", (path,), f"make {path} read-only")
    if any(names):
        yield Step("hostname", names, f"set the host name {names[0]} and the domain name {names[1]}")
    yield Step("pivot", (), "pivot into the root file system")
    yield Step("working_directory", (process.get("cwd") or "/",), f"enter the working directory {process.get('cwd')}")
    if read_only:
        yield Step("root_read_only", (), "make the root file system read-only")
    init = (config.get("annotations") or {}).get(ANNOTATION_INIT) == "true"
    yield from _stdio_steps(process, terminal, size)
    if terminal:
        yield Step("console", (), "make the terminal /dev/console")
    yield from _process_steps(process, linux, context, init="init" if init else "", terminal=terminal)


def _files_step(files: Sequence[GeneratedFile]) -> Step:
    """The step that every monitor knows, where that does it."""
    text = "make " + ", ".join(file.path for file in files)
    made: list[list[StepArgument]] = []
    size = 0
    for file in files:
        assert file.content is not None, f"no content for {file.path}"
        size += len(file.content)
        made.append([file.path, file.mode, b64encode(file.content).decode()])
    if size <= _MOST_SMALL and not any(file.uid or file.gid for file in files):
        return Step("files", (made,), text)
    return Step("owned_files", ([[*each, file.uid, file.gid] for each, file in zip(made, files, strict=True)],), text)


def _exec_steps(
    process: Mapping[str, Any],
    config: Mapping[str, Any],
    context: Context,
    terminal: bool,
    size: tuple[int, int],
    minded: bool,
) -> Iterator[Step]:
    linux: Mapping[str, Any] = config.get("linux") or {}
    yield from _limit_steps(process)
    yield Step(*joining(config), "enter the container's namespaces")
    yield Step("joined", (), "enter the container's cgroups")
    yield Step("session")
    yield from _stdio_steps(process, terminal, size)
    cwd = process.get("cwd") or "/"
    yield Step("change_directory", (cwd,), f"enter the working directory {cwd}")
    yield from _process_steps(process, linux, context, init="mind" if minded else "", terminal=terminal)


def _stdio_steps(process: Mapping[str, Any], terminal: bool, size: tuple[int, int]) -> Iterator[Step]:
    if terminal:
        user = process.get("user") or {}
        yield Step("terminal", (user.get("uid", 0), user.get("gid", 0)), "make a terminal")
        if any(size):
            yield Step("window", size, f"make the terminal {size[0]} rows of {size[1]} columns")
    else:
        yield Step("stdio")


def _limit_steps(process: Mapping[str, Any]) -> Iterator[Step]:
    """What is of the process itself and passes through fork and execve; of an exec the same as of the container."""
    yield from _rlimit_steps(process)
    if (score := process.get("oomScoreAdj")) is not None:
        yield Step("oom_score", (int(score),), f"set oom_score_adj to {score}")


def _rlimit_steps(process: Mapping[str, Any]) -> Iterator[Step]:
    """Those of the config, which must be had, and the defaults for all others."""
    own: dict[str, tuple[int, int]] = {}
    for limit in process.get("rlimits") or ():
        if limit["type"] not in NUMBERS:
            raise InputError(f"there is no resource limit {limit['type']}")
        own[limit["type"]] = _rlimit(limit["soft"]), _rlimit(limit["hard"])
    defaults = [[number, soft, hard] for name, number, soft, hard in DEFAULTS if name not in own]
    yield Step("default_limits", (defaults,), "set the default resource limits")
    for name, (soft, hard) in own.items():
        yield Step("rlimit", (NUMBERS[name], soft, hard), f"set {name} to {soft}:{hard}")


def _rlimit(value: int) -> int:
    """The config's RLIM_INFINITY is 2^64 - 1, as in C; Python's is -1."""
    return UNLIMITED if value == _RLIM_INFINITY else value


def _number_mounts(spec: SandboxSpec) -> list[_Mount]:
    """The config's mounts; those that need the host's root get a slot (0 is the root's)."""
    mounts: list[_Mount] = []
    slots = 0
    folders = subpaths(spec.config)
    for entry in spec.config.get("mounts") or ():
        target, kind = entry["destination"], entry.get("type") or ""
        options = parse_options(entry.get("options") or ())
        slot = None
        lowers = tuple(lowers_of(entry))
        shared = target == "/dev/shm" and kind == "tmpfs" and "ipc" in spec.shares
        if options.bind or target == "/dev" or lowers or shared:
            slots += 1
            slot = slots
        kind = "shm" if shared else "bind" if options.bind else "cgroup" if kind == "cgroup2" else kind
        if kind == "overlay" and not (lowers and options.set_ & c.MOUNT_ATTR_RDONLY and len(options.data) == 1):
            raise InputError(f"the overlay at {target} is not supported: read-only, of {LOWER}DIR alone")
        if kind not in ("bind", "shm", "tmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup", "overlay"):
            raise InputError(f"a mount of type {kind or '(none)'} at {target} is not supported")
        source, folder = entry.get("source") or "", folders.get(target, "")
        mounts.append(_Mount(target, kind, options, slot, source, lowers, folder))
    return mounts


def subpaths(config: Mapping[str, Any]) -> dict[str, str]:
    """Destination -> folder (`oci.terms.ANNOTATION_SUBPATHS`). Raises InputError for an annotation that says no such
    thing."""
    return object_in(config, ANNOTATION_SUBPATHS, "folders")


def base_of(source: str, folder: str) -> str:
    """What of the mount's `source` must not be left."""
    return source.removesuffix(f"/{folder}")


def _image_steps(mounts: Sequence[_Mount], numbers: Mapping[str, int]) -> Iterator[Step]:
    for mount in mounts:
        if mount.lowers:
            what = f"mount an image at {mount.target}" if not mount.folder else f"mount {mount.folder} of an image"
            lowers = [numbers[path] for path in mount.lowers]
            yield Step("image", (mount.slot, lowers, mount.folder, mount.options.set_), what)


def _outer_mount_steps(mounts: Sequence[_Mount], context: Context, *, mapped: bool) -> Iterator[Step]:
    """`mapped`: the container has ids of its own."""
    for mount in mounts:
        if mount.kind == "shm":
            yield Step("shared_memory", (mount.slot, "ipc", mount.options.set_), "share the other's /dev/shm")
        elif mount.slot is not None and mount.kind not in ("bind", "overlay"):
            # The ids are the host's: this tmpfs is made outside of the user namespace.
            data = [["uid", str(context.host_base)], ["gid", str(context.host_base)], *map(list, mount.options.data)]
            yield Step("devices", (mount.slot, data, mount.options.set_, context.host_base), "make the devices for /dev")
    binds = [mount for mount in mounts if mount.kind == "bind"]
    if not binds:
        return
    yield Step("to_host", (), "enter the host's mount namespace")
    for mount in binds:
        o = mount.options
        inherits = o.propagation == c.MS_SHARED or (o.recursive and not o.propagates_below)
        how = (o.recursive, o.tree_set, o.tree_clear, 0 if inherits else o.propagation, o.idmap and mapped)
        what = f"mount {mount.source} at {mount.target}"
        if (owner := context.owners.get(mount.target)) is not None:
            yield Step("ids", (mount.slot, owner), f"map the owners of {mount.source}")
        if mount.folder:
            yield Step("bind_below", (mount.slot, base_of(mount.source, mount.folder), mount.folder, *how), what)
        else:
            yield Step("bind", (mount.slot, mount.source, *how), what)
        if o.set_ != o.tree_set or o.clear != o.tree_clear:
            yield Step("top_attributes", (mount.slot, o.set_, o.clear), what)
        if inherits:
            spread = f"set the propagation of {mount.target}"
            yield Step("propagate", (mount.slot, o.propagation, o.propagates_below), spread)
    yield Step("to_home", (), "leave the host's mount namespace")


def _node_steps(nodes: Sequence[Node], mounts: Sequence[_Mount], context: Context) -> Iterator[Step]:
    if nodes:
        slot = next((mount.slot for mount in mounts if mount.target == "/dev" and mount.kind == "tmpfs"), None)
        if slot is None:
            raise InputError("linux.devices needs a tmpfs at /dev", place="mounts")
        text = "make the devices " + ", ".join(node.target or f"/dev/{node.name}" for node in nodes)
        yield Step("nodes", (slot, [node.made(context.host_base) for node in nodes], context.host_base), text)


def _inner_mount_steps(mounts: Sequence[_Mount], context: Context, *, own_cgroup: bool) -> Iterator[Step]:
    joined = False
    for mount in mounts:
        text = f"mount {mount.source or mount.kind} at {mount.target}"
        if mount.slot is not None:
            yield Step("attach", (mount.slot, mount.target), text)
        elif mount.kind == "cgroup":
            if not joined:
                joined = True
                yield Step("joined", (), "enter the cgroups")
            yield from _cgroup_steps(mount, context, own_cgroup)
        else:
            data = [list(item) for item in mount.options.data]
            yield Step("filesystem", (mount.kind, data, mount.options.set_, mount.target), text)
    if not joined:
        yield Step("joined", (), "enter the cgroups")


def _cgroup_steps(mount: _Mount, context: Context, own: bool) -> Iterator[Step]:
    """`own`: they are mounted in the container's cgroup namespace; else they have been mounted already."""
    attributes = mount.options.set_
    if context.hierarchies:
        writable = attributes & ~c.MOUNT_ATTR_RDONLY
        size = [["mode", "0755"], ["size", "64k"], ["nr_inodes", "64"]]
        yield Step("filesystem", ("tmpfs", size, writable, mount.target), f"make {mount.target}")
    for number, (kind, data, target) in enumerate(_trees(mount, context), 1):
        if own:
            yield Step("filesystem", (kind, data, attributes, target), f"mount {kind} at {target}")
        else:
            yield Step("attach", (-number, target), f"mount {kind} at {target}")
    if context.hierarchies and attributes & c.MOUNT_ATTR_RDONLY:
        yield Step("make_read_only", (mount.target,), f"make {mount.target} read-only")


def _outer_cgroup_steps(mounts: Sequence[_Mount], context: Context) -> Iterator[Step]:
    """Who is in the host's cgroup namespace may have no right to mount what it shows."""
    for mount in mounts:
        if mount.kind == "cgroup":
            for number, (kind, data, target) in enumerate(_trees(mount, context), 1):
                arguments = (-number, kind, data, mount.options.set_)
                yield Step("outer_filesystem", arguments, f"mount {kind} for {target}")


def _trees(mount: _Mount, context: Context) -> Iterator[tuple[str, list[list[str | None]], str]]:
    """What a program expects below /sys/fs/cgroup: the v2 hierarchy itself, or a directory for each of v1's. Kind, options
    and place."""
    if context.unified and not context.hierarchies:
        yield "cgroup2", [], mount.target
        return
    for hierarchy in context.hierarchies:
        yield "cgroup", [[controller, None] for controller in hierarchy.controllers], f"{mount.target}/{hierarchy.name}"
    if context.unified:
        yield "cgroup2", [], f"{mount.target}/unified"


def _process_steps(
    process: Mapping[str, Any], linux: Mapping[str, Any], context: Context, *, init: str, terminal: bool
) -> Iterator[Step]:
    """Identity, privileges, and the program itself. The filter comes before the change of identity unless no_new_privs
    is set, because without that installing one needs a capability (seccomp(2)). `init`: the step that makes one, if any."""
    capabilities = process.get("capabilities")
    if capabilities is not None:
        yield Step("bounding", (_bits(capabilities, "bounding", context), context.last_capability), "drop capabilities")
    no_new_privileges = bool(process.get("noNewPrivileges"))
    profile = linux.get("seccomp")
    if no_new_privileges:
        yield Step("no_new_privileges")
    filter_step = None
    if profile is not None:
        try:
            compiled, flags = context.compile_filter(profile), flags_of(profile)
        except ValueError as exc:
            raise InputError(f"linux.seccomp: {exc}") from exc
        text = b64encode(compiled).decode()
        filter_step = Step("seccomp", (text,), "install the seccomp filter")
        if flags:
            filter_step = Step("seccomp_flags", (text, flags), "install the seccomp filter")
    if filter_step is not None and not no_new_privileges:
        yield filter_step
    user = process.get("user") or {}
    uid, gid = user.get("uid", 0), user.get("gid", 0)
    groups = list(dict.fromkeys((gid, *(user.get("additionalGids") or ()))))
    yield Step("identity", (uid, gid, groups), f"become user {uid}:{gid}")
    if capabilities is not None:
        sets = ("effective", "permitted", "inheritable", "ambient")
        masks = tuple(sum(1 << bit for bit in _bits(capabilities, name, context)) for name in sets)
        yield Step("capabilities", masks, "set capabilities")
    if filter_step is not None and no_new_privileges:
        yield filter_step
    if init:
        yield Step(init, (), "start the init")
    argv = list(process["args"])
    environment = list(process.get("env") or ())
    if not any(text.startswith("PATH=") for text in environment):
        environment.append(f"PATH={DEFAULT_PATH}")
    if terminal and not any(text.startswith("TERM=") for text in environment):
        environment.append(f"TERM={DEFAULT_TERM}")
    yield Step("execute", (argv, environment, user.get("umask", DEFAULT_UMASK)), f"execute {argv[0]}")


def _bits(capabilities: Mapping[str, Any], name: str, context: Context) -> list[int]:
    """Bit numbers, without those that this kernel or we do not have. Raises InputError for an unknown name."""
    bits = []
    for capability in capabilities.get(name) or ():
        if capability not in CAPABILITIES:
            raise InputError(f"there is no capability {capability}")
        bit = CAPABILITIES[capability]
        if bit <= context.last_capability and context.held >> bit & 1:
            bits.append(bit)
    return bits
