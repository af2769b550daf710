"""A service and its image become an OCI runtime config (runtime-spec 1.2, config.md and config-linux.md). Pure.

`_FIELDS` is the whole mapping: one row for each place in the config, with the function that says what stands there
(None: the place is left out). The config is complete, so that another OCI runtime could run it, but for ``root.path``
(the runtime makes the root from the image's layers) and the network namespace (the runtime has it already).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from orchestrator.contracts.images import Image
from orchestrator.contracts.runtime import OciConfig, SandboxSpec
from orchestrator.errors import InputError
from orchestrator.kernel.caps import CAPABILITIES
from orchestrator.model.names import SINGLE, cgroup_path
from orchestrator.model.namespaces import Sharing
from orchestrator.model.seccomp import translated
from orchestrator.model.security import UNCONFINED
from orchestrator.model.service import Service
from orchestrator.model.volume import MountKind
from orchestrator.oci.confinement import READONLY_PATHS, held_capabilities, masked_paths, sysctls
from orchestrator.oci.devices import device_list_of, devices_of
from orchestrator.oci.files import files_of
from orchestrator.oci.inputs import Context, SandboxInputs
from orchestrator.oci.mounts import clean_path, fills_of, mounts_of, owners_of, subpaths_of
from orchestrator.oci.namespaces import namespaces_of
from orchestrator.oci.resources import block_io, cpu, memory, pids, rlimits
from orchestrator.oci.seccomp_profile import default_profile
from orchestrator.oci.terms import (
    ANNOTATION_GROUPS,
    ANNOTATION_HOME,
    ANNOTATION_INIT,
    ANNOTATION_MAKE_SOURCES,
    ANNOTATION_OWNERS,
    ANNOTATION_STORAGE,
    ANNOTATION_SUBPATHS,
    DEFAULT_PATH,
    DEFAULT_UMASK,
    OCI_VERSION,
    ORDERS,
)


def compile_sandbox(inputs: SandboxInputs) -> SandboxSpec:
    """Everything the container is made of. Raises InputError, starting with the compose path, for what cannot work:
    no command, an unknown user, a relative path, a limit below the minimum."""
    context = Context.of(inputs)
    config: dict[str, Any] = {}
    for path, make in _FIELDS:
        value = make(context)
        if value is not None:
            _place(config, path, value)
    fills = fills_of(inputs.service, inputs.image, inputs.volume_paths)
    return SandboxSpec(
        inputs.container,
        inputs.image.lowers,
        OciConfig(config),
        files_of(context),
        fills,
        log=inputs.log,
        shares=inputs.shares,
        stdin_open=inputs.service.stdin_open,
    )


def command_of(service: Service, image: Image) -> tuple[str, ...]:
    """The program and its arguments, combined as Docker does: an entrypoint of the stack's clears the image's command, an
    empty one the image's entrypoint alone. Empty when neither the stack nor the image has one."""
    entrypoint = image.config.entrypoint if service.entrypoint is None else service.entrypoint
    if service.command is not None:
        return (*entrypoint, *service.command)
    return tuple(entrypoint) if service.entrypoint else (*entrypoint, *image.config.command)


def _place(config: dict[str, Any], path: str, value: object) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        config = config.setdefault(parent, {})
    config[last] = value


# ---- process ----------------------------------------------------------------------------------------------------------


def _args(context: Context) -> list[str]:
    args = command_of(context.service, context.image)
    if not args:
        raise InputError(
            f'no command: neither the stack nor the image "{context.image.reference}" has one',
            hint="add `command:` to the service",
            place=context.service.place,
        )
    return list(args)


def _env(context: Context) -> list[str]:
    variables = {"PATH": DEFAULT_PATH, "HOSTNAME": context.hostname}
    variables.update(context.image.config.environment)
    variables.update(context.service.environment)
    variables.setdefault("HOME", context.user.home)
    variables.update(text.partition("=")[::2] for text in context.inputs.parts.environment)
    return [f"{name}={value}" for name, value in variables.items()]


def _cwd(context: Context) -> str:
    cwd = context.service.working_dir or context.image.config.working_dir or "/"
    if not cwd.startswith("/"):
        raise InputError(
            f'"{cwd}" is not an absolute path',
            hint=f'did you mean "/{cwd}"?',
            place=f"{context.service.place}.working_dir",
        )
    return clean_path(cwd)


def _user(context: Context) -> dict[str, Any]:
    user = context.user
    groups = list(dict.fromkeys((*user.groups, *context.added_groups)))
    return {"uid": user.uid, "gid": user.gid, "umask": DEFAULT_UMASK, "additionalGids": groups}


def _held(context: Context) -> list[str]:
    if context.service.security.privileged:
        return list(CAPABILITIES)
    return held_capabilities(context.service.cap_add, context.service.cap_drop)


def _capabilities(context: Context) -> dict[str, list[str]]:
    held = _held(context)
    # What execve(2) leaves to a user that is not root: the bounding set alone (capabilities(7)).
    effective = held if context.user.uid == 0 else []
    return {"bounding": held, "effective": effective, "permitted": effective, "inheritable": [], "ambient": []}


# ---- confinement ------------------------------------------------------------------------------------------------------


