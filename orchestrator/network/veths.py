"""Whose a veth pair is.

The host's end has a name that derives from project, container and network (`model.names`): 15 bytes leave room for 24 bits
of hash, so of a thousand containers two hash alike in 3 of 100 cases, and neither must take the other's interface for its
own. Therefore the host's end also carries its owner: its MAC, which nothing else uses (a bridge forwards by the MACs of the
containers' ends), is another 32 bits of hash. A name that somebody else has is passed over for the next one.

Whoever is first gets the first name, so the order of starting decides; the kernel knows the answer, and a supervisor that
takes over finds it there. Pairs made before there was this mark have a random MAC and the first name.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.kernel.rtnetlink import Link
from orchestrator.model.names import ContainerId, NetworkName, ProjectKey, short_hash, veth_name
from orchestrator.values import frozen

ATTEMPTS = 4
NAME_SERVER = ContainerId("")
"""Stands for a container where the pair is that of the project's name server. No container has an empty name."""
_MARK, _SERVER_MARK = "02:73:", "02:74:"


@frozen
class VethOwner:
    """A container on a network: who a pair belongs to."""

    key: ProjectKey
    container: ContainerId
    network: NetworkName

    def names(self) -> Iterator[str]:
        """What the host's end may be called, in the order of trying."""
        for attempt in range(ATTEMPTS):
            yield veth_name(self.key, self.container, self.network, attempt)

    @property
    def mac(self) -> str:
        """That of the host's end. Locally administered; containers' ends begin with 02:70."""
        mark = _MARK if self.container != NAME_SERVER else _SERVER_MARK
        return mark + bytes.fromhex(short_hash(f"{self.key}/{self.container}/{self.network}", 8)).hex(":")

    def owns(self, link: Link) -> bool:
        """Whether `link` is the host's end of this one's pair."""
        if link.mac.startswith((_MARK, _SERVER_MARK)):
            return link.mac == self.mac and link.name in self.names()
        return link.name == next(self.names())


def is_of_a_container(port: Link) -> bool:
    """Whether a port of a bridge is a container's, and not a name server's, of whichever project."""
    return not port.mac.startswith(_SERVER_MARK)
