"""Networks as the verbs see them: found, filtered, and as fields with Docker's names."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from orchestrator.cli.instants import parse_instant
from orchestrator.cli.settings import Settings
from orchestrator.cli.volumes import asked_by, has_label, instant, truth_of
from orchestrator.errors import InputError, OperationError
from orchestrator.model.names import bridge_name, short_hash
from orchestrator.model.network import Subnet
from orchestrator.network.record import recorded_networks
from orchestrator.network.shared_files import SharedFiles, SharedNetwork
from orchestrator.state.directory import DEFAULT_DATA
from orchestrator.state.network_users import NetworkUser, OwnNetwork, see_networks
from orchestrator.values import frozen

COLUMNS = {"ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE"}
SHORT_ID = 12
SCOPES, TYPES = ("local", "global", "swarm"), ("custom", "builtin")
"""Docker's; all networks here are of the first."""


@frozen
class Found:
    """`project`: whose it is; "" when it is shared. `key`: its name in that project's stack. `about`: nothing but the name
    when what was written of a shared one is lost."""

    about: SharedNetwork
    bridge: str
    users: tuple[NetworkUser, ...] = ()
    project: str = ""
    key: str = ""

    @property
    def name(self) -> str:
        return self.about.name

    @property
    def labels(self) -> dict[str, str]:
        own = {"com.docker.compose.project": self.project, "com.docker.compose.network": self.key} if self.project else {}
        return {**own, **self.about.labels}


def files_of(settings: Settings) -> SharedFiles:
    return SharedFiles(settings.data_root or DEFAULT_DATA)


def found_in(files: SharedFiles, *, sound: bool = False) -> list[Found]:
    """All of them, sorted by name, shared ones first. `sound`: see `see_networks`."""
    seen = see_networks(files.data_root, sound=sound)
    shared = []
    for name in files.names():
        about = files.read(name) or SharedNetwork(name, short_hash(f"{files.data_root}/{name}", 64))
        shared.append(Found(about, files.bridge(about), seen.shared.get(name, ())))
    return sorted([*shared, *map(_own, seen.own)], key=lambda item: (item.name, item.project))


def _own(item: OwnNetwork) -> Found:
    network = item.network
    recorded = recorded_networks(item.site.data_dir).get(network.key)
    ranges = recorded.ranges if recorded is not None else ()
    about = SharedNetwork(
        name=network.full_name,
        identity=short_hash(f"{item.site.key}/{network.key}", 64),
        subnets=tuple(
            Subnet(
                str(each.network),
                str(each.gateway),
                str(each.given) if each.given else None,
                tuple(map(str, each.reserved)),
            )
            for each in ranges
        ),
        internal=network.internal,
        driver=network.driver,
        options=network.options,
        labels=dict(network.labels),
        auxiliary={
            name: str(ip_address(address))
            for each in network.subnets
            for name, address in zip(each.reserved_names, each.reserved, strict=False)
        },
        made_s=recorded.made_s if recorded is not None else 0.0,
    )
    bridge = (recorded.bridge if recorded is not None else "") or bridge_name(item.site.key, network.key)
    return Found(about, bridge, item.users, item.site.project, network.key)


def require(networks: Sequence[Found], words: Sequence[str]) -> list[Found]:
    """Those that `words` mean: names, or how ids begin. Raises OperationError for the first that means none, or several."""
    found: dict[str, Found] = {}
    for word in words:
        meant = [item for item in networks if item.name == word]
        meant = [item for item in meant if not item.project] or meant
        meant = meant or [item for item in networks if word and item.about.identity.startswith(word)]
        if not meant:
            from orchestrator.cli.selection import nearest

            close = nearest(word, [item.name for item in networks])
            message = f'there is no network "{word}"' + (f' (did you mean "{close}"?)' if close else "")
            raise OperationError(message, hint="`pystack network ls` lists them")
        if len(meant) > 1:
            every = ", ".join(f"{item.about.identity[:SHORT_ID]} of project {item.project}" for item in meant)
            raise OperationError(f'several networks are called "{word}": {every}', hint="name one by its id")
        found[meant[0].about.identity] = meant[0]
    return list(found.values())


