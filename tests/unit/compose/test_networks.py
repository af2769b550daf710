"""Networks: what is read of them, and what the text alone shows to be wrong, each at its place."""

from __future__ import annotations

import pytest

from orchestrator.model.names import NetworkName, ServiceName
from orchestrator.model.network import Attachment, Subnet
from orchestrator.model.network_options import NetworkOptions, parse_options
from orchestrator.plan.hashing import _network_content
from orchestrator.values import replace
from tests.unit.compose.stacks import Stack

N = NetworkName("n")


def one(network: str, attachment: str = "{}") -> str:
    return f"services:\n  a: {{image: i, networks: {{n: {attachment}}}}}\nnetworks:\n  n: {network}\n"


def option(name: str, value: str, more: str = "internal: false") -> str:
    return f"{{{more}, driver_opts: {{com.docker.network.{name}: '{value}'}}}}"


def config(*entries: str) -> str:
    return f"{{ipam: {{config: [{', '.join(entries)}]}}}}"


def test_a_range_with_a_part_and_reserved_addresses_is_read(stack: Stack) -> None:
    entry = "{subnet: 10.1.0.0/24, gateway: 10.1.0.254, ip_range: 10.1.0.128/25, aux_addresses: {router: 10.1.0.9}}"
    project = stack.load(one(config(entry))).project
    assert project.networks[N].subnets == (Subnet("10.1.0.0/24", "10.1.0.254", "10.1.0.128/25", ("10.1.0.9",)),)


def test_what_is_said_of_an_attachment_is_read(stack: Stack) -> None:
    said = "{ipv6_address: 'fd00:1:0::9', link_local_ips: ['fe80::7', 169.254.1.1], interface_name: lan0, "
    said += "priority: 3, gw_priority: 9, mac_address: 02-42-AC-11-00-02}"
    project = stack.load(one("{enable_ipv6: true, ipam: {config: [{subnet: 'fd00:1::/64'}]}}", said)).project
    assert project.services[ServiceName("a")].networks[N] == Attachment(
        N,
        mac_address="02:42:ac:11:00:02",
        ipv6_address="fd00:1::9",
        link_local=("fe80::7", "169.254.1.1"),
        interface="lan0",
        priority=3,
        gw_priority=9,
    )
    assert project.networks[N].ipv6


