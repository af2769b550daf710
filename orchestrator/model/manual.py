"""What ``network connect`` and ``network disconnect`` have made of how one container is on networks.

A container is made as its service says. What is changed of it by hand is its own: it is kept beside what it was made from,
survives its runs and the supervisor, and goes with it (docs/networking.md, "By hand").
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.model.names import NetworkName
from orchestrator.model.network import Attachment, Network
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.values import frozen, replace

_OPTIONS = (("ipv4_address", "--ip"), ("ipv6_address", "--ip6"))


@frozen
class Manual:
    """`joined`: how it is on networks that its service does not say, or that it says otherwise. `left`: networks that it is
    not on, whatever these and its service say. `networks`: those of `joined`, as they were then: the stack need not have
    them."""

    joined: tuple[Attachment, ...] = ()
    left: tuple[NetworkName, ...] = ()
    networks: tuple[Network, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.joined or self.left)

    def network(self, key: NetworkName) -> Network:
        return next(item for item in self.networks if item.key == key)

    def known(self, project: Project) -> Project:
        """`project` with the networks that it does not have."""
        if not self.networks:
            return project
        return replace(project, networks={**{item.key: item for item in self.networks}, **project.networks})


def connected(service: Service, manual: Manual) -> Service:
    """How a container of `service` is on its networks; on none of them it publishes nothing. What is wrong with an address
    that was given by hand is wrong with that option."""
    if not manual:
        return service
    networks = {**service.networks, **{item.network: item for item in manual.joined}}
    networks = {key: item for key, item in networks.items() if key not in manual.left}
    joined = [f"services.{service.name}.networks.{item.network}" for item in manual.joined]
    given = {**service.given, **{f"{path}.{key}": option for path in joined for key, option in _OPTIONS}}
    return replace(service, networks=networks, ports=service.ports if networks else (), given=given)


def with_joined(manual: Manual, attachment: Attachment, network: Network, own: Mapping[NetworkName, Attachment]) -> Manual:
    """`manual`, and on `network` too. `own`: what its service says."""
    before = without(manual, network.key)
    if own.get(network.key) == attachment:
        return before
    return Manual((*before.joined, attachment), before.left, (*before.networks, network))


def with_left(manual: Manual, key: NetworkName, own: Mapping[NetworkName, Attachment]) -> Manual:
    """`manual`, and not on that network. `own`: as above."""
    before = without(manual, key)
    return replace(before, left=(*before.left, key)) if key in own else before


def without(manual: Manual, key: NetworkName) -> Manual:
    """What it says of other networks."""
    return Manual(
        tuple(item for item in manual.joined if item.network != key),
        tuple(name for name in manual.left if name != key),
        tuple(item for item in manual.networks if item.key != key),
    )


def renamed(manual: Manual, names: Mapping[NetworkName, NetworkName]) -> Manual:
    """With the networks that are called otherwise now: `names`, by what they were called."""
    return Manual(
        tuple(replace(item, network=names.get(item.network, item.network)) for item in manual.joined),
        tuple(names.get(key, key) for key in manual.left),
        tuple(replace(item, key=names.get(item.key, item.key)) for item in manual.networks),
    )


def restored(manual: Manual, was: Service, now: Service, project: Project) -> tuple[Manual, tuple[str, ...]]:
    """What ``up`` leaves of it, and what of it changes, in words. `was`: what the container was made from; `now`: what the
    stack, `project`, says. It is on all networks that the stack says; of one that the stack says otherwise, or not any
    more, the stack's word counts; all else stays."""
    found, told = Manual(), []
    for item in manual.joined:
        key, network = item.network, manual.network(item.network)
        if was.networks.get(key) != now.networks.get(key) or not _is(network, project.networks.get(key, network)):
            told.append(f"{key} as the stack has it")
        else:
            found = with_joined(found, item, project.networks.get(key, network), {})
    back = {*now.networks, *(item.network for item in found.joined)}
    told += [f"+{key}, which it was disconnected from" for key in manual.left if key in back]
    return found, tuple(told)


def _is(one: Network, other: Network) -> bool:
    return (one.full_name, one.external) == (other.full_name, other.external)
