"""``DATA_DIR/networks.json``: which subnet and bridge each network was given. Written before the bridge is made, so that
the subnet is the same after a crash and after a reboot, when nothing in the kernel tells it any more.

    {"version": 2, "networks": {NAME: {"subnets": [{"subnet", "gateway"}], "bridge", "chosen", "internal"}}}

Version 1 had no version, and one subnet: ``{NAME: {"subnet", "gateway", "chosen", "internal"}}``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from orchestrator.contracts.state import Finding
from orchestrator.errors import HostError, OperationError
from orchestrator.kernel.atomic import keep_aside, replace_file
from orchestrator.kernel.plain import open_plain
from orchestrator.model.names import NetworkName
from orchestrator.network.addressing import Ipv4Subnet
from orchestrator.values import frozen

VERSION = 2
_MAX_BYTES = 1 << 20


@frozen
class Recorded:
    """`internal`: so that the firewall's rules can be made for a network before it is asked for again. `bridge`: its
    interface, "" when it has the first name that derives (`model.names.bridge_name`)."""

    subnet: Ipv4Subnet
    internal: bool = False
    bridge: str = ""


class SubnetRecord:
    """The file, and what it says. Methods do small blocking I/O. `findings`: what was found damaged when it was read."""

    def __init__(self, data_dir: str) -> None:
        self._dir = data_dir
        self._path = os.path.join(data_dir, "networks.json")
        self.findings: tuple[Finding, ...] = ()
        self._subnets = self._read()

    @property
    def networks(self) -> Mapping[NetworkName, Recorded]:
        return self._subnets

    def set(self, network: NetworkName, entry: Recorded) -> None:
        if self._subnets.get(network) != entry:
            self._subnets[network] = entry
            self._write()

    def forget(self, network: NetworkName) -> None:
        if self._subnets.pop(network, None) is not None:
            self._write()

    def _read(self) -> dict[NetworkName, Recorded]:
        try:
            fd = open_plain(self._path, os.O_RDONLY)
        except FileNotFoundError:
            return {}
        except OSError as exc:
            raise HostError(f"cannot read {self._path}: {exc.strerror}") from exc
        with open(fd, "rb") as file:
            data = file.read(_MAX_BYTES)
        try:
            parsed = json.loads(data)
            if (version := _version_of(parsed)) > VERSION:
                raise OperationError(
                    f"{self._path} is of version {version}, and this pystack knows versions 1 to {VERSION}",
                    hint="use the newer pystack that wrote it",
                )
            entries = upgrade(parsed, version)["networks"]
            return {NetworkName(name): _from_entry(entry) for name, entry in entries.items()}
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as exc:
            return self._damaged(exc)

    def _damaged(self, exc: Exception) -> dict[NetworkName, Recorded]:
        """It must keep nobody from taking the project down: what is in the kernel is found by its names."""
        kept = keep_aside(self._path)
        self.findings = (Finding(self._path, f"cannot be read ({exc})", f"kept as {kept}; subnets are chosen anew"),)
        return {}

    def _write(self) -> None:
        """Durably; with no network left the file is removed."""
        entries = {name: _to_entry(item) for name, item in sorted(self._subnets.items())}
        try:
            if entries:
                os.makedirs(self._dir, mode=0o700, exist_ok=True)
                data = json.dumps({"version": VERSION, "networks": entries}, indent=1).encode() + b"\n"
                replace_file(self._path, data)
            else:
                with suppress(FileNotFoundError):
                    os.unlink(self._path)
        except OSError as exc:
            raise HostError(f"cannot write {self._path}: {exc.strerror}") from exc


def upgrade(data: dict[str, Any], from_version: int) -> dict[str, Any]:
    """What a file of `from_version` says, as this version writes it. Raises ValueError for a version that is not known, and
    for what its version cannot have written."""
    if not 1 <= from_version <= VERSION:
        raise ValueError(f"version {from_version}, and this pystack knows versions 1 to {VERSION}")
    for step in _STEPS[from_version - 1 :]:
        data = step(data)
    return data


def _version_of(data: Any) -> int:
    """Version 1 had none: there, ``version`` can only be a network, and that is an object."""
    if not isinstance(data, dict):
        raise ValueError("not an object")
    version = data.get("version", 1)
    return version if isinstance(version, int) else 1


def _from_version_1(data: dict[str, Any]) -> dict[str, Any]:
    networks = {}
    for name, entry in data.items():
        rest = {key: value for key, value in entry.items() if key not in ("subnet", "gateway")}
        networks[name] = rest | {"subnets": [{"subnet": entry["subnet"], "gateway": entry["gateway"]}]}
    return {"version": 2, "networks": networks}


_STEPS: tuple[Callable[[dict[str, Any]], dict[str, Any]], ...] = (_from_version_1,)
"""From version N to N + 1, beginning with 1."""


def _from_entry(entry: dict[str, Any]) -> Recorded:
    first = entry["subnets"][0]
    subnet = Ipv4Subnet(IPv4Network(first["subnet"]), IPv4Address(first["gateway"]), bool(entry.get("chosen")))
    return Recorded(subnet, bool(entry.get("internal")), str(entry.get("bridge", "")))


def _to_entry(item: Recorded) -> dict[str, object]:
    subnet = {"subnet": str(item.subnet.network), "gateway": str(item.subnet.gateway)}
    entry: dict[str, object] = {"subnets": [subnet]}
    if item.bridge:
        entry["bridge"] = item.bridge
    if item.subnet.chosen:
        entry["chosen"] = True
    if item.internal:
        entry["internal"] = True
    return entry