def _seccomp(context: Context) -> dict[str, Any] | None:
    security, inputs = context.service.security, context.inputs
    if not security.seccomp:
        return None if security.privileged else default_profile(inputs.machine, _held(context))
    if security.seccomp == UNCONFINED:
        return None
    return translated(security.seccomp, inputs.machine, frozenset(_held(context)), inputs.kernel)


def _open_paths(context: Context) -> bool:
    return context.service.security.privileged or not context.service.security.system_paths


def _hooks(context: Context) -> dict[str, list[dict[str, Any]]] | None:
    found: dict[str, list[dict[str, Any]]] = {}
    for kind, hook in context.inputs.parts.hooks:
        found.setdefault(kind, []).append(hook)
    return found or None


# ---- labels -----------------------------------------------------------------------------------------------------------


def _annotations(context: Context) -> dict[str, str]:
    inputs, service, image = context.inputs, context.service, context.image.config
    stop_signal = service.stop_signal or image.stop_signal
    notes = {**image.labels, **service.labels, **service.annotations}
    sources = [
        mount.source for mount in service.volumes if mount.kind is MountKind.BIND and mount.create_host_path
    ]
    return {
        # The image's and the user's are notes; ours are orders to the runtime.
        **{name: text for name, text in notes.items() if name not in ORDERS},
        "com.docker.compose.project": inputs.site.project,
        "com.docker.compose.service": service.name,
        "com.docker.compose.container-number": str(context.instance.number),
        "com.docker.compose.oneoff": str(context.instance.role in SINGLE),
        "com.docker.compose.image": context.image.identity,
        **({"org.opencontainers.image.stopSignal": stop_signal} if stop_signal else {}),
        **({ANNOTATION_INIT: "true"} if service.init else {}),
        **({ANNOTATION_GROUPS: " ".join(map(str, added))} if (added := context.added_groups) else {}),
        **({} if "HOME" in image.environment or "HOME" in service.environment else {ANNOTATION_HOME: "default"}),
        **({ANNOTATION_MAKE_SOURCES: json.dumps(sources)} if sources else {}),
        **({ANNOTATION_OWNERS: json.dumps(owners)} if (owners := owners_of(service)) else {}),
        **({ANNOTATION_STORAGE: str(service.storage_bytes)} if service.storage_bytes else {}),
        **({ANNOTATION_SUBPATHS: json.dumps(subpaths)} if (subpaths := subpaths_of(service)) else {}),
    }


def _id_mappings(context: Context) -> list[dict[str, int]] | None:
    if context.service.namespaces.host_user:
        return None
    extents = context.ids.extents()
    return [{"containerID": inner, "hostID": outer, "size": count} for inner, outer, count in extents]


def _namespaces(context: Context) -> list[dict[str, str]]:
    namespaces = context.service.namespaces
    return namespaces_of(namespaces, host_user=namespaces.host_user)


def _cgroup(context: Context) -> str:
    return "/" + cgroup_path(context.inputs.site.key, context.inputs.container, context.service.cgroup_parent)


def _own_hostname(context: Context) -> str | None:
    return None if context.service.namespaces.uts.sharing is Sharing.HOST else context.hostname


def _sysctls(context: Context) -> dict[str, str] | None:
    """Ours are of a network namespace that nobody else has made."""
    own = context.service.namespaces.network.sharing in (Sharing.PRIVATE, Sharing.NONE)
    return (sysctls(context.ids.count) if own else {}) | dict(context.service.security.sysctls) or None


# ---- the table --------------------------------------------------------------------------------------------------------

_FIELDS: tuple[tuple[str, Callable[[Context], object]], ...] = (
    ("ociVersion", lambda context: OCI_VERSION),
    ("process.terminal", lambda context: context.service.tty),
    ("process.user", _user),
    ("process.args", _args),
    ("process.env", _env),
    ("process.cwd", _cwd),
    ("process.capabilities", _capabilities),
    (
        "process.noNewPrivileges",
        lambda context: context.image.no_new_privileges or context.service.security.no_new_privileges,
    ),
    ("process.rlimits", rlimits),
    ("process.oomScoreAdj", lambda context: context.service.oom_score_adj),
    ("root.path", lambda context: "rootfs"),
    ("root.readonly", lambda context: context.service.read_only),
    ("hostname", _own_hostname),
    ("domainname", lambda context: context.service.domainname),
    ("mounts", lambda context: mounts_of(context.inputs)),
    ("annotations", _annotations),
    ("linux.namespaces", _namespaces),
    ("linux.uidMappings", _id_mappings),
    ("linux.gidMappings", _id_mappings),
    ("linux.cgroupsPath", _cgroup),
    ("linux.resources.memory", memory),
    ("linux.resources.pids", pids),
    ("linux.resources.cpu", cpu),
    ("linux.resources.blockIO", block_io),
    ("linux.resources.devices", lambda context: device_list_of(context.service, context.inputs.parts)),
    ("linux.devices", lambda context: devices_of(context.inputs.parts)),
    ("linux.sysctl", _sysctls),
    ("linux.seccomp", _seccomp),
    ("linux.maskedPaths", lambda context: [] if _open_paths(context) else list(masked_paths(context.inputs.host_cpus))),
    ("linux.readonlyPaths", lambda context: [] if _open_paths(context) else list(READONLY_PATHS)),
    ("hooks", _hooks),
)