def test_options_are_read_and_a_stack_that_says_none_hashes_as_before(stack: Stack) -> None:
    project = stack.load(one("{driver_opts: {com.docker.network.driver.mtu: 1400}}")).project
    options = parse_options("bridge", project.networks[N].options)
    assert options == NetworkOptions(mtu=1400)
    plain = stack.load(one("{internal: true}")).project.networks[N]
    assert _network_content(plain) == [plain.full_name, True, None, None]
    subnet = stack.load(one(config("{subnet: 10.1.0.0/24}"))).project.networks[N]
    assert _network_content(subnet) == [subnet.full_name, False, "10.1.0.0/24", None]


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (config("{subnet: 10.1.0.9/24}"), 'networks.n.ipam.config[0].subnet: "10.1.0.9/24" is not a subnet'),
        (config("{subnet: 10.1/24}"), 'subnet: "10.1/24" is not a subnet'),
        (config("{subnet: 10.1.0.0/31}"), '"10.1.0.0/31" must have a prefix length from 8 to 29'),
        (config("{subnet: 169.254.0.0/24}"), "has a special meaning"),
        (
            "{enable_ipv6: true, " + config("{subnet: '::ffff:10.7.0.0/112'}")[1:],
            '"::ffff:10.7.0.0/112" has a special meaning',
        ),
        (config("{subnet: 10.1.0.0/24, gateway: 10.2.0.1}"), "gateway: 10.2.0.1 is not an address for a host in "),
        (config("{subnet: 10.1.0.0/24, gateway: x}"), 'networks.n.ipam.config[0].gateway: "x" is not an IP address'),
        (config("{subnet: 10.1.0.0/24, ip_range: 10.2.0.0/25}"), "ip_range: 10.2.0.0/25 is not a part of the subnet"),
        (config("{ip_range: 10.2.0.0/25}"), "ip_range: the ip_range 10.2.0.0/25 needs a subnet that it is in"),
        (config("{aux_addresses: {a: 10.2.0.1}}"), "aux_addresses: aux_addresses need a subnet that they are in"),
        (config("{subnet: 10.1.0.0/24, aux_addresses: {a: 10.1.0.1}}"), "aux_addresses: 10.1.0.1 is the gateway already"),
        (config("{subnet: 10.1.0.0/24, aux_addresses: {a: 10.1.0.7, b: 10.1.0.7}}"), "10.1.0.7 is there twice"),
        (
            config("{subnet: 10.1.0.0/24}", "{subnet: 10.2.0.0/24}"),
            "networks.n.ipam.config[1].subnet: there is an IPv4 subnet already, 10.1.0.0/24: one of each family",
        ),
        (config("{subnet: 'fd00::/64'}"), "fd00::/64 is an IPv6 subnet, and the network has no IPv6"),
        ("{enable_ipv4: false}", "networks.n.enable_ipv4: a network needs IPv4 or IPv6"),
        (option("bridge.name", "a/b"), '"a/b" is not a name for an interface'),
        (option("bridge.name", "much-too-long-a-name"), "is not a name for an interface"),
        (option("driver.mtu", "9"), '"9" is not an MTU'),
        (option("driver.mtu", "1000", "enable_ipv6: true"), "IPv6 needs an MTU of at least 1280, and it is 1000"),
        (option("bridge.enable_icc", "maybe"), '"maybe" is not true or false'),
        (option("bridge.host_binding_ipv4", "::1"), '"::1" is not an IPv4 address'),
        (option("bridge.gateway_mode_ipv6", "isolated"), '"isolated" is not supported: nat or routed'),
        (option("bridge.what", "x"), 'there is no option "com.docker.network.bridge.what" here'),
        ("{driver: macvlan}", "driver_opts.parent: a network of driver macvlan needs the host's interface that it is on"),
        ("{driver: ipvlan, driver_opts: {ipvlan_mode: l2}}", "driver_opts.parent: a network of driver ipvlan needs"),
        ("{driver: macvlan, driver_opts: {parent: 'eth 0'}}", 'driver_opts.parent: "eth 0" is not a name for an interface'),
        (
            "{driver: macvlan, driver_opts: {parent: eth0, macvlan_mode: l2}}",
            'driver_opts.macvlan_mode: "l2" is not one of bridge, private, vepa, passthru',
        ),
        (
            "{driver: ipvlan, driver_opts: {parent: eth0, ipvlan_flag: l2}}",
            'driver_opts.ipvlan_flag: "l2" is not one of bridge, private, vepa',
        ),
        ("{driver: ipvlan, driver_opts: {macvlan_mode: vepa}}", 'there is no option "macvlan_mode" here'),
        ("{driver_opts: {parent: eth0}}", 'driver_opts.parent: there is no option "parent" here'),
        ("{driver: overlay}", 'networks.n.driver: the network driver "overlay" is not supported yet'),
    ],
)
def test_what_is_wrong_with_a_network_is_told_once_and_at_its_place(stack: Stack, network: str, message: str) -> None:
    (found,) = stack.messages(one(network))
    assert found.startswith("compose.yaml:4:")
    assert message in found


@pytest.mark.parametrize(
    ("driver", "options", "read"),
    [
        ("macvlan", "parent: eth0", NetworkOptions(parent="eth0")),
        ("macvlan", "parent: eth0.7, macvlan_mode: private", NetworkOptions(parent="eth0.7", mode="private")),
        ("ipvlan", "parent: eth0, ipvlan_mode: l3s", NetworkOptions(parent="eth0", mode="l3s")),
        ("ipvlan", "parent: eth0, ipvlan_flag: vepa", NetworkOptions(parent="eth0", flag="vepa")),
    ],
)
def test_a_network_that_the_host_is_on_too_says_by_which_interface(
    stack: Stack, driver: str, options: str, read: NetworkOptions
) -> None:
    network = stack.load(one(f"{{driver: {driver}, driver_opts: {{{options}}}}}")).project.networks[N]
    assert network.driver == driver
    assert parse_options(driver, network.options) == read
    assert read.is_private is (read.mode == "private")
    assert _network_content(network) != _network_content(replace(network, driver="bridge", options=()))


def test_subnets_that_overlap_are_told_at_the_second(stack: Stack) -> None:
    text = "services: {a: {image: i, networks: [m, n]}}\nnetworks:\n"
    text += f"  m: {config('{subnet: 10.1.0.0/16}')}\n  n: {config('{subnet: 10.1.7.0/24}')}\n"
    (found,) = stack.messages(text)
    assert found.startswith("compose.yaml:4:")
    assert "networks.n.ipam.config: 10.1.7.0/24 overlaps the subnet of network m" in found


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("10.1.0.300", '"10.1.0.300" is not an IPv4 address'),
        ("fd00::7", '"fd00::7" is not an IPv4 address'),
        ("10.2.0.7", "10.2.0.7 is not an address for a host in 10.1.0.0/24"),
        ("10.1.0.255", "10.1.0.255 is not an address for a host in 10.1.0.0/24"),
        ("10.1.0.1", "10.1.0.1 is the gateway of the network"),
        ("10.1.0.7", "10.1.0.7 is one of the network's aux_addresses, which nobody is given"),
    ],
)
def test_an_address_that_its_network_does_not_have_is_told_where_it_is_written(
    stack: Stack, address: str, message: str
) -> None:
    network = config("{subnet: 10.1.0.0/24, aux_addresses: {printer: 10.1.0.7}}")
    (found,) = stack.messages(one(network, f'{{ipv4_address: "{address}"}}'))
    assert found.startswith("compose.yaml:2:46: services.a.networks.n.ipv4_address: " + message)


