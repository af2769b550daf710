"""What ``run`` makes a container from: the service as the stack has it, with the command line's changes.

Source: ``docker compose run``, measured. What is of the replicas alone is left out (`model.single_run`), but for published
ports that are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from orchestrator.compose.kinds.expand import ExpandError, made
from orchestrator.compose.kinds.paths import absolute
from orchestrator.compose.kinds.shapes import JSON
from orchestrator.compose.kinds.short_forms import clean_path, parse_port, parse_volume
from orchestrator.compose.model import project_parts
from orchestrator.compose.model.reader import Reader
from orchestrator.compose.text.diagnostics import Diagnostic
from orchestrator.compose.text.files import Source
from orchestrator.compose.text.shell import ShellError, split
from orchestrator.compose.text.tree import Node
from orchestrator.errors import InputError
from orchestrator.model.names import VolumeName
from orchestrator.model.network import PortMapping
from orchestrator.model.project import Project
from orchestrator.model.security import capability
from orchestrator.model.service import Service
from orchestrator.model.single_run import as_single_run
from orchestrator.model.volume import Mount, MountKind, Volume
from orchestrator.values import field, frozen, replace

_Part = TypeVar("_Part", PortMapping, Mount)


@frozen
class Changes:
    """`command` empty and `entrypoint` None: the service's. `volumes`, `ports`: short forms, relative to `directory`, with
    ``~`` for `home`. `service_ports`: publish the service's own; not together with `ports`."""

    directory: str
    home: str | None = None
    command: tuple[str, ...] = ()
    entrypoint: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    working_dir: str | None = None
    ports: tuple[str, ...] = ()
    service_ports: bool = False
    volumes: tuple[str, ...] = ()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    tty: bool = False
    stdin_open: bool = False


def one_off(project: Project, service: Service, changes: Changes) -> Service:
    """The definition of a one-off of `service`. Raises InputError for what cannot be read."""
    if changes.ports and changes.service_ports:
        raise InputError("--publish and --service-ports cannot be combined")
    ports = tuple(port for text in changes.ports for port in _ports(text))
    if ports and not service.namespaces.publishes:
        raise InputError("--publish: the service has no network of its own", hint="leave it out, or its `network_mode`")
    added = capabilities(changes.cap_add, "--cap-add")
    dropped = capabilities(changes.cap_drop, "--cap-drop")
    service = replace(
        as_single_run(service),
        ports=service.ports if changes.service_ports else ports,
        environment={**service.environment, **changes.environment},
        labels={**service.labels, **changes.labels},
        volumes=_mounts(project, service, changes),
        user=changes.user or service.user,
        working_dir=changes.working_dir or service.working_dir,
        cap_add=(*(name for name in service.cap_add if name not in dropped), *added),
        cap_drop=(*(name for name in service.cap_drop if name not in added), *dropped),
        given=_options(service, changes),
        tty=changes.tty,
        stdin_open=changes.stdin_open,
    )
    if changes.entrypoint is not None:
        service = replace(service, entrypoint=_words(changes.entrypoint), command=())
    return replace(service, command=changes.command) if changes.command else service


def with_undeclared(project: Project, definition: Service) -> Project:
    """`project` with the volumes that `definition` alone names: as those that somebody else has made."""
    names = [VolumeName(mount.source) for mount in definition.volumes if mount.undeclared and mount.source is not None]
    return replace(project, volumes={**project.volumes, **{name: Volume(name, name, external=True) for name in names}})


def _options(service: Service, changes: Changes) -> dict[str, str]:
    options = {"user": ("--user", changes.user), "working_dir": ("--workdir", changes.working_dir)}
    found = {f"{service.place}.{name}": f"{option} {text}" for name, (option, text) in options.items() if text}
    if changes.command or changes.entrypoint is not None:
        found[f"{service.place}.command"] = "the command line"
    if changes.entrypoint:
        found[f"{service.place}.entrypoint"] = f"--entrypoint {changes.entrypoint}"
    return found


def capabilities(names: tuple[str, ...], where: str) -> tuple[str, ...]:
    """Names as the kernel has them (``CAP_NET_RAW``), or ALL. Raises InputError for one that does not exist."""
    found = []
    for name in names:
        full = capability(name)
        if full is None:
            raise InputError(f'{where}: there is no capability "{name}"', hint="capabilities(7) has their names; or ALL")
        found.append(full)
    return tuple(dict.fromkeys(found))


def _words(text: str) -> tuple[str, ...]:
    try:
        return tuple(split(text))
    except ShellError as exc:
        raise InputError(f"--entrypoint: {exc}") from exc


def _ports(text: str) -> tuple[PortMapping, ...]:
    flag = f"--publish {text}"
    try:
        items: list[JSON] = [dict(port) for port in parse_port(text)]
    except ExpandError as exc:
        raise InputError(f"{flag}: {exc}", hint=exc.hint) from exc
    node, read = _written({"ports": items})
    return _read(flag, project_parts.ports(read, node, flag), read.found)


def _mounts(project: Project, service: Service, changes: Changes) -> tuple[Mount, ...]:
    """The service's and those of the command line, which take the place of what is mounted there."""
    mounts = {clean_path(mount.target): mount for mount in service.volumes}
    for text in changes.volumes:
        (mount,) = _mount(text, changes)
        named = mount.kind is MountKind.VOLUME and mount.source is not None
        mounts[mount.target] = replace(mount, undeclared=named and mount.source not in project.volumes)
    return tuple(mounts.values())


def _mount(text: str, changes: Changes) -> tuple[Mount, ...]:
    flag = f"--volume {text}"
    try:
        item = parse_volume(text)
    except ExpandError as exc:
        raise InputError(f"{flag}: {exc}", hint=exc.hint) from exc
    if item["type"] == "bind":
        item["source"] = absolute(changes.directory, str(item["source"]), changes.home)
    node, read = _written({"volumes": [{**item, "target": clean_path(str(item["target"]))}]})
    return _read(flag, project_parts.mounts(read, node, flag), read.found)


def _written(value: JSON) -> tuple[Node, Reader]:
    """`value` as if a compose file had it."""
    node = made(Node(None, Source("", "", ""), 0, 0), value)
    return node, Reader(node, [])


def _read(flag: str, parts: tuple[_Part, ...], found: list[Diagnostic]) -> tuple[_Part, ...]:
    """Raises InputError for the first thing that is wrong with them."""
    if found:
        raise InputError(f"{flag}: {found[0].message}", hint=found[0].hint)
    return tuple(replace(part, place=flag) for part in parts)
