"""The networks that projects share: ``DATA/networks/NAME/``, owned by nobody's project.

    network.json      what it is (`SharedNetwork`, one sealed line)
    addresses.json    which project may give out which addresses (`network.shared_addresses`)
    lock              held (flock) by who changes anything of the network, in the directory or in the kernel

A network is made beside its place and renamed, and removed the other way round: it is there whole or not at all. Whoever
makes or removes one holds the data directory's lock.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from orchestrator.contracts.site import Site
from orchestrator.errors import HostError, InputError, OperationError, access_hint
from orchestrator.kernel.atomic import replace_file
from orchestrator.kernel.plain import open_plain
from orchestrator.kernel.sealed import VERSION, seal, unseal_file, version_of
from orchestrator.kernel.trees import remove_tree
from orchestrator.model.codec import from_json, to_json
from orchestrator.model.names import shared_bridge, shared_mark, shared_table
from orchestrator.model.network import Subnet
from orchestrator.model.network_options import parse_options
from orchestrator.model.subnets import AddressRange, parse_range
from orchestrator.values import field, frozen

_ABOUT = "network.json"
_LOCK = "lock"
_NEW, _TRASH = ".new-", ".trash-"
_MOST_CHARACTERS = 200
_PREDEFINED = ("host", "none", "bridge", "default")


@frozen
class SharedNetwork:
    """``network.json``. `identity`: 64 random hex digits, made with the network. `subnets`: one of each family that it
    has, IPv4 first, each with its gateway. `auxiliary`: the names that were given to reserved addresses. `made_s`: epoch
    seconds, for display."""

    name: str
    identity: str = ""
    subnets: tuple[Subnet, ...] = ()
    internal: bool = False
    driver: str = "bridge"
    options: tuple[tuple[str, str], ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    auxiliary: Mapping[str, str] = field(default_factory=dict)
    attachable: bool = False
    made_s: float = 0.0

    @property
    def ranges(self) -> tuple[AddressRange, ...]:
        return tuple(map(parse_range, self.subnets))

    def has(self, version: int) -> bool:
        """Whether it has addresses of that family."""
        return any(item.version == version for item in self.ranges)


def check_name(name: str) -> None:
    """Raises InputError for what a network may not be called."""
    plain = name.replace("_", "a").replace(".", "a").replace("-", "a")
    if not (name[:1].isalnum() and plain.isalnum() and name.isascii() and len(name) <= _MOST_CHARACTERS):
        raise InputError(
            f'"{name}" is not a network name', hint="letters, digits, '_', '.' and '-', a letter or digit first"
        )
    if name in _PREDEFINED:
        raise InputError(f'"{name}" is not a name for a network of your own', hint="it means a way of being on none")


def root_of(site: Site) -> str:
    """The data directory that a project is in."""
    return os.path.dirname(os.path.dirname(site.data_dir))


class SharedFiles:
    """Of one data directory. Methods do small blocking I/O."""

    def __init__(self, data_root: str) -> None:
        self.data_root = os.path.abspath(data_root)
        self.root = os.path.join(self.data_root, "networks")

    def names(self) -> list[str]:
        """All of them, sorted. Raises HostError."""
        try:
            return sorted(name for name in os.listdir(self.root) if not name.startswith("."))
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise HostError(f"cannot read {self.root}: {exc.strerror}", hint=access_hint(exc)) from exc

    def path(self, name: str, file: str = "") -> str:
        return os.path.join(self.root, name, file) if file else os.path.join(self.root, name)

    def exists(self, name: str) -> bool:
        return bool(name) and "/" not in name and not name.startswith(".") and os.path.isdir(self.path(name))

    def read(self, name: str) -> SharedNetwork | None:
        """What is written of it; None if there is none, or that is damaged. Raises OperationError for one that a newer
        pystack made, HostError."""
        path = self.path(name, _ABOUT)
        if not self.exists(name):
            return None
        try:
            data = unseal_file(path)
            if data is not None and version_of(data) > VERSION:
                raise OperationError(f"{path} is of a newer version", hint="use the newer pystack that wrote it")
            found = None if data is None else from_json(SharedNetwork, data)
            if found is not None:
                parse_options(found.driver, found.options)
                return found if found.ranges else None
            return None
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise HostError(f"cannot read {path}: {exc.strerror}", hint=access_hint(exc)) from exc
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def all(self) -> list[SharedNetwork]:
        """Those that can be read."""
        return [found for name in self.names() if (found := self.read(name)) is not None]

    def make(self, network: SharedNetwork) -> None:
        """By who holds the data directory's lock. Raises HostError."""
        beside = os.path.join(self.root, f"{_NEW}{network.name}")
        try:
            os.makedirs(self.root, mode=0o700, exist_ok=True)
            self._remove_half_made()
            os.mkdir(beside, 0o700)
            replace_file(os.path.join(beside, _ABOUT), seal({"version": VERSION} | to_json(network)))
            os.rename(beside, self.path(network.name))
        except OSError as exc:
            with suppress(OSError):
                self._remove_half_made()
            raise HostError(f"cannot make network {network.name!r}: {exc.strerror}", hint="is the disk full?") from exc

    def delete(self, name: str) -> None:
        """By who holds the data directory's lock. Raises HostError."""
        trash = os.path.join(self.root, f"{_TRASH}{name}")
        try:
            remove_tree(trash)
            os.rename(self.path(name), trash)
            remove_tree(trash)
            with suppress(OSError):  # Others are in it.
                os.rmdir(self.root)
        except OSError as exc:
            raise HostError(f"cannot delete network {name!r}: {exc.strerror} ({exc.filename})") from exc

    def _remove_half_made(self) -> None:
        for entry in os.listdir(self.root):
            if entry.startswith((_NEW, _TRASH)):
                remove_tree(os.path.join(self.root, entry))

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """The network, by one process at a time, for moments. Raises FileNotFoundError if there is none, or it is removed
        meanwhile."""
        path = self.path(name, _LOCK)
        fd = open_plain(path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if not os.path.samestat(os.fstat(fd), os.lstat(path)):
                raise FileNotFoundError(path)
            yield
        finally:
            os.close(fd)

    def bridge(self, network: SharedNetwork) -> str:
        return parse_options(network.driver, network.options).bridge or shared_bridge(self.data_root, network.name)

    def table(self, name: str) -> str:
        return shared_table(self.data_root, name)

    def mark(self, name: str) -> str:
        return shared_mark(self.data_root, name)
