"""The shared networks that one project is on (docs/networking.md, "Shared networks").

The project finds them by their names in the data directory, has a share of their addresses, and tells the other projects
its names there. What is in the kernel is made by whoever needs it and finds it missing, and stays when the project leaves.
All methods but `tell` run on the netlink thread.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address

from orchestrator.contracts.site import Site
from orchestrator.errors import InputError, OperationError
from orchestrator.kernel.rtnetlink import Link
from orchestrator.model.names import NetworkName
from orchestrator.model.network import Network
from orchestrator.model.subnets import IPAddress
from orchestrator.network import shared_creation, shared_kernel
from orchestrator.network.addressing import Occupied
from orchestrator.network.firewall import Bridge, Firewall
from orchestrator.network.record import recorded_networks
from orchestrator.network.shared_addresses import AddressShare
from orchestrator.network.shared_files import SharedFiles, SharedNetwork, check_name, root_of
from orchestrator.network.shared_names import Named, Neighbours, forget_gone, is_there, read_names, write_names
from orchestrator.network.wiring import Wiring
from orchestrator.values import frozen, replace


@frozen
class Joined:
    """A shared network that the project is on. `network`: the stack's, with what the shared one says."""

    network: Network
    shared: SharedNetwork
    link: Link
    share: AddressShare

    @property
    def rules(self) -> list[Bridge]:
        """For the project's own table: none, but of which families there are."""
        return shared_kernel.rules_of(self.shared, self.link.name, shared=True)


class SharedNetworks:
    def __init__(self, site: Site, wiring: Wiring) -> None:
        self._site = site
        self._project = os.path.basename(site.data_dir)
        self._wiring = wiring
        self._files = SharedFiles(root_of(site))
        self._shares: dict[NetworkName, AddressShare] = {}
        self._names: dict[NetworkName, str] = {}
        self.joined: dict[NetworkName, Joined] = {}

    def occupied(self) -> list[Occupied]:
        """Ranges that no network of the project may have, whether there are bridges or not."""
        return shared_creation.others(self._files)

    def check_own(self, network: Network) -> None:
        """Raises OperationError for a network of the project's own that is called as a shared one is."""
        if self._files.exists(network.full_name):
            raise OperationError(
                f'there is a shared network "{network.full_name}", and the stack makes one of its own of that name',
                hint=f"to be on the shared one, write networks.{network.key}.external: true",
                place=f"networks.{network.key}",
            )

    def join(self, network: Network, used: Collection[str], written: Iterable[str]) -> Joined:
        """Bridge, rules, and a share of the addresses. Idempotent. `used`: what containers have of the share; `written`: by
        the stack. Raises OperationError, with the place, when there is no such network; HostError, OSError."""
        name = network.full_name
        known = next((key for key, other in self._names.items() if other == name), network.key)
        if known != network.key:
            raise OperationError(
                f'containers of this project are on network "{name}" already, as {known}',
                hint=f"take them off it: pystack network disconnect {known} SERVICE; or call it {known} in the stack",
                place=f"networks.{network.key}",
            )
        shared = self._read(network)
        try:
            with self._files.held(name):
                share = self._shares.setdefault(
                    network.key, AddressShare(self._files, name, self._project, shared.ranges)
                )
                self._names[network.key] = name
                share.provide(_parsed(used), _within(shared, written))
                firewall = self._wiring.shared.get(name)
                if firewall is None:
                    firewall = self._wiring.shared[name] = Firewall(self._files.table(name), publishes=False)
                link = shared_kernel.make(self._wiring.links, firewall, self._files, shared)
        except FileNotFoundError:
            raise self._missing(network) from None
        effective = replace(
            network,
            internal=shared.internal,
            ipv4=shared.has(4),
            ipv6=shared.has(6),
            driver=shared.driver,
            options=shared.options,
        )
        joined = self.joined[network.key] = Joined(effective, shared, link, share)
        return joined

    def has(self, key: NetworkName) -> bool:
        """Whether the project is on it, or was about to be."""
        return key in self._shares

    def leave(self, key: NetworkName) -> None:
        """Take what is left of ours away, give the addresses back, and be known no more. Bridge and rules stay: others use
        them, or will."""
        if (joined := self.joined.pop(key, None)) is not None:
            ports = shared_kernel.attached(self._wiring.links, joined.link, self._site.key)
            self._wiring.links.delete([link.name for link in ports])
        share, name = self._shares.pop(key), self._names.pop(key)
        if (firewall := self._wiring.shared.pop(name, None)) is not None:
            firewall.close()
        with suppress(FileNotFoundError), self._files.held(name):
            share.give_back()
            write_names(self._names_of(name), self._project, ())

    def neighbours(self, key: NetworkName) -> tuple[Neighbours, tuple[Named, ...]]:
        """The other projects there; and what this one has told them before."""
        joined = self.joined[key]
        directory = self._names_of(joined.shared.name)
        subnets = [item.network for item in joined.shared.ranges]
        forget_gone(directory, os.path.dirname(self._site.data_dir))
        before = tuple(filter(is_there, read_names(os.path.join(directory, f"{self._project}.json"))))
        return Neighbours(directory, self._project, subnets), before

    def tell(self, names: Mapping[NetworkName, Sequence[Named]]) -> None:
        """The other projects: what this one has on these networks. Small blocking I/O. Raises HostError."""
        for key, containers in names.items():
            if (joined := self.joined.get(key)) is not None:
                write_names(self._names_of(joined.shared.name), self._project, containers)

    def _names_of(self, name: str) -> str:
        return self._files.path(name, "names")

    def _read(self, network: Network) -> SharedNetwork:
        found = self._files.read(network.full_name)
        if found is not None:
            return found
        if self._files.exists(network.full_name):
            raise OperationError(
                f"{self._files.path(network.full_name, 'network.json')} is damaged",
                hint=f"make the network anew: pystack network rm {network.full_name}, and create it again",
                place=f"networks.{network.key}",
            )
        raise self._missing(network)

    def _missing(self, network: Network) -> OperationError:
        name, place = network.full_name, f"networks.{network.key}"
        owner = self._owner_of(name)
        if owner:
            return OperationError(
                f'network "{name}" is project {owner}\'s own, made and removed with it, and only for its containers',
                hint="make one that both stacks name with `external: true`: pystack network create NAME",
                place=place,
            )
        try:
            check_name(name)
            hint = f"make it: pystack network create {name}; or remove `external: true`"
        except InputError:
            hint = "none can be called so: name another one, or remove `external: true`"
        return OperationError(
            f"network {name} declared as external, but could not be found", hint=hint, place=place
        )

    def _owner_of(self, name: str) -> str:
        """The project that has a network of its own which is called so by default; "" if none has."""
        projects = os.path.join(self._files.data_root, "projects")
        with suppress(OSError):
            for project in os.listdir(projects):
                if any(name == f"{project}_{key}" for key in recorded_networks(os.path.join(projects, project))):
                    return project
        return ""


def _parsed(texts: Iterable[str]) -> set[IPAddress]:
    return set(map(ip_address, texts))


def _within(shared: SharedNetwork, texts: Iterable[str]) -> set[IPAddress]:
    """Those that containers may have; what is wrong with others is said when a container wants one."""
    return {
        address
        for address in _parsed(texts)
        for where in shared.ranges
        if where.version == address.version
        if where.is_host(address) and address != where.gateway and address not in where.reserved
    }
