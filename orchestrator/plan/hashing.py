"""The config hash of a service: it changes when a container made from it would be different.

As in Docker Compose, profiles, depends_on and replicas are left out (they say when and how many, not what), and so are
build and pull policy: how the image is had shows in what it is; `attach` and `watch`: who looks at it, or at files; and how
it is updated. Labels, restart policy and health check count. The content of the image, and the definitions of the networks
and volumes the service uses, count too. Compose paths (`place`) do not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from orchestrator.contracts.state import Definition
from orchestrator.model.codec import to_json
from orchestrator.model.limits import Limits
from orchestrator.model.names import NetworkName
from orchestrator.model.network import Attachment, Network, PortMapping
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.model.volume import MountKind
from orchestrator.values import fields, frozen, replace

_IGNORED = frozenset({
    "name", "depends_on", "profiles", "replicas", "build", "pull_policy", "attach", "given", "job", "update", "rollback",
    "watch",
})  # fmt: skip
_VOLUME_FIELDS = ("full_name", "external")
_LATER_NETWORK_FIELDS = ("ipv4", "ipv6", "driver", "options", "external")


@frozen
class InPlace:
    """What a container that runs can be given: `limits` and `wiring`, each in words."""

    limits: tuple[str, ...] = ()
    wiring: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.limits or self.wiring)


NOTHING = InPlace()


def identity_with(image: str, mounted: Iterable[str]) -> str:
    """What the content of a container's images is known by: the identity of its own, and of those that it mounts."""
    return "+".join([image, *mounted])


def identities_in(identity: str) -> list[str]:
    """The identities that `identity_with` put together."""
    return identity.split("+")


