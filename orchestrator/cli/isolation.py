"""``up --isolated``: the project's ports on a loopback address of its own, so that two copies of a stack run side by side.

Once a project has an address, every command that loads the stack puts its ports there, until `down` gives it back: or the
next `up` without the flag would replace what runs. Ports that the stack puts on an address of the host's (a LAN's) stay
there: that was asked for by name.
"""

from __future__ import annotations

from orchestrator.state.directory import DEFAULT_DATA
from orchestrator.state.loopback import address_of, take_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orchestrator.cli.settings import Settings
    from orchestrator.model.network import PortMapping
    from orchestrator.model.project import Project

_MOVED = (None, "", "0.0.0.0", "::", "127.0.0.1", "::1")


def isolated(settings: Settings, project: Project, *, begin: bool = False) -> Project:
    """`project` with its ports on its own address, if it has one. `begin`: it gets one."""
    data_root = settings.data_root or DEFAULT_DATA
    address = take_address(data_root, project.name) if begin else address_of(data_root, project.name)
    return project if address is None else moved(project, address)


def moved(project: Project, address: str) -> Project:
    from orchestrator.values import replace

    def move(port: PortMapping) -> PortMapping:
        return replace(port, host_ip=address) if port.host_ip in _MOVED else port

    services = {
        name: replace(service, ports=tuple(map(move, service.ports))) if service.ports else service
        for name, service in project.services.items()
    }
    return replace(project, services=services)
