"""What containers share or are joined by, as the runtime takes it: ports, mounts and volumes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address

from orchestrator.compose.kinds.short_forms import clean_path
from orchestrator.compose.kinds.values import byte_size, go_text
from orchestrator.compose.model.granted import file_mode
from orchestrator.compose.model.mounting import bind_mount, tmpfs_mount
from orchestrator.compose.model.reader import Reader, at
from orchestrator.compose.text.tree import Node, place_of
from orchestrator.model.keys import MOST_NAME
from orchestrator.model.names import ServiceName, VolumeName
from orchestrator.model.network import PortMapping
from orchestrator.model.service import Service
from orchestrator.model.volume import Mount, MountKind, Volume, check_options, check_subpath

_DRIVE = re.compile(r"[A-Za-z]:/")
_MOST_PUBLISHED = 20_000
"""Of a stack. The request of an `up` says of each what it is and where it is written, some 180 bytes besides twice the
service's name, and 8 MiB are a request's limit (docs/control-protocol.md). Programs that want more than a few take a range
for media: 16,384 ports at most, by default (coturn, FreeSWITCH, Asterisk)."""


def ports(read: Reader, node: Node, path: str) -> tuple[PortMapping, ...]:
    out: list[PortMapping] = []
    seen: dict[tuple[str, int], list[tuple[PortMapping, Node]]] = {}
    for number, item in enumerate(read.each(node, "ports")):
        place = f"{path}.ports[{number}]"
        port = read.attempt(item, place, lambda n, place=place: _port(read, n, place), None)  # type: ignore[misc]
        if port is None:
            continue
        out.append(port)
        if port.published is not None and port.published[0] == port.published[1]:
            others = seen.setdefault((port.protocol, port.published[0]), [])
            for other, there in others:
                if _on_one_address(port, other):
                    message = f"the host port {port.published[0]}/{port.protocol} leads to {other.target} already"
                    read.error(item, place, message, related=(place_of(there, other.place),))
                    break
            others.append((port, item))
    return tuple(out)


def check_published(read: Reader, services: Mapping[ServiceName, Service]) -> None:
    """That `services`, which are those asked for, publish no more ports together than a stack may."""
    total = 0
    for name, service in services.items():
        total += len(service.ports)
        if total > _MOST_PUBLISHED:
            section = "jobs" if service.job else "services"
            node = dict(read.section(section))[name].get("ports")
            assert node is not None
            here = len(service.ports)
            message = f"with these {here} the stack publishes {total} ports, and {_MOST_PUBLISHED} is the most"
            hint = "`network_mode: host` needs none published: such a service has the host's own ports"
            read.error(node, f"{section}.{name}.ports", message, hint)
            return


def _on_one_address(one: PortMapping, other: PortMapping) -> bool:
    """Whether some address has both host ports. Every address of a family has what none is given for, as bind(2) has it."""
    ips = [ip_address(port.host_ip or "0.0.0.0") for port in (one, other)]
    same_family = ips[0].version == ips[1].version
    return same_family and (ips[0] == ips[1] or any(ip.is_unspecified for ip in ips))


def _port(read: Reader, node: Node, place: str) -> PortMapping | None:
    target = node.get("target")
    if target is None or not isinstance(target.value, int) or not 1 <= target.value <= 65535:
        raise ValueError("target must be a port from 1 to 65535")
    published = read.text(node, "published")
    host_range = None
    if published and published != "0":
        first, dash, last = published.partition("-")
        if not all(re.fullmatch(r"[0-9]{1,5}", part) for part in (first, last if dash else first)):
            raise ValueError(f'published "{published}" is not a port or a range of ports')
        host_range = (int(first), int(last if dash else first))
        if not 1 <= host_range[0] <= host_range[1] <= 65535:
            raise ValueError(f'published "{published}" is not a port or a range of ports')
    protocol = (read.text(node, "protocol") or "tcp").lower()
    if protocol == "sctp":
        raise ValueError(
            "an sctp port cannot be published: its connections move between addresses, which neither the translation of "
            "addresses nor a proxy follows (containers reach each other by sctp without `ports`)"
        )
    if protocol not in ("tcp", "udp"):
        raise ValueError(f'"{protocol}" is not a protocol whose ports can be published: one of tcp, udp')
    host_ip = read.text(node, "host_ip")
    return PortMapping(target.value, host_range, host_ip and _host_address(host_ip), protocol, place)


def _host_address(text: str) -> str:
    """Raises ValueError."""
    try:
        address = ip_address(text)
    except ValueError:
        raise ValueError(f'host_ip: "{text}" is not an IP address') from None
    if isinstance(address, IPv6Address) and (address.scope_id or address.ipv4_mapped):
        raise ValueError(f'host_ip: "{text}": leave out the %interface, and write an IPv4 address as such')
    if address.is_multicast:
        raise ValueError(f'host_ip: "{text}" is the address of a group, not of this host')
    return text


def mounts(read: Reader, node: Node, path: str) -> tuple[Mount, ...]:
    out = []
    for number, item in enumerate(read.each(node, "volumes")):
        place = f"{path}.volumes[{number}]"
        mount = read.attempt(item, place, lambda n, place=place: _mount(read, n, place), None)  # type: ignore[misc]
        if mount is not None:
            out.append(mount)
    taken = {clean_path(mount.target): mount for mount in out}
    for number, item in enumerate(read.each(node, "tmpfs")):
        place = f"{path}.tmpfs[{number}]"
        read.mark(item, place)
        mount = read.attempt(item, place, lambda n, place=place: tmpfs_mount(go_text(n.value), place), None)  # type: ignore[misc]
        if mount is None:
            continue
        first = taken.setdefault(clean_path(mount.target), mount)
        if first.target != mount.target:  # The rules have said it of what is written the same.
            read.error(item, place, f"something is mounted at {clean_path(mount.target)} already: {first.place}")
        out.append(mount)
    return tuple(out)


def _mount(read: Reader, node: Node, place: str) -> Mount:
    kind, target, source = (read.text(node, key) for key in ("type", "target", "source"))
    if not target or not target.startswith("/"):
        error = ValueError(f'the target "{target or ""}" is not an absolute path')
        if target and source is None and _DRIVE.match(target):
            error.hint = "a name of one letter is read as a Windows drive: give the volume a longer one"  # type: ignore[attr-defined]
        raise error
    read_only = read.flag(node, place, "read_only")
    if kind == "tmpfs":
        options = node.get("tmpfs")
        size = options.get("size") if options is not None else None
        mode = options.get("mode") if options is not None else None
        bits = None
        if mode is not None and mode.value is not None:
            bits = file_mode(mode)
        limit = byte_size(size) if size is not None and size.value is not None else None
        return Mount(MountKind.TMPFS, target, None, read_only, tmpfs_size_bytes=limit or None, tmpfs_mode=bits, place=place)
    if kind == "bind":
        if not source:
            raise ValueError("a bind mount needs a source")
        return bind_mount(read, node, target, source, read_only, place)
    if kind == "volume":
        nocopy = at(node, "volume", "nocopy")
        return Mount(
            MountKind.VOLUME,
            target,
            source,
            read_only,
            nocopy=nocopy is not None and nocopy.value is True,
            place=place,
            subpath=_subpath(node, "volume"),
            labels=_labels(read, node, place) if not source else (),
        )
    if kind == "image":
        if not source:
            raise ValueError("an image mount needs a source: the image")
        return Mount(MountKind.IMAGE, target, source, True, place=place, subpath=_subpath(node, "image"))
    raise ValueError(f"mounts of type {kind} are not supported yet")


def _labels(read: Reader, node: Node, place: str) -> tuple[tuple[str, str], ...]:
    options = node.get("volume")
    return tuple(read.pairs(options, f"{place}.volume", "labels", keep_null=True).items()) if options is not None else ()


def _subpath(node: Node, key: str) -> str:
    item = at(node, key, "subpath")
    path = go_text(item.value) if item is not None else ""
    check_subpath(path)
    return path


def volume(read: Reader, key: str, node: Node) -> Volume:
    path = f"volumes.{key}"
    read.mark(node, path, key=True)
    driver = node.get("driver")
    if driver is not None and driver.value not in ("local", "", None):
        read.error(driver, f"{path}.driver", f'there is no volume driver "{go_text(driver.value)}": only local')
    name = read.text(node, "name") or key
    if len(name.encode("utf-8", "surrogateescape")) > MOST_NAME:
        hint = "it becomes a directory's name"
        read.error(node.get("name") or node, f"{path}.name", f"longer than {MOST_NAME} bytes", hint)
    external = node.get("external")
    options = read.pairs(node, path, "driver_opts", keep_null=False)
    if (item := node.get("driver_opts")) is not None:
        read.mark(item, f"{path}.driver_opts", key=True)
        read.attempt(item, f"{path}.driver_opts", lambda _: check_options(options), None)
    return Volume(
        VolumeName(key),
        name,
        external is not None and external.value is True,
        tuple(read.pairs(node, path, "labels", keep_null=True).items()),
        tuple(options.items()),
    )