def config_hash(
    project: Project, service: Service, image_identity: str, shared: Mapping[str, str] = MappingProxyType({})
) -> str:
    """64 hex digits. `shared`: see `plan.sharing.shared_identities`."""
    content = _content(project, service, image_identity)
    if shared:
        content["shared"] = dict(shared)
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def steps_hash(service: Service) -> str:
    """Of what is done before the service starts; "" when that is nothing."""
    if not service.pre_start:
        return ""
    text = json.dumps(_plain([_without_contents(to_json(step)) for step in service.pre_start]), sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def explain_change(before: Project | None, made: Definition, after: Project, service: Service, identity: str) -> str:
    """Which parts differ between what a container was made from and `after`: ``image, environment``; ``image content`` when
    it is none of the stack's own; "" when that cannot be told. `before`: the recorded stack, for networks and volumes."""
    was, now = _content(before or after, made.service, ""), _content(after, service, "")
    names = [key.replace("used_", "") for key in sorted(was.keys() | now.keys()) if was.get(key) != now.get(key)]
    if "namespaces" in names and made.service.namespaces.network != service.namespaces.network:
        names[names.index("namespaces")] = "network_mode"
    if names:
        return ", ".join(names)
    return "image content" if made.image != identity else ""


def changed_in_place(
    made: Definition,
    config_hash_made: str,
    networks: Mapping[NetworkName, Network],
    project: Project,
    service: Service,
    identity: str,
    shared: Mapping[str, str],
) -> InPlace:
    """What differs between what a container was made from, of that hash, and `service`, if a container that runs can be
    given all of it; nothing otherwise. `networks`: those that it may have been made with, as they were then."""
    was = made.service
    limits, wiring = was.limits != service.limits, _wiring(was) != _wiring(service)
    before = {**project.networks, **networks}
    anew = tuple(key for key in was.networks if key in service.networks and _differs(before, project.networks, key))
    if not (limits or wiring or anew) or ((wiring or anew) and not service.namespaces.publishes):
        return NOTHING
    same = replace(service, limits=was.limits, networks=was.networks, ports=was.ports, links=was.links)
    if config_hash(replace(project, networks=before), same, identity, shared) != config_hash_made:
        return NOTHING
    changes = _changed_wiring(was, service) if wiring else ()
    changes += (f"network {', '.join(anew)} is made anew",) if anew else ()
    return InPlace(_changed_limits(was, service) if limits else (), changes)


def _differs(before: Mapping[NetworkName, Network], now: Mapping[NetworkName, Network], key: NetworkName) -> bool:
    return key in before and key in now and _network_content(before[key]) != _network_content(now[key])


def _wiring(service: Service) -> tuple[object, ...]:
    """How it is on its networks; a container that runs can be given another one."""
    return _plain(to_json(service.networks)), _plain(to_json(service.ports)), _plain(to_json(service.links))


def _changed_limits(was: Service, now: Service) -> tuple[str, ...]:
    """``memory``, ``cpus``."""
    names = (item.name for item in fields(Limits) if getattr(was.limits, item.name) != getattr(now.limits, item.name))
    return tuple(name.removesuffix("_bytes").removesuffix("_us") for name in names)


def _changed_wiring(was: Service, now: Service) -> tuple[str, ...]:
    """``networks +back -front, default (aliases)``, ``ports +8081:80 -8080:80``, ``links``."""
    parts = [f"+{key}" for key in now.networks if key not in was.networks]
    parts += [f"-{key}" for key in was.networks if key not in now.networks]
    networks = " ".join(parts)
    for key, attachment in now.networks.items():
        if key in was.networks and (changed := _changed_fields(was.networks[key], attachment)):
            networks += f"{', ' if networks else ''}{key} ({', '.join(changed)})"
    before, after = [[_port(item) for item in service.ports] for service in (was, now)]
    ports = [*(f"+{text}" for text in after if text not in before), *(f"-{text}" for text in before if text not in after)]
    found = {"networks": networks, "ports": " ".join(ports)}
    changes = [f"{name} {text}" for name, text in found.items() if text]
    if _plain(to_json(was.links)) != _plain(to_json(now.links)):
        changes.append("links")
    return tuple(changes) or ("networks or ports in another order",)


def _changed_fields(was: Attachment, now: Attachment) -> list[str]:
    return [item.name for item in fields(Attachment) if getattr(was, item.name) != getattr(now, item.name)]


def _port(mapping: PortMapping) -> str:
    """As the stack may have written it."""
    parts = [str(mapping.target)]
    if mapping.published is not None:
        low, high = mapping.published
        parts.insert(0, str(low) if low == high else f"{low}-{high}")
    if mapping.host_ip is not None:
        parts = [f"[{mapping.host_ip}]" if ":" in mapping.host_ip else mapping.host_ip, *parts]
    return ":".join(parts) + ("" if mapping.protocol == "tcp" else f"/{mapping.protocol}")


def _content(project: Project, service: Service, image_identity: str) -> dict[str, Any]:
    content: dict[str, Any] = {key: _plain(value) for key, value in to_json(service).items() if key not in _IGNORED}
    if isinstance(check := content.get("healthcheck"), dict):  # Which shell runs the text shows in the image's identity.
        check.pop("shell", None)
    _without_contents(content)
    content["image_identity"] = image_identity
    content["used_networks"] = {
        key: _network_content(project.networks[key])
        for key in sorted(service.networks)
        if key in project.networks
    }
    content["used_volumes"] = {
        volume.key: [
            *(to_json(getattr(volume, name)) for name in _VOLUME_FIELDS),
            *([dict(volume.options)] if volume.options else []),
        ]
        for volume in project.volumes.values()
        if any(mount.kind is MountKind.VOLUME and mount.source == volume.key for mount in service.volumes)
    }
    if service.volumes_from:
        content["used_mounts"] = [_plain(to_json(item.volumes)) for item in _lenders(project, service)]
    return content


def _without_contents(made: dict[str, Any]) -> dict[str, Any]:
    """Without what granted files hold: their digests say it."""
    for file in made.get("files", ()):
        file.pop("content", None)
    for step in made.get("pre_start", ()):
        _without_contents(step["definition"])
    if "definition" in made:
        _without_contents(made["definition"])
    return made


def _lenders(project: Project, service: Service) -> list[Service]:
    """The services whose mounts it has, directly or not."""
    found: dict[str, Service] = {}
    waiting = [service]
    while waiting:
        for entry in waiting.pop().volumes_from:
            lender = next((item for item in project.services.values() if item.name == entry.of), None)
            if lender is not None and not entry.is_container and lender.name not in found:
                found[lender.name] = lender
                waiting.append(lender)
    return list(found.values())


def _network_content(network: Network) -> list[Any]:
    """Flat: a network with one subnet hashes as before there could be several, so that no container is replaced for it."""
    pairs = network.subnets or (None,)
    flat = [item for one in pairs for item in ((one.subnet, one.gateway) if one is not None else (None, None))]
    later = {key: value for key, value in to_json(network).items() if key in _LATER_NETWORK_FIELDS}
    parts = [[one.ip_range, *one.reserved] for one in network.subnets if one.ip_range or one.reserved]
    return [network.full_name, network.internal, *flat, *([later] if later else []), *([parts] if parts else [])]


def _plain(value: Any) -> Any:
    """Without compose paths, and with whole numbers as integers: a stack read back from disk hashes as the one written."""
    if isinstance(value, list):  # Ports, mounts and granted files, which know their places.
        return [_plain({**item, "place": ""} if isinstance(item, dict) else item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
