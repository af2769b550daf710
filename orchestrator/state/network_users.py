"""Which networks there are and who is on them, by the records of all projects of a data directory: also a container that
does not run."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.contracts.network import Endpoint
from orchestrator.contracts.site import Site
from orchestrator.errors import PystackError
from orchestrator.model.names import NetworkName
from orchestrator.model.network import Network
from orchestrator.state.projects import readings, sound_readings
from orchestrator.state.reading import Reading
from orchestrator.values import frozen


@frozen
class NetworkUser:
    """A container on a network."""

    project: str
    container: str
    endpoint: Endpoint


@frozen
class OwnNetwork:
    """A network that a project has made for itself."""

    site: Site
    network: Network
    users: tuple[NetworkUser, ...]


@frozen
class NetworksSeen:
    """`own`: by project and name. `shared`: who is on which network that is nobody's own, by its name."""

    own: tuple[OwnNetwork, ...]
    shared: dict[str, tuple[NetworkUser, ...]]


def see_networks(data_root: str, *, sound: bool = False) -> NetworksSeen:
    """`sound`: raise OperationError when a project's records cannot be read, or are damaged, since nobody knows then."""
    own: list[OwnNetwork] = []
    shared: dict[str, list[NetworkUser]] = {}
    for site, reading in _sound(data_root) if sound else readings(data_root):
        record = reading.record if isinstance(reading, Reading) else None
        if record is None:
            continue
        made = {network.key: network for network in record.networks}
        known = {**record.project.networks, **made}
        users: dict[NetworkName, list[NetworkUser]] = {}
        for container in record.containers:
            for endpoint in container.endpoints:
                users.setdefault(endpoint.network, []).append(
                    NetworkUser(site.project, container.container, endpoint)
                )
        # The record is as before its last operation, which has made those that its containers are on.
        made |= {key: known[key] for key in users if key in known}
        for network in sorted(made.values(), key=lambda item: item.full_name):
            if not network.external:
                own.append(OwnNetwork(site, network, tuple(users.get(network.key, ()))))
        for key, found in users.items():
            if key in known and known[key].external:
                shared.setdefault(known[key].full_name, []).extend(found)
    return NetworksSeen(tuple(own), {name: tuple(found) for name, found in shared.items()})


def _sound(data_root: str) -> Iterator[tuple[Site, Reading | PystackError]]:
    yield from sound_readings(data_root)
