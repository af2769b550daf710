"""Whose namespaces a container is in (namespaces(7)): its own, the host's, or another container's."""

from __future__ import annotations

from enum import Enum

from orchestrator.values import frozen


class Sharing(Enum):
    """`NONE`: one of its own with nothing in it: a network with loopback alone, IPC without /dev/shm."""

    PRIVATE = "private"
    HOST = "host"
    NONE = "none"
    SERVICE = "service"
    CONTAINER = "container"


@frozen
class Namespace:
    """`of`: the service of the stack, or the container of any project by its name."""

    sharing: Sharing = Sharing.PRIVATE
    of: str = ""


PRIVATE = Namespace()


@frozen
class Namespaces:
    """Of the six that the Compose format speaks of; the mount namespace is always a container's own. `user` PRIVATE: the
    project's, in which root is nobody outside."""

    network: Namespace = PRIVATE
    pid: Namespace = PRIVATE
    ipc: Namespace = PRIVATE
    uts: Namespace = PRIVATE
    cgroup: Namespace = PRIVATE
    user: Namespace = PRIVATE

    @property
    def publishes(self) -> bool:
        """Whether it can have networks and published ports of its own."""
        return self.network.sharing is Sharing.PRIVATE

    @property
    def host_user(self) -> bool:
        """Whether root in the container is the machine's root: it says so, or what it shares with the host is of no use to
        anybody else (docs/security.md, "The host's namespaces")."""
        return any(each.sharing is Sharing.HOST for each in (self.user, self.network, self.pid, self.ipc))