@pytest.mark.parametrize(
    ("attachment", "message"),
    [
        ("{ipv6_address: 'fd00::9'}", "ipv6_address: network n has no IPv6"),
        ("{ipv6_address: 10.1.0.9}", 'ipv6_address: "10.1.0.9" is not an IPv6 address'),
        ("{link_local_ips: [10.1.0.9]}", "link_local_ips[0]: 10.1.0.9 is not a link-local address"),
        ("{link_local_ips: [x]}", 'link_local_ips[0]: "x" is not an IPv4 address'),
        ("{interface_name: lo}", 'interface_name: "lo" is not a name for an interface'),
        ("{interface_name: a-name-that-is-long}", "is not a name for an interface"),
        ("{mac_address: '03:00:00:00:00:01'}", "mac_address:"),
    ],
)
def test_what_is_wrong_with_an_attachment_is_told_once_and_at_its_place(
    stack: Stack, attachment: str, message: str
) -> None:
    (found,) = stack.messages(one("{}", attachment))
    assert found.startswith("compose.yaml:2:")
    assert message in found


def test_two_networks_cannot_have_one_interface(stack: Stack) -> None:
    text = "services: {a: {image: i, networks: {m: {interface_name: lan0}, n: {interface_name: lan0}}}}\n"
    (found,) = stack.messages(text + "networks: {m: {}, n: {}}\n")
    assert "services.a.networks.n.interface_name: lan0 is its interface on network m already" in found


def test_two_networks_cannot_have_one_bridge(stack: Stack) -> None:
    options = "{driver_opts: {com.docker.network.bridge.name: br7}}"
    text = f"services: {{a: {{image: i, networks: [m, n]}}}}\nnetworks:\n  m: {options}\n  n: {options}\n"
    (found,) = stack.messages(text)
    assert found.startswith("compose.yaml:4:")
    assert 'com.docker.network.bridge.name: "br7" is the bridge of network m already' in found


ADDRESSED = """services:
  a: {{image: i, networks: {{n: {{{0}}}}}}}
  b: {{image: i, {1}, networks: {{n: {{{0}}}}}}}
networks: {{n: {{enable_ipv6: true, ipam: {{config: [{{subnet: 10.1.0.0/24}}, {{subnet: 'fd00:1::/64'}}]}}}}}}
"""


SAID = ["ipv4_address: 10.1.0.9", "ipv6_address: 'fd00:1::9'", "mac_address: '02:00:00:00:00:09'"]


@pytest.mark.parametrize("said", SAID)
def test_what_two_services_want_of_a_network_is_told_at_the_second(stack: Stack, said: str) -> None:
    (found,) = stack.messages(ADDRESSED.format(said, "labels: {}"))
    assert found.startswith("compose.yaml:3:")
    assert "is that of service a on network n already" in found


@pytest.mark.parametrize("apart", ["scale: 0", "profiles: [other]"])
def test_who_is_not_there_takes_nothing_from_others(stack: Stack, apart: str) -> None:
    assert len(stack.load(ADDRESSED.format("ipv4_address: 10.1.0.9", apart)).project.services) == 2


@pytest.mark.parametrize("key", SAID)
def test_many_containers_cannot_have_one_address(stack: Stack, key: str) -> None:
    text = ADDRESSED.format(key, "profiles: [other]").replace("a: {image: i", "a: {image: i, scale: 2")
    (found,) = stack.messages(text)
    assert f"services.a.scale: more than one container cannot have one {key.partition(':')[0]}" in found


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("network_mode: 'service:zz'", 'services.a.network_mode: "zz" is not a service'),
        ("depends_on: [zz]", 'services.a.depends_on: "zz" is not a service'),
    ],
)
def test_a_service_that_is_not_there_is_told_once_where_it_is_named(stack: Stack, said: str, message: str) -> None:
    (found,) = stack.messages(f"services:\n  a: {{image: i, {said}}}\n  b: {{image: i}}\n")
    assert message in found
