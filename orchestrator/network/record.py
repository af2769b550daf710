"""``DATA_DIR/networks.json``: which subnets and bridge each network was given. Written before the bridge is made, so that
the subnet is the same after a crash and after a reboot, when nothing in the kernel tells it any more.

    {"version": 4, "networks": {NAME: {"subnets": [{"subnet", "gateway", "chosen", "range", "reserved"}], "bridge",
                                       "internal", "driver", "options", "resolver", "made_s"}}}

Version 3 had no "resolver". Version 2 had one IPv4 subnet, and "chosen" beside "subnets". Version 1 had no version, and one
subnet: ``{NAME: {"subnet", "gateway", "chosen", "internal"}}``."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import Any

from orchestrator.contracts.state import Finding
from orchestrator.errors import HostError, OperationError, PystackError
from orchestrator.kernel.atomic import keep_aside, replace_file
from orchestrator.kernel.plain import open_plain
from orchestrator.model.names import NetworkName
from orchestrator.model.subnets import AddressRange
from orchestrator.values import field, frozen, replace

VERSION = 4
_FILE = "networks.json"
_MAX_BYTES = 1 << 20
_UNFIT = (ValueError, KeyError, TypeError, AttributeError, IndexError)
"""What data raises that nobody can have written."""


@frozen
class Recorded:
    """`ranges`: IPv4 first. `internal` and `options`: so that the firewall's rules can be made for a network before it is
    asked for again. `bridge`: its interface, "" when it has the first name that derives (`model.names.bridge_name`).
    `resolver`: the name server's address; "": it is at the first range's gateway, as all were in version 3. `made_s`: epoch
    seconds, for display, 0.0: not known; it is the record's own affair."""

    ranges: tuple[AddressRange, ...]
    internal: bool = False
    bridge: str = ""
    driver: str = "bridge"
    options: tuple[tuple[str, str], ...] = ()
    resolver: str = ""
    made_s: float = field(default=0.0, compare=False)


class SubnetRecord:
    """The file, and what it says. Methods do small blocking I/O. `findings`: what was found damaged when it was read."""

    def __init__(self, data_dir: str) -> None:
        self._dir = data_dir
        self._path = os.path.join(data_dir, _FILE)
        self.findings: tuple[Finding, ...] = ()
        self._subnets = self._read()

    @property
    def networks(self) -> Mapping[NetworkName, Recorded]:
        return self._subnets

    def set(self, network: NetworkName, entry: Recorded) -> None:
        if (known := self._subnets.get(network)) != entry:
            made_s = known.made_s if known is not None else time.time()
            self._subnets[network] = replace(entry, made_s=made_s)
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
            return _parse(data, self._path)
        except _UNFIT as exc:
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


def recorded_networks(data_dir: str) -> Mapping[NetworkName, Recorded]:
    """What the record of a project says, for whoever only looks; nothing of one that cannot be read."""
    path = os.path.join(data_dir, _FILE)
    try:
        with open(open_plain(path, os.O_RDONLY), "rb") as file:
            return _parse(file.read(_MAX_BYTES), path)
    except (OSError, PystackError, *_UNFIT):
        return {}


def _parse(data: bytes, path: str) -> dict[NetworkName, Recorded]:
    parsed = json.loads(data)
    if (version := _version_of(parsed)) > VERSION:
        raise OperationError(
            f"{path} is of version {version}, and this pystack knows versions 1 to {VERSION}",
            hint="use the newer pystack that wrote it",
        )
    entries = upgrade(parsed, version)["networks"]
    return {NetworkName(name): _from_entry(entry) for name, entry in entries.items()}


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


def _from_version_2(data: dict[str, Any]) -> dict[str, Any]:
    networks = {}
    for name, entry in data["networks"].items():
        rest = {key: value for key, value in entry.items() if key not in ("subnets", "chosen")}
        chosen = {"chosen": True} if entry.get("chosen") else {}
        networks[name] = rest | {"subnets": [subnet | chosen for subnet in entry["subnets"]]}
    return {"version": 3, "networks": networks}


def _from_version_3(data: dict[str, Any]) -> dict[str, Any]:
    return data | {"version": 4}


_STEPS: tuple[Callable[[dict[str, Any]], dict[str, Any]], ...] = (_from_version_1, _from_version_2, _from_version_3)
"""From version N to N + 1, beginning with 1."""


def _from_entry(entry: dict[str, Any]) -> Recorded:
    ranges = tuple(map(_from_subnet, entry["subnets"]))
    if not ranges:
        raise ValueError("a network without a subnet")
    return Recorded(
        ranges,
        bool(entry.get("internal")),
        str(entry.get("bridge", "")),
        str(entry.get("driver", "bridge")),
        tuple((str(key), str(value)) for key, value in entry.get("options", {}).items()),
        str(ip_address(str(entry["resolver"]))) if "resolver" in entry else "",
        float(entry.get("made_s", 0.0)),
    )


def _from_subnet(item: dict[str, Any]) -> AddressRange:
    given = ip_network(item["range"]) if "range" in item else None
    reserved = tuple(map(ip_address, item.get("reserved", ())))
    return AddressRange(ip_network(item["subnet"]), ip_address(item["gateway"]), bool(item.get("chosen")), given, reserved)


def _to_entry(item: Recorded) -> dict[str, object]:
    entry: dict[str, object] = {"subnets": list(map(_to_subnet, item.ranges))}
    if item.bridge:
        entry["bridge"] = item.bridge
    if item.internal:
        entry["internal"] = True
    if item.driver != "bridge":
        entry["driver"] = item.driver
    if item.options:
        entry["options"] = dict(item.options)
    if item.resolver:
        entry["resolver"] = item.resolver
    if item.made_s:
        entry["made_s"] = item.made_s
    return entry


def _to_subnet(item: AddressRange) -> dict[str, object]:
    found: dict[str, object] = {"subnet": str(item.network), "gateway": str(item.gateway)}
    if item.chosen:
        found["chosen"] = True
    if item.given is not None:
        found["range"] = str(item.given)
    if item.reserved:
        found["reserved"] = [str(address) for address in item.reserved]
    return found
