"""The kernel parameters and names of a config's own namespaces (runtime-spec, ``linux.sysctl``, ``hostname``). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.kernel.sysctls import sysctl_name, sysctl_path


def parameters_of(config: Mapping[str, Any]) -> tuple[list[tuple[str, str]], tuple[str, str]]:
    """Paths below /proc/sys with their values; and the host name and the domain name, which have system calls of their own:
    "" where nothing is said. Raises ValueError for a name that is none."""
    names = {"kernel.hostname": config.get("hostname") or "", "kernel.domainname": config.get("domainname") or ""}
    paths = []
    for given, value in ((config.get("linux") or {}).get("sysctl") or {}).items():
        name = sysctl_name(given)
        if name in names:
            names[name] = str(value)
        else:
            paths.append((sysctl_path(name), str(value)))
    return paths, (names["kernel.hostname"], names["kernel.domainname"])
