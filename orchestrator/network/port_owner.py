"""Who has a host port, for explanations: a program, or a project of ours, whose supervisor and monitor have it."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise

from orchestrator.model.keys import ProjectName, project_key
from orchestrator.model.names import CGROUP_ROOT
from orchestrator.values import frozen

Publisher = Callable[[str, str, str, int], tuple[str, str] | None]
"""Of a data directory, a project, a protocol and a port: the service and the container that it was given to."""

_STATES = {"tcp": "0A", "udp": "07"}
"""TCP_LISTEN and TCP_CLOSE, as /proc/net/tcp and /proc/net/udp print them (proc_pid_net(5))."""
_SUPERVISOR = b"/orchestrator/supervisor/__main__.py"
_MONITOR = b"/orchestrator/runtime/monitor/__main__.py"
_MOST_BYTES = 1 << 16


@frozen
class Owner:
    """`text`: who it is, for a sentence. `project`: when it is one of ours, its name."""

    text: str
    project: str = ""


def port_owner(protocol: str, port: int, publisher: Publisher | None = None) -> Owner | None:
    """``"nginx" (pid 1234)`` of a process that has the port on any address, ``service web of pystack project shop``, or
    None. What /proc shows: not processes of other pid namespaces; a port that is bound but not listening has no line."""
    inodes = set()
    for table in (protocol, protocol + "6"):
        inodes |= _inodes(f"/proc/thread-self/net/{table}", port, _STATES[protocol])
    if not inodes:
        return None
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            with os.scandir(f"/proc/{pid}/fd") as entries:
                if any(_link(entry.path) in wanted for entry in entries):
                    return _who(pid, protocol, port, publisher)
        except OSError:
            continue  # ended meanwhile, or not ours to look at
    return None


def project_of_bridge(bridge: str) -> str:
    """The project of ours that is up and has this bridge; "" when none is known to."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            found = project_of(_read(int(name), "cmdline").split(b"\0"))
        except OSError:
            continue  # ended meanwhile
        if found is not None and bridge.startswith(f"psb{project_key(found[0], ProjectName(found[1]))}"):
            return found[1]
    return ""


def _who(pid: int, protocol: str, port: int, publisher: Publisher | None) -> Owner:
    if (ours := project_of(_read(pid, "cmdline").split(b"\0"))) is not None:
        data_root, project = ours
        found = publisher(data_root, project, protocol, port) if publisher is not None else None
        if found is None:
            return Owner(f"pystack project {project}", project)
        service, container = found
        return Owner(f"service {service} of pystack project {project} (container {container})", project)
    name = f'"{_read(pid, "comm").decode("utf-8", "replace").strip()}" (pid {pid})'
    container = _container_of(_read(pid, "cgroup").decode("utf-8", "replace"))
    return Owner(f"{name} in container {container}" if container else name)


def project_of(words: list[bytes]) -> tuple[str, str] | None:
    """The data directory and the project of a supervisor or a monitor with this command line."""
    for at, word in enumerate(words):
        rest = words[at + 1 :]
        if word.endswith(_SUPERVISOR):
            options = dict(pairwise(rest))
            data, project = options.get(b"--data-dir"), options.get(b"--project")
            return (os.fsdecode(data), os.fsdecode(project)) if data and project else None
        if word.endswith(_MONITOR) and len(rest) > 1:
            parent, _, project = rest[1].rstrip(b"/").rpartition(b"/")
            return os.fsdecode(os.path.dirname(parent)), os.fsdecode(project)
    return None


def _container_of(cgroups: str) -> str:
    """Whose process with these control groups is (a container in the host's network); "" for no container's of ours."""
    for line in cgroups.splitlines():
        _, root, below = line.partition(f"/{CGROUP_ROOT}/")
        parts = below.split("/")
        if root and len(parts) >= 2:
            return parts[1].removeprefix("_")
    return ""


def _read(pid: int, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read(_MOST_BYTES)


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _inodes(path: str, port: int, state: str) -> set[str]:
    try:
        with open(path, encoding="ascii") as file:
            lines = file.read().splitlines()[1:]
    except OSError:
        return set()
    rows = (line.split() for line in lines)
    return {row[9] for row in rows if len(row) > 9 and row[3] == state and int(row[1].rpartition(":")[2], 16) == port}
