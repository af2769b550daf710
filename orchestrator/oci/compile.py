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
from orchestrator.model.names import Role, cgroup_path
from orchestrator.model.service import Service
from orchestrator.model.volume import MountKind
from orchestrator.oci.confinement import READONLY_PATHS, held_capabilities, masked_paths, sysctls
from orchestrator.oci.files import files_of
from orchestrator.oci.inputs import Context, SandboxInputs
from orchestrator.oci.mounts import clean_path, fills_of, mounts_of, subpaths_of
from orchestrator.oci.resources import cpu, memory, pids
from orchestrator.oci.seccomp_profile import default_profile
from orchestrator.oci.terms import (
    ANNOTATION_HOME,
    ANNOTATION_INIT,
    ANNOTATION_MAKE_SOURCES,
    ANNOTATION_SUBPATHS,
    DEFAULT_PATH,
    DEFAULT_UMASK,
    NAMESPACES,
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
    return {"uid": user.uid, "gid": user.gid, "umask": DEFAULT_UMASK, "additionalGids": list(user.groups)}


def _capabilities(context: Context) -> dict[str, list[str]]:
    held = held_capabilities(context.service.cap_add, context.service.cap_drop)
    # What execve(2) leaves to a user that is not root: the bounding set alone (capabilities(7)).
    effective = held if context.user.uid == 0 else []
    return {"bounding": held, "effective": effective, "permitted": effective, "inheritable": [], "ambient": []}


# ---- labels -----------------------------------------------------------------------------------------------------------


def _annotations(context: Context) -> dict[str, str]:
    inputs, service, image = context.inputs, context.service, context.image.config
    stop_signal = service.stop_signal or image.stop_signal
    sources = [
        mount.source for mount in service.volumes if mount.kind is MountKind.BIND and mount.create_host_path
    ]
    return {
        # The image's and the user's are notes; ours are orders to the runtime.
        **{name: text for name, text in {**image.labels, **service.labels}.items() if name not in ORDERS},
        "com.docker.compose.project": inputs.site.project,
        "com.docker.compose.service": service.name,
        "com.docker.compose.container-number": str(context.instance.number),
        "com.docker.compose.oneoff": str(context.instance.role is Role.ONE_OFF),
        "com.docker.compose.image": context.image.identity,
        **({"org.opencontainers.image.stopSignal": stop_signal} if stop_signal else {}),
        **({ANNOTATION_INIT: "true"} if service.init else {}),
        **({} if "HOME" in image.environment or "HOME" in service.environment else {ANNOTATION_HOME: "default"}),
        **({ANNOTATION_MAKE_SOURCES: json.dumps(sources)} if sources else {}),
        **({ANNOTATION_SUBPATHS: json.dumps(subpaths)} if (subpaths := subpaths_of(service)) else {}),
    }


def _id_mappings(context: Context) -> list[dict[str, int]]:
    ids = context.inputs.site.ids
    return [{"containerID": 0, "hostID": ids.host_base, "size": ids.count}]


# ---- the table --------------------------------------------------------------------------------------------------------

_FIELDS: tuple[tuple[str, Callable[[Context], object]], ...] = (
    ("ociVersion", lambda context: OCI_VERSION),
    ("process.terminal", lambda context: context.service.tty),
    ("process.user", _user),
    ("process.args", _args),
    ("process.env", _env),
    ("process.cwd", _cwd),
    ("process.capabilities", _capabilities),
    ("process.noNewPrivileges", lambda context: context.image.no_new_privileges),
    ("root.path", lambda context: "rootfs"),
    ("root.readonly", lambda context: context.service.read_only),
    ("hostname", lambda context: context.hostname),
    ("mounts", lambda context: mounts_of(context.inputs)),
    ("annotations", _annotations),
    ("linux.namespaces", lambda context: [{"type": kind} for kind in NAMESPACES]),
    ("linux.uidMappings", _id_mappings),
    ("linux.gidMappings", _id_mappings),
    ("linux.cgroupsPath", lambda context: "/" + cgroup_path(context.inputs.site.key, context.inputs.container)),
    ("linux.resources.memory", memory),
    ("linux.resources.pids", pids),
    ("linux.resources.cpu", cpu),
    ("linux.sysctl", lambda context: sysctls(context.inputs.site.ids.count)),
    ("linux.seccomp", lambda context: default_profile(context.inputs.machine)),
    ("linux.maskedPaths", lambda context: list(masked_paths(context.inputs.host_cpus))),
    ("linux.readonlyPaths", lambda context: list(READONLY_PATHS)),
)
