"""The container whose namespaces another one is in: where it is, and what of it is needed.

It is one of the same project, or, by its name, one of another project of the same data directory. Another project has
another user namespace, in which this one's containers have no rights: those that are in its namespaces have to be in the
host's user namespace, and say so.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from glob import escape, glob

from orchestrator.contracts.runtime import GeneratedFile, SandboxSpec
from orchestrator.contracts.site import Site
from orchestrator.errors import HostError, InputError, OperationError
from orchestrator.kernel.identity import own_uid
from orchestrator.kernel.pidfd import start_time
from orchestrator.model.names import ContainerId
from orchestrator.oci.namespaces import NETWORK_FILES, own_namespaces
from orchestrator.runtime.bundle import bundle_path, read_bundle
from orchestrator.runtime.history import running_pid
from orchestrator.runtime.session import Session
from orchestrator.values import replace

_JOINED = {"network": "net", "pid": "pid", "ipc": "ipc"}
"""The type of a shared namespace -> the name of what leads to it, in a start."""


def check_shares(site: Site, spec: SandboxSpec) -> None:
    """Whether there is whom it shares with. Raises InputError, OperationError."""
    own = own_namespaces(spec.config)
    for kind, owner in spec.shares.items():
        if kind not in own or kind not in _JOINED:
            raise InputError(f"the {kind} namespace of {owner} cannot be had by {spec.container}")
        theirs = own_namespaces(read_bundle(_site(site, owner), owner).config)
        if kind not in theirs:
            raise OperationError(f"{owner} has no {kind} namespace of its own: it is in the host's")
        if "user" in own and ("user" not in theirs or not _is_ours(site, owner)):
            what = "in the host's user namespace" if "user" not in theirs else "of another project"
            raise OperationError(
                f"{spec.container} cannot be in the {kind} namespace of {owner}, which is {what}",
                hint="add `userns_mode: host` to its service: root in it is then the machine's root",
            )


def with_shared_files(site: Site, spec: SandboxSpec) -> SandboxSpec:
    """Who is in another's network has its names and its resolver: the files without content are the other's. Raises
    OperationError."""
    owner = spec.shares.get("network")
    if owner is None:
        return spec
    theirs = {file.path: file for file in read_bundle(_site(site, owner), owner).files if file.path in NETWORK_FILES}
    files: list[GeneratedFile] = []
    for file in spec.files:
        if file.path not in NETWORK_FILES:
            files.append(file)
        elif file.path in theirs:
            files.append(replace(file, content=theirs[file.path].content))
    return replace(spec, files=tuple(files))


async def network_of(session: Session, site: Site, spec: SandboxSpec) -> int:
    """The network namespace that it is in, if that is one of this project's; else -1."""
    owner = spec.shares.get("network")
    if "network" not in own_namespaces(spec.config) or (owner is not None and not _is_ours(site, owner)):
        return -1
    return await session.network_namespace(owner or spec.container)


@contextlib.contextmanager
def joined(session: Session, site: Site, spec: SandboxSpec) -> Iterator[dict[str, int]]:
    """What leads to the namespaces of runs that live now, by name; nobody's after the block. Raises OperationError for a
    container that does not run."""
    opened: list[int] = []
    found: dict[str, int] = {}
    try:
        for kind, owner in spec.shares.items():
            if _is_ours(site, owner):
                if kind == "network":
                    continue  # It is held apart from runs.
                active = session.active.get(owner)
                if active is None:
                    raise _does_not_run(spec, kind, owner)
                found[_JOINED[kind]] = active.pidfd
                continue
            pid, pidfd = _open_other(site, spec, kind, owner)
            opened.append(pidfd)
            found[_JOINED[kind]] = pidfd
            if kind == "network":
                found[_JOINED[kind]] = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                opened.append(found[_JOINED[kind]])
                if start_time(pid) is None:  # It has ended, and the number may have been another's.
                    raise _does_not_run(spec, kind, owner)
        yield found
    except FileNotFoundError as exc:
        raise has_just_ended(spec) from exc
    finally:
        for fd in opened:
            os.close(fd)


def _open_other(site: Site, spec: SandboxSpec, kind: str, owner: ContainerId) -> tuple[int, int]:
    """Pid and pidfd of the run of a container of another project."""
    running = running_pid(f"{_site(site, owner).data_dir}/exits.journal", owner)
    if running is None:
        raise _does_not_run(spec, kind, owner)
    pid, ticks = running
    try:
        pidfd = os.pidfd_open(pid)
    except OSError as exc:
        raise _does_not_run(spec, kind, owner) from exc
    if start_time(pid) != ticks:
        os.close(pidfd)
        raise _does_not_run(spec, kind, owner)
    return pid, pidfd


def has_just_ended(spec: SandboxSpec) -> OperationError:
    owners = ", ".join(sorted(set(spec.shares.values())))
    return OperationError(f"cannot start {spec.container}: {owners}, whose namespaces it is in, has just ended")


def _does_not_run(spec: SandboxSpec, kind: str, owner: ContainerId) -> OperationError:
    message = f"cannot start {spec.container}: {owner}, whose {kind} namespace it is in, does not run"
    return OperationError(message, hint=f"start {owner} first")


def _is_ours(site: Site, owner: ContainerId) -> bool:
    return os.path.isdir(bundle_path(site, owner))


def _site(site: Site, owner: ContainerId) -> Site:
    """The project that has the container `owner`: ours, if it has one. Raises OperationError."""
    if _is_ours(site, owner):
        return site
    projects = os.path.dirname(site.data_dir)
    found = sorted(glob(f"{escape(projects)}/*/containers/{escape(owner)}/spec.json"))
    if not found:
        raise OperationError(f'there is no container "{owner}"', hint="`pystack ps --all` shows those of a project")
    directories = [os.path.dirname(os.path.dirname(os.path.dirname(path))) for path in found]
    if len(directories) > 1:
        names = ", ".join(os.path.basename(path) for path in directories)
        raise OperationError(f'several projects have a container "{owner}": {names}', hint="give it a `container_name`")
    if os.stat(directories[0]).st_uid != own_uid():
        raise HostError(f"{directories[0]} is not ours")
    return replace(site, data_dir=directories[0])
