"""``DATA_DIR/networks.json``: which subnet each network was given. Written before the bridge is made, so that the subnet
is the same after a crash and after a reboot, when nothing in the kernel tells it any more."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network

from orchestrator.errors import HostError, OperationError
from orchestrator.model.names import NetworkName
from orchestrator.network.addressing import Subnet
from orchestrator.values import frozen

_MAX_BYTES = 1 << 20


@frozen
class Recorded:
    """`internal`: so that the firewall's rules can be made for a network before it is asked for again."""

    subnet: Subnet
    internal: bool = False


class SubnetRecord:
    """The file, and what it says. Methods do small blocking I/O."""

    def __init__(self, data_dir: str) -> None:
        self._dir = data_dir
        self._path = os.path.join(data_dir, "networks.json")
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
            fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return {}
        except OSError as exc:
            raise HostError(f"cannot read {self._path}: {exc.strerror}") from exc
        with open(fd, "rb") as file:
            data = file.read(_MAX_BYTES)
        try:
            entries = json.loads(data)
            return {NetworkName(name): _from_entry(entry) for name, entry in entries.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise OperationError(
                f"{self._path} is not readable as a record of subnets: {exc}",
                hint="remove the file if no container of the project runs; new subnets are chosen then",
            ) from exc

    def _write(self) -> None:
        """Durably; with no network left the file is removed."""
        entries = {name: _to_entry(item) for name, item in sorted(self._subnets.items())}
        temporary = self._path + ".new"
        try:
            if entries:
                os.makedirs(self._dir, mode=0o700, exist_ok=True)
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
                with open(os.open(temporary, flags, 0o600), "wb") as file:
                    file.write(json.dumps(entries, indent=1).encode() + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(temporary, self._path)
            else:
                os.unlink(self._path)
            directory = os.open(self._dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except FileNotFoundError:
            if entries:
                raise
        except OSError as exc:
            raise HostError(f"cannot write {self._path}: {exc.strerror}") from exc


def _from_entry(entry: dict[str, object]) -> Recorded:
    subnet = Subnet(IPv4Network(entry["subnet"]), IPv4Address(entry["gateway"]), bool(entry.get("chosen")))
    return Recorded(subnet, bool(entry.get("internal")))


def _to_entry(item: Recorded) -> dict[str, object]:
    entry: dict[str, object] = {"subnet": str(item.subnet.network), "gateway": str(item.subnet.gateway)}
    if item.subnet.chosen:
        entry["chosen"] = True
    if item.internal:
        entry["internal"] = True
    return entry
