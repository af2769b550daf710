"""Whether a bind's source can propagate mounts as the config asks (mount_namespaces(7)): its mount is shared already."""

from __future__ import annotations

import os

from orchestrator.contracts.runtime import SandboxSpec
from orchestrator.errors import HostError
from orchestrator.kernel.constants import MS_SHARED, MS_SLAVE
from orchestrator.runtime.options import parse_options


def check_propagation(spec: SandboxSpec) -> None:
    """Raises HostError for a ``shared`` bind of what is not shared, and a ``slave`` of what gets no mounts from anywhere:
    they would be private without a word."""
    for entry in spec.config.get("mounts") or ():
        options = parse_options(entry.get("options") or ())
        if not options.bind or options.propagation not in (MS_SHARED, MS_SLAVE):
            continue
        source = entry["source"]
        found = _peers_of(source)
        wanted = ("shared:",) if options.propagation == MS_SHARED else ("shared:", "master:")
        if found is not None and not any(field.startswith(wanted) for field in found[1]):
            word = "shared" if options.propagation == MS_SHARED else "shared or slave"
            hint = f"`mount --make-rshared {found[0]}`, or leave the propagation out"
            raise HostError(f"{source} is on the mount {found[0]}, which is not a {word} mount", hint=hint)


def _peers_of(path: str) -> tuple[str, list[str]] | None:
    """Where the mount is that `path` is on, and its optional fields (proc_pid_mountinfo(5)); None when it is not there (the
    mount itself will say so)."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
            number = next(line.split()[1] for line in file if line.startswith("mnt_id:"))
    finally:
        os.close(fd)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.split(" ")
            if fields[0] == number:
                return fields[4], fields[6 : fields.index("-")]
    return None
