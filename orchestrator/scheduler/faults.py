"""Errors of the adapters, pointed into the compose file."""

from __future__ import annotations

from orchestrator.errors import KINDS, CommandError, OperationError, PystackError
from orchestrator.model.project import Project
from orchestrator.model.service import Service


def located(error: PystackError, project: Project, service: Service, key: str = "") -> PystackError:
    """`error` with its place in the file: of the compose path that it names, else of the service's `key` (``image``), else
    of the service; or the option of the command line that gave it. One that has its place in a file already is left as it
    is."""
    if (attribute := _attribute_of(error.place)) or not error.place:
        attribute = attribute or key
        attribute = "entrypoint" if attribute == "command" and service.entrypoint else attribute
        path = ".".join((service.place, attribute)).rstrip(".")
    else:
        path = error.place
    return _at(error, service.given.get(path) or project.where(path))


def pointed(error: PystackError, project: Project) -> PystackError:
    """As `located`, of what is no service's: an error without a place has none."""
    return _at(error, project.where(error.place)) if error.place else error


def _at(error: PystackError, place: str) -> PystackError:
    if place == error.place:
        return error
    kind = KINDS.get(error.kind, OperationError)
    return kind(error.message, hint=error.hint, exit_code=error.exit_code, place=place)


def _attribute_of(path: str) -> str:
    """What of a service a path in its OCI config comes from; "" for another one."""
    return next((name for begin, name in _ATTRIBUTES.items() if path.startswith(begin)), "")


def key_of(error: PystackError) -> str:
    """The attribute of a service that an error without a path is about."""
    return "command" if isinstance(error, CommandError) else ""


_ATTRIBUTES = {
    "process.env": "environment",
    "process.cwd": "working_dir",
    "process.args": "command",
    "process.rlimits": "ulimits",
    "process.oomScoreAdj": "oom_score_adj",
    "hostname": "hostname",
    "domainname": "domainname",
    "mounts[": "volumes",
    "linux.sysctl": "sysctls",
    "linux.devices": "devices",
    "linux.resources.devices": "devices",
    "linux.resources.memory.limit": "mem_limit",
    "linux.resources.memory.reservation": "mem_reservation",
    "linux.resources.memory.swappiness": "mem_swappiness",
    "linux.resources.memory.swap": "memswap_limit",
    "linux.resources.memory.disableOOMKiller": "oom_kill_disable",
    "linux.resources.pids": "pids_limit",
    "linux.resources.cpu.cpus": "cpuset",
    "linux.resources.cpu.shares": "cpu_shares",
    "linux.resources.cpu.period": "cpu_period",
    "linux.resources.cpu.quota": "cpus",
    "linux.resources.cpu.realtimeRuntime": "cpu_rt_runtime",
    "linux.resources.cpu.realtimePeriod": "cpu_rt_period",
    "linux.resources.blockIO": "blkio_config",
}
"""Paths in an OCI config, by how they begin -> attribute of a service."""
