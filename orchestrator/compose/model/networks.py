"""The networks of a stack, and how services are on them, as the runtime takes them; and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.compose.kinds.values import go_text
from orchestrator.compose.model import namespaces
from orchestrator.compose.model.reader import Reader
from orchestrator.compose.text.tree import Node, place_of
from orchestrator.model.names import NetworkName, ServiceName
from orchestrator.model.network import Attachment, Network, Subnet, parse_mac
from orchestrator.model.network_options import BRIDGE_NAME, DRIVERS, BadOption, interface_name, parse_options
from orchestrator.model.service import Service
from orchestrator.model.subnets import AddressRange, BadRange, check_member, overlapping, parse_address, parse_range


def attachments(read: Reader, node: Node, path: str) -> dict[NetworkName, Attachment]:
    """The networks a service joins. Its container_name is a further name of it there, as Docker has it, and its mac_address
    counts on the first."""
    item = node.get("networks")
    own_name, own_mac = read.text(node, "container_name"), node.get("mac_address")
    if own_mac is not None and not own_mac.value:
        own_mac = None
    out: dict[NetworkName, Attachment] = {}
    if namespaces.is_on_default(node):
        out[namespaces.DEFAULT] = Attachment(namespaces.DEFAULT, (own_name,) if own_name is not None else ())
    for name, entry in item.items() if item is not None else ():
        place = f"{path}.networks.{name}"
        read.mark(entry, place, key=True)
        aliases = tuple(go_text(alias.value) for alias in read.each(entry, "aliases"))
        if own_name is not None and own_name not in aliases:
            aliases = (own_name, *aliases)
        mac = entry.get("mac_address") or (own_mac if not out else None)
        mac_place = f"{place}.mac_address" if mac is not own_mac else f"{path}.mac_address"
        out[NetworkName(name)] = Attachment(
            NetworkName(name),
            aliases,
            _address(read, entry, place, 4),
            read.attempt(mac, mac_place, lambda n: parse_mac(go_text(n.value)), None) if mac is not None else None,
            ipv6_address=_address(read, entry, place, 6),
            link_local=_link_local(read, entry, place),
            interface=_interface(read, entry, place),
            priority=_number(entry, "priority"),
            gw_priority=_number(entry, "gw_priority"),
        )
    _check_interfaces(read, item, path, out)
    return out


def _address(read: Reader, entry: Node, place: str, version: int) -> str | None:
    """As the kernel writes it."""
    item = entry.get(f"ipv{version}_address")
    if item is None or not item.value:
        return None
    key = f"{place}.ipv{version}_address"
    read.mark(item, key)
    return read.attempt(item, key, lambda n: str(parse_address(go_text(n.value), version)), None)


def _link_local(read: Reader, entry: Node, place: str) -> tuple[str, ...]:
    found: list[str] = []
    for number, item in enumerate(read.each(entry, "link_local_ips")):
        text = go_text(item.value)

        def parse(_: Node, text: str = text) -> str:
            address = parse_address(text, 6 if ":" in text else 4)
            if not address.is_link_local:
                raise ValueError(f"{text} is not a link-local address (169.254.0.0/16 or fe80::/10)")
            return str(address)

        address = read.attempt(item, f"{place}.link_local_ips[{number}]", parse, None)
        if address is not None:
            found.append(address)
    return tuple(found)


def _interface(read: Reader, entry: Node, place: str) -> str:
    item = entry.get("interface_name")
    if item is None or not item.value:
        return ""
    return read.attempt(item, f"{place}.interface_name", lambda n: interface_name(go_text(n.value)), "")


def _number(entry: Node, key: str) -> int:
    item = entry.get(key)
    return int(item.value) if item is not None and isinstance(item.value, int | float) else 0


def _check_interfaces(read: Reader, item: Node | None, path: str, out: Mapping[NetworkName, Attachment]) -> None:
    seen: dict[str, NetworkName] = {}
    for name, attachment in out.items():
        entry = item.get(name) if item is not None else None
        if attachment.interface and entry is not None:
            if attachment.interface in seen:
                other = seen[attachment.interface]
                message = f"{attachment.interface} is its interface on network {other} already"
                read.error(entry.get("interface_name") or entry, f"{path}.networks.{name}.interface_name", message)
            seen[attachment.interface] = name


def network(read: Reader, key: str, node: Node) -> Network:
    path = f"networks.{key}"
    if node.key_line:
        read.mark(node, path, key=True)
    external = node.get("external")
    if external is not None and external.value is True:
        if (name := node.get("name")) is not None:
            read.mark(name, f"{path}.name")
        return Network(NetworkName(key), read.text(node, "name") or key, external=True)
    driver = _driver(read, node, path)
    ipv4 = node.get("enable_ipv4") is None or read.flag(node, path, "enable_ipv4")
    ipv6 = read.flag(node, path, "enable_ipv6")
    if not ipv4 and not ipv6:
        read.error(node.get("enable_ipv4") or node, f"{path}.enable_ipv4", "a network needs IPv4 or IPv6")
    options = tuple(read.pairs(node, path, "driver_opts", keep_null=False).items())
    driver_opts = node.get("driver_opts")
    for key_there, item in driver_opts.items() if driver_opts is not None else ():
        read.mark(item, f"{path}.driver_opts.{key_there}")
    try:
        parse_options(driver, options, ipv6)
    except BadOption as exc:
        at = driver_opts or node.get("driver") or node
        read.error(at.get(exc.key) or at, f"{path}.driver_opts.{exc.key}", str(exc), exc.hint)
        options = ()
    return Network(
        NetworkName(key),
        read.text(node, "name") or key,
        read.flag(node, path, "internal"),
        _subnets(read, node, path, ipv4, ipv6),
        tuple(read.pairs(node, path, "labels", keep_null=True).items()),
        ipv4=ipv4,
        ipv6=ipv6,
        driver=driver,
        options=options,
    )


def _driver(read: Reader, node: Node, path: str) -> str:
    item = node.get("driver")
    if item is None or item.value in ("", None):
        return "bridge"
    driver = go_text(item.value)
    if driver in DRIVERS:
        return driver
    read.error(item, f"{path}.driver", f'the network driver "{driver}" is not supported yet')
    return "bridge"


def _subnets(read: Reader, node: Node, path: str, ipv4: bool, ipv6: bool) -> tuple[Subnet, ...]:
    ipam = node.get("ipam")
    if ipam is None:
        return ()
    driver = ipam.get("driver")
    if driver is not None and driver.value not in ("default", "", None):
        read.error(driver, f"{path}.ipam.driver", f'the IPAM driver "{go_text(driver.value)}" is not supported yet')
    found: dict[int, Subnet] = {}
    for number, entry in enumerate(read.each(ipam, "config")):
        place = f"{path}.ipam.config[{number}]"
        read.mark(entry, place)
        subnet = _subnet(read, entry, place)
        if subnet is None:
            continue
        version = 6 if ":" in subnet.subnet else 4
        if version in found:
            message = f"there is an IPv{version} subnet already, {found[version].subnet}: one of each family"
            read.error(entry.get("subnet") or entry, f"{place}.subnet", message)
        elif not (ipv6 if version == 6 else ipv4):
            message = f"{subnet.subnet} is an IPv{version} subnet, and the network has no IPv{version}"
            read.error(entry.get("subnet") or entry, f"{place}.subnet", message, f"write {path}.enable_ipv{version}: true")
        else:
            found[version] = subnet
    return tuple(found.values())


def _subnet(read: Reader, entry: Node, place: str) -> Subnet | None:
    text, gateway, ip_range = (read.text(entry, key) for key in ("subnet", "gateway", "ip_range"))
    aux = entry.get("aux_addresses")
    if text is None:
        for key, value in (("gateway", gateway), ("ip_range", ip_range)):
            if value is not None:
                read.error(entry.get(key) or entry, f"{place}.{key}", f"the {key} {value} needs a subnet that it is in")
        if aux is not None and aux.items():
            read.error(aux, f"{place}.aux_addresses", "aux_addresses need a subnet that they are in")
        return None
    reserved = {name: go_text(item.value) for name, item in aux.items()} if aux is not None else {}
    written = Subnet(text, gateway, ip_range, tuple(reserved.values()), tuple(reserved))
    try:
        parse_range(written)
    except BadRange as exc:
        read.error(entry.get(exc.key) or entry, f"{place}.{exc.key}", str(exc), exc.hint)
        return None
    return written


def check_addresses(
    read: Reader,
    networks: Mapping[NetworkName, Network],
    services: Mapping[ServiceName, Service],
) -> None:
    """What only all of them together show: subnets that overlap, addresses that are none of their network's, and what two
    of them want and one can have."""
    ranges: list[tuple[NetworkName, AddressRange]] = []
    own: dict[NetworkName, dict[int, AddressRange]] = {}
    for key, item in networks.items():
        for written in item.subnets:
            place = parse_range(written)
            node = _node(read, "networks", key)
            other = next((name for name, each in ranges if overlapping([each], place) is not None), None)
            if other is not None and node is not None:
                at = node.get("ipam") or node
                read.error(at, f"networks.{key}.ipam.config", f"{place.network} overlaps the subnet of network {other}")
            ranges.append((key, place))
            own.setdefault(key, {})[place.version] = place
    for name, service in services.items():
        for key, attachment in service.networks.items():
            if key in networks and not networks[key].external:
                _check_attachment(read, name, networks[key], attachment, own.get(key, {}))
    _check_bridges(read, networks)
    _check_twice(read, services)


def _check_bridges(read: Reader, networks: Mapping[NetworkName, Network]) -> None:
    seen: dict[str, NetworkName] = {}
    for key, item in networks.items():
        bridge = dict(item.options).get(BRIDGE_NAME)
        options = _node(read, "networks", key, "driver_opts")
        if bridge and seen.setdefault(bridge, key) != key and options is not None:
            message = f'"{bridge}" is the bridge of network {seen[bridge]} already'
            read.error(options.get(BRIDGE_NAME) or options, f"networks.{key}.driver_opts.{BRIDGE_NAME}", message)


def _check_twice(read: Reader, services: Mapping[ServiceName, Service]) -> None:
    """Addresses and MACs that two services want on one network."""
    seen: dict[tuple[NetworkName, str], tuple[ServiceName, Node | None]] = {}
    for name, service in services.items():
        for key, attachment in service.networks.items() if service.replicas else ():
            for field in ("ipv4_address", "ipv6_address", "mac_address"):
                wanted = getattr(attachment, field)
                if not wanted:
                    continue
                node = _node(read, "services", name, "networks", key, field) or _node(read, "services", name, field)
                other, theirs = seen.setdefault((key, wanted), (name, node))
                if other != name and node is not None:
                    place = f"services.{name}.networks.{key}.{field}"
                    related = (place_of(theirs, f"services.{other}"),) if theirs is not None else ()
                    message = f"{wanted} is that of service {other} on network {key} already"
                    read.error(node, place, message, related=related)


def _check_attachment(
    read: Reader, service: str, network: Network, attachment: Attachment, ranges: Mapping[int, AddressRange]
) -> None:
    node = _node(read, "services", service, "networks", network.key)
    if node is None:
        return
    for version, text in ((4, attachment.ipv4_address), (6, attachment.ipv6_address)):
        if text is None:
            continue
        item = node.get(f"ipv{version}_address") or node
        key = f"services.{service}.networks.{network.key}.ipv{version}_address"
        if not (network.ipv6 if version == 6 else network.ipv4):
            message = f"network {network.key} has no IPv{version}"
            read.error(item, key, message, f"write networks.{network.key}.enable_ipv{version}: true")
        elif version in ranges:
            read.attempt(item, key, lambda _, r=ranges[version], t=text: check_member(r, t), None)  # type: ignore[misc]


def _node(read: Reader, *keys: str) -> Node | None:
    node: Node | None = read.model
    for key in keys:
        node = node.get(key) if node is not None else None
    return node
