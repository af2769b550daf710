"""A service and its image become an OCI runtime config (runtime-spec 1.2, config.md and config-linux.md). Pure.

`_FIELDS` is the whole mapping: one row for each place in the config, with the function that says what stands there
(None: the place is left out). The config is complete, so that another OCI runtime could run it, but for ``root.path``
(the runtime makes the root from the image's layers) and the network namespace (the runtime has it already).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.contracts.images import Image
from orchestrator.contracts.network import Endpoint
from orchestrator.contracts.runtime import GeneratedFile, OciConfig, SandboxSpec
from orchestrator.contracts.site import Site
from orchestrator.errors import InputError
from orchestrator.model.health import HealthCheck
from orchestrator.model.names import ContainerId, cgroup_path
from orchestrator.model.service import Service
from orchestrator.model.volume import MountKind
from orchestrator.plan.confinement import DEFAULT_CAPABILITIES, READONLY_PATHS, masked_paths, sysctls
from orchestrator.plan.mounts import clean_path, fills_of, mounts_of
from orchestrator.plan.seccomp_profile import default_profile
from orchestrator.plan.users import User, resolve_user
from orchestrator.values import field, frozen, replace

OCI_VERSION = "1.2.0"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_PIDS = 2048
CPU_PERIOD_US = 100_000
MIN_MEMORY_BYTES = 6 * 1024 * 1024
MIN_CPUS = 0.01
LABEL_MAX = 63
"""One label of a DNS name."""
KERNEL_HOSTNAME_MAX = 64

ANNOTATION_INIT = "pystack.init"
"""``true``: a tiny init is PID 1 and the program its child."""
ANNOTATION_MAKE_SOURCES = "pystack.bind.create"
"""Host directories of bind mounts to be made when they are missing (the short volume form), as a JSON list."""


@frozen
class SandboxInputs:
    """What a container is compiled from. `volume_paths`: mount target -> host directory, for each named and anonymous
    volume, also those of the image's config. `resolv_search`, `resolv_options`: of the host's resolv.conf.
    `machine`: ``os.uname().machine``. `host_cpus`: how many processors the host has (paths to hide)."""

    site: Site
    container: ContainerId
    service: Service
    image: Image
    endpoints: tuple[Endpoint, ...] = ()
    volume_paths: Mapping[str, str] = field(default_factory=dict)
    resolv_search: tuple[str, ...] = ()
    resolv_options: tuple[str, ...] = ()
    machine: str = "x86_64"
    host_cpus: int = 1


def compile_sandbox(inputs: SandboxInputs) -> SandboxSpec:
    """Everything the container is made of. Raises InputError, starting with the compose path, for what cannot work:
    no command, an unknown user, a relative path, a limit below the minimum."""
    user = _resolve_user(inputs)
    context = _Context(inputs, user, _hostname(inputs))
    config: dict[str, Any] = {}
    for path, make in _FIELDS:
        value = make(context)
        if value is not None:
            _place(config, path, value)
    fills = fills_of(inputs.service, inputs.image, inputs.volume_paths)
    return SandboxSpec(inputs.container, inputs.image.lowers, OciConfig(config), _files(context), fills)


def command_of(service: Service, image: Image) -> tuple[str, ...]:
    """The program and its arguments, combined as Docker does: an entrypoint of the stack's clears the image's command.
    Empty when neither the stack nor the image has one."""
    entrypoint = image.config.entrypoint if service.entrypoint is None else service.entrypoint
    if service.command is not None:
        return (*entrypoint, *service.command)
    return (*entrypoint, *image.config.command) if service.entrypoint is None else tuple(entrypoint)


def healthcheck_of(service: Service, image: Image) -> HealthCheck | None:
    """The health check that is in force, with its `test`; None when there is none or it is disabled."""
    own, inherited = service.healthcheck, image.config.healthcheck
    merged = inherited if own is None else own
    if merged is None or merged.disabled:
        return None
    if merged.test is None:
        if inherited is None or inherited.disabled or inherited.test is None:
            return None
        merged = replace(merged, test=inherited.test)
    return merged


@frozen
class _Context:
    inputs: SandboxInputs
    user: User
    hostname: str

    @property
    def service(self) -> Service:
        return self.inputs.service

    @property
    def image(self) -> Image:
        return self.inputs.image


def _place(config: dict[str, Any], path: str, value: object) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        config = config.setdefault(parent, {})
    config[last] = value


# ---- process ----------------------------------------------------------------------------------------------------------


def _resolve_user(inputs: SandboxInputs) -> User:
    text = inputs.service.user if inputs.service.user is not None else inputs.image.config.user
    place = f"{inputs.service.place}.user"
    try:
        user = resolve_user(text, inputs.image.passwd, inputs.image.group)
    except ValueError as exc:
        raise InputError(
            f'{place}: {exc} in the image "{inputs.image.reference}"',
            hint="use a name from the image's /etc/passwd and /etc/group, or numbers: user: 1000:1000",
        ) from exc
    if (highest := max(user.uid, *user.groups)) >= inputs.site.ids.count:
        raise InputError(
            f"{place}: id {highest} is outside the {inputs.site.ids.count} ids a container has",
            hint=f"use ids below {inputs.site.ids.count}",
        )
    return user


def _args(context: _Context) -> list[str]:
    args = command_of(context.service, context.image)
    if not args:
        raise InputError(
            f'{context.service.place}: no command: neither the stack nor the image "{context.image.reference}" has one',
            hint="add `command:` to the service",
        )
    return list(args)


def _env(context: _Context) -> list[str]:
    variables = {"PATH": DEFAULT_PATH, "HOSTNAME": context.hostname}
    variables.update(context.image.config.environment)
    variables.update(context.service.environment)
    variables.setdefault("HOME", context.user.home)
    return [f"{name}={value}" for name, value in variables.items()]


def _cwd(context: _Context) -> str:
    cwd = context.service.working_dir or context.image.config.working_dir or "/"
    if not cwd.startswith("/"):
        raise InputError(
            f'{context.service.place}.working_dir: "{cwd}" is not an absolute path', hint=f'did you mean "/{cwd}"?'
        )
    return clean_path(cwd)


def _user(context: _Context) -> dict[str, Any]:
    user = context.user
    return {"uid": user.uid, "gid": user.gid, "umask": 0o022, "additionalGids": list(user.groups)}


def _capabilities(context: _Context) -> dict[str, list[str]]:
    held = list(DEFAULT_CAPABILITIES)
    # What execve(2) leaves to a user that is not root: the bounding set alone (capabilities(7)).
    effective = held if context.user.uid == 0 else []
    return {"bounding": held, "effective": effective, "permitted": effective, "inheritable": [], "ambient": []}


# ---- names ------------------------------------------------------------------------------------------------------------


def _hostname(inputs: SandboxInputs) -> str:
    hostname = inputs.service.hostname
    if hostname is not None and len(hostname.encode("utf-8", "surrogateescape")) > KERNEL_HOSTNAME_MAX:
        raise InputError(f"{inputs.service.place}.hostname: longer than the {KERNEL_HOSTNAME_MAX} bytes the kernel takes")
    return hostname or inputs.container[:LABEL_MAX].rstrip("-")


def _annotations(context: _Context) -> dict[str, str]:
    inputs, service = context.inputs, context.service
    number = inputs.container.rpartition("-")[2]
    stop_signal = service.stop_signal or context.image.config.stop_signal
    sources = [
        mount.source for mount in service.volumes if mount.kind is MountKind.BIND and mount.create_host_path
    ]
    return {
        **service.labels,
        "com.docker.compose.project": inputs.site.project,
        "com.docker.compose.service": service.name,
        "com.docker.compose.container-number": number if number.isdigit() else "1",
        "com.docker.compose.oneoff": "False",
        "com.docker.compose.image": context.image.identity,
        **({"org.opencontainers.image.stopSignal": stop_signal} if stop_signal else {}),
        **({ANNOTATION_INIT: "true"} if service.init else {}),
        **({ANNOTATION_MAKE_SOURCES: json.dumps(sources)} if sources else {}),
    }


# ---- limits -----------------------------------------------------------------------------------------------------------


def _memory(context: _Context) -> dict[str, int] | None:
    limit = context.service.limits.memory_bytes
    if not limit:
        return None
    if limit < MIN_MEMORY_BYTES:
        raise InputError(
            f"{context.service.place}.mem_limit: {limit} bytes is less than the minimum of 6 MiB",
            hint="write a unit: mem_limit: 64m",
        )
    # As Docker: as much swap again as memory.
    return {"limit": limit, "swap": 2 * limit}


def _pids(context: _Context) -> dict[str, int]:
    limit = context.service.limits.pids
    return {"limit": DEFAULT_PIDS if limit is None else limit if limit > 0 else -1}


def _cpu(context: _Context) -> dict[str, int] | None:
    cpus = context.service.limits.cpus
    if not cpus:
        return None
    if cpus < MIN_CPUS:
        raise InputError(f"{context.service.place}.cpus: {cpus:g} is less than the minimum of {MIN_CPUS:g}")
    return {"quota": round(cpus * CPU_PERIOD_US), "period": CPU_PERIOD_US}


def _id_mappings(context: _Context) -> list[dict[str, int]]:
    ids = context.inputs.site.ids
    return [{"containerID": 0, "hostID": ids.host_base, "size": ids.count}]


# ---- the table --------------------------------------------------------------------------------------------------------

_NAMESPACES = ("user", "network", "pid", "mount", "uts", "ipc", "cgroup")

_FIELDS: tuple[tuple[str, Callable[[_Context], object]], ...] = (
    ("ociVersion", lambda context: OCI_VERSION),
    ("process.terminal", lambda context: False),
    ("process.user", _user),
    ("process.args", _args),
    ("process.env", _env),
    ("process.cwd", _cwd),
    ("process.capabilities", _capabilities),
    ("process.noNewPrivileges", lambda context: context.image.no_new_privileges),
    ("root.path", lambda context: "rootfs"),
    ("root.readonly", lambda context: context.service.read_only),
    ("hostname", lambda context: context.hostname),
    ("mounts", lambda context: mounts_of(context.service, context.image, context.inputs.volume_paths)),
    ("annotations", _annotations),
    ("linux.namespaces", lambda context: [{"type": kind} for kind in _NAMESPACES]),
    ("linux.uidMappings", _id_mappings),
    ("linux.gidMappings", _id_mappings),
    ("linux.cgroupsPath", lambda context: "/" + cgroup_path(context.inputs.site.key, context.inputs.container)),
    ("linux.resources.memory", _memory),
    ("linux.resources.pids", _pids),
    ("linux.resources.cpu", _cpu),
    ("linux.sysctl", lambda context: sysctls(context.inputs.site.ids.count)),
    ("linux.seccomp", lambda context: default_profile(context.inputs.machine)),
    ("linux.maskedPaths", lambda context: list(masked_paths(context.inputs.host_cpus))),
    ("linux.readonlyPaths", lambda context: list(READONLY_PATHS)),
)


# ---- files ------------------------------------------------------------------------------------------------------------

_HOSTS_HEAD = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def _hosts(context: _Context) -> str:
    name = context.hostname
    names = f"{name} {name.partition('.')[0]}" if "." in name else name
    own = "".join(f"{address.ip}\t{names}\n" for endpoint in context.inputs.endpoints for address in endpoint.addresses)
    return _HOSTS_HEAD + (own or f"127.0.1.1\t{names}\n")


def _resolv_conf(context: _Context) -> str:
    """Our DNS on the bridge of the first network with a way out. ndots:0: service names have no dots, and a search list
    must not send them outside first."""
    inputs = context.inputs
    outward = [endpoint for endpoint in inputs.endpoints if not endpoint.internal] or list(inputs.endpoints)
    lines = [f"nameserver {endpoint.addresses[0].gateway}" for endpoint in outward[:1]]
    if inputs.resolv_search:
        lines.append("search " + " ".join(inputs.resolv_search))
    options = [option for option in inputs.resolv_options if not option.startswith("ndots:")]
    lines.append("options " + " ".join([*options, "ndots:0"]))
    return "\n".join(lines) + "\n"


_FILES: tuple[tuple[str, Callable[[_Context], str]], ...] = (
    ("/etc/hosts", _hosts),
    ("/etc/hostname", lambda context: context.hostname + "\n"),
    ("/etc/resolv.conf", _resolv_conf),
)


def _files(context: _Context) -> tuple[GeneratedFile, ...]:
    """Those that the stack does not mount itself."""
    taken = {clean_path(mount.target) for mount in context.service.volumes}
    return tuple(
        GeneratedFile(path, content(context).encode("utf-8", "surrogateescape"))
        for path, content in _FILES
        if path not in taken and "/etc" not in taken
    )