def row_of(network: Found, *, whole: bool) -> dict[str, Any]:
    """The fields of a list. `whole`: the whole id."""
    labels, about = network.labels, network.about
    return {
        "ID": about.identity if whole else about.identity[:SHORT_ID],
        "Name": network.name,
        "Driver": about.driver,
        "Scope": "local",
        "IPv4": str(_has(about, "v4")).lower(),
        "IPv6": str(_has(about, "v6")).lower(),
        "Internal": str(about.internal).lower(),
        "Labels": ",".join(f"{key}={text}" for key, text in labels.items()),
        "CreatedAt": instant(about.made_s) if about.made_s else "",
        "Project": network.project,
        "Label": lambda key: labels.get(key, ""),
    }


def values_of(network: Found) -> dict[str, Any]:
    """The fields of ``inspect``."""
    about = network.about
    return {
        "Name": network.name,
        "Id": about.identity,
        "Created": instant(about.made_s) if about.made_s else "",
        "Scope": "local",
        "Driver": about.driver,
        "EnableIPv4": _has(about, "v4"),
        "EnableIPv6": _has(about, "v6"),
        "IPAM": {"Driver": "default", "Options": None, "Config": [_range(about, item) for item in about.subnets]},
        "Internal": about.internal,
        "Attachable": about.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {f"{user.project}/{user.container}": _container(user) for user in network.users},
        "Options": dict(about.options),
        "Labels": network.labels,
        "Project": network.project,
        "Bridge": network.bridge,
    }


def _has(about: SharedNetwork, family: str) -> bool:
    return any((":" in item.subnet) == (family == "v6") for item in about.subnets)


def _range(about: SharedNetwork, item: Subnet) -> dict[str, Any]:
    names = {address: name for name, address in about.auxiliary.items()}
    reserved = {names.get(address, f"aux{number}"): address for number, address in enumerate(item.reserved)}
    return {
        "Subnet": item.subnet,
        "Gateway": item.gateway,
        **({"IPRange": item.ip_range} if item.ip_range else {}),
        **({"AuxiliaryAddresses": reserved} if reserved else {}),
    }


def _container(user: NetworkUser) -> dict[str, Any]:
    addresses = {
        version: next((f"{a.ip}/{a.prefix}" for a in user.endpoint.addresses if (":" in a.ip) == (version == 6)), "")
        for version in (4, 6)
    }
    return {
        "Name": user.container,
        "MacAddress": user.endpoint.mac,
        "IPv4Address": addresses[4],
        "IPv6Address": addresses[6],
        "Project": user.project,
    }


def filters_of(texts: Sequence[str], known: Sequence[str]) -> Callable[[Found], bool]:
    """What ``--filter`` asks for, as Docker combines them: any of the names, ids and drivers, all of the labels. `known`:
    the filters that the verb has. Raises InputError."""
    asked: Mapping[str, Sequence[str]] = asked_by(texts, known)
    dangling = [truth_of("dangling", value) for value in asked.get("dangling", ())]
    for name, words in (("scope", SCOPES), ("type", TYPES)):
        for value in asked.get(name, ()):
            if value not in words:
                raise InputError(f'"{name}={value}" is no filter', hint=f"{name} is {', '.join(words[:-1])} or {words[-1]}")
    before = [parse_instant(value, time.time()) for value in asked.get("until", ())]

    def wanted(network: Found) -> bool:
        labels = network.labels
        return (
            ("scope" not in asked or "local" in asked["scope"])
            and ("type" not in asked or "custom" in asked["type"])
            and all(0.0 < network.about.made_s < before_s for before_s in before)  # Of a damaged one nobody knows.
            and (not dangling or (not network.users) in dangling)
            and ("driver" not in asked or network.about.driver in asked["driver"])
            and ("name" not in asked or any(part in network.name for part in asked["name"]))
            and ("id" not in asked or any(part in network.about.identity for part in asked["id"]))
            and all(has_label(labels, text) for text in asked.get("label", ()))
            and not any(has_label(labels, text) for text in asked.get("label!", ()))
        )

    return wanted
