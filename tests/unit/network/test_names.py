"""What the DNS server answers, without sockets."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address

import pytest
from dnslib import EDNS0, QTYPE, RCODE, DNSRecord
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contracts.network import Address, Endpoint
from orchestrator.model.names import ContainerId, NetworkName
from orchestrator.network.answers import Elsewhere, question_bytes, servfail
from orchestrator.network.answers import answer as answer_to
from orchestrator.network.names import ProjectNames
from orchestrator.network.upstream import parse_servers
from orchestrator.network.zones import Zone
from orchestrator.values import replace

NET = NetworkName("default")


def endpoint(address: str, *names: str) -> Endpoint:
    return Endpoint(NET, (Address(address, 20, "10.0.0.1"),), "02:70:00:00:00:00", "eth0", names)


def project(count: int = 1) -> tuple[ProjectNames, Zone]:
    names = ProjectNames()
    zone = names.open_zone(NET, [IPv4Network("10.0.0.0/20")])
    for number in range(count):
        container = ContainerId(f"p-web-{number}")
        place = endpoint(str(IPv4Network("10.0.0.0/20")[number + 2]), "web", container)
        names.claim(container, [place])
        names.publish(container, [place])
    return names, zone


def ask(names: ProjectNames, zone: Zone, name: str, kind: str = "A") -> DNSRecord:
    answer = answer_to(names, zone, DNSRecord.question(name, kind).pack())
    assert isinstance(answer, bytes)
    return DNSRecord.parse(answer)


def test_names_do_not_depend_on_case_and_come_back_as_they_were_asked() -> None:
    names, zone = project()
    reply = ask(names, zone, "WeB")
    assert (str(reply.q.qname), str(reply.rr[0].rname), str(reply.rr[0].rdata)) == ("WeB.", "WeB.", "10.0.0.2")


def test_names_that_are_not_ours_are_forwarded() -> None:
    names, zone = project()
    for name in ("example.org", "web.example.org", "1.0.0.127.in-addr.arpa", "x.in-addr.arpa", "."):
        assert answer_to(names, zone, DNSRecord.question(name).pack()) is Elsewhere.FORWARD


def test_on_internal_networks_alone_nothing_is_asked_outside() -> None:
    names, zone = project()
    closed = names.open_zone(NetworkName("closed"), [IPv4Network("10.1.0.0/20")], internal=True)
    both = replace(endpoint("10.1.0.2", "web"), network=NetworkName("closed"), interface="eth1", internal=True)
    names.publish(ContainerId("p-web-0"), [endpoint("10.0.0.2", "web"), both])
    alone = replace(endpoint("10.1.0.3", "db"), network=NetworkName("closed"), internal=True)
    names.publish(ContainerId("p-db-0"), [alone])
    message = DNSRecord.question("example.org").pack()
    assert answer_to(names, closed, message, "10.1.0.2") is Elsewhere.FORWARD
    refused = answer_to(names, closed, message, "10.1.0.3")
    assert isinstance(refused, bytes)
    assert DNSRecord.parse(refused).header.rcode == RCODE.NXDOMAIN
    assert answer_to(names, zone, message, "10.0.0.2") is Elsewhere.FORWARD


def test_a_name_is_ours_until_its_last_container_is_released() -> None:
    names, zone = project(2)
    names.withdraw(ContainerId("p-web-0"))
    names.disclaim(ContainerId("p-web-0"))
    assert [str(r.rdata) for r in ask(names, zone, "web").rr] == ["10.0.0.3"]
    names.withdraw(ContainerId("p-web-1"))
    assert ask(names, zone, "web").header.rcode == RCODE.NXDOMAIN
    names.disclaim(ContainerId("p-web-1"))
    assert answer_to(names, zone, DNSRecord.question("web").pack()) is Elsewhere.FORWARD


def test_two_names_asked_for_in_turns_and_with_aaaa_each_reach_all_containers() -> None:
    """As clients ask: an A and an AAAA for each name, and names of different sizes alternately."""
    names, zone = project(3)
    for number in range(2):
        zone.add(ContainerId(f"p-db-{number}"), [f"10.0.1.{number}"], ["db"])
    first: dict[str, set[str]] = {"web": set(), "db": set()}
    for _ in range(6):
        for name, seen in first.items():
            seen.add(str(ask(names, zone, name).rr[0].rdata))
            assert ask(names, zone, name, "AAAA").rr == []
    assert [len(seen) for seen in first.values()] == [3, 2]


def test_while_one_is_ready_the_others_keep_silent_but_for_their_own_names() -> None:
    names, zone = project(3)
    for number in (0, 2):
        names.set_ready(ContainerId(f"p-web-{number}"), False)
    assert [str(r.rdata) for r in ask(names, zone, "web").rr] == ["10.0.0.3"]
    assert [str(r.rdata) for r in ask(names, zone, "P-Web-0").rr] == ["10.0.0.2"]
    assert [str(r.rdata) for r in ask(names, zone, "2.0.0.10.in-addr.arpa", "PTR").rr] == ["p-web-0."]
    names.withdraw(ContainerId("p-web-1"))
    assert {str(r.rdata) for r in ask(names, zone, "web").rr} == {"10.0.0.2", "10.0.0.4"}


def test_more_addresses_than_fit_are_truncated_unless_the_client_takes_them() -> None:
    names, zone = project(60)
    message = DNSRecord.question("web")
    short = answer_to(names, zone, message.pack())
    assert isinstance(short, bytes)
    assert (len(short) <= 512, DNSRecord.parse(short).header.tc) == (True, 1)
    whole = answer_to(names, zone, message.pack(), stream=True)
    assert isinstance(whole, bytes)
    assert len(DNSRecord.parse(whole).rr) == 60
    message.add_ar(EDNS0(udp_len=4096))
    large = answer_to(names, zone, message.pack())
    assert isinstance(large, bytes)
    assert (DNSRecord.parse(large).header.tc, len(DNSRecord.parse(large).rr)) == (0, 60)


def test_what_is_no_query_is_answered_with_not_implemented() -> None:
    names, zone = project()
    message = DNSRecord.question("web")
    message.header.opcode = 5
    answer = answer_to(names, zone, message.pack())
    assert isinstance(answer, bytes)
    assert DNSRecord.parse(answer).header.rcode == RCODE.NOTIMP


def test_a_container_that_moves_answers_at_its_new_address_only() -> None:
    names, zone = project()
    moved = endpoint("10.0.0.99", "web", "new")
    names.publish(ContainerId("p-web-0"), [moved])
    assert [str(r.rdata) for r in ask(names, zone, "web").rr] == ["10.0.0.99"]
    assert ask(names, zone, "2.0.0.10.in-addr.arpa", "PTR").header.rcode == RCODE.NXDOMAIN
    assert [str(r.rdata) for r in ask(names, zone, "99.0.0.10.in-addr.arpa", "PTR").rr] == ["p-web-0."]


@given(st.binary(max_size=120))
def test_no_packet_breaks_the_server(data: bytes) -> None:
    names, zone = project()
    answer = answer_to(names, zone, data)
    assert isinstance(answer, bytes | Elsewhere)
    servfail(data)


@given(st.binary(max_size=60), st.integers(12, 40))
def test_no_damaged_question_breaks_the_server(noise: bytes, at: int) -> None:
    names, zone = project()
    good = bytes(DNSRecord.question("web").pack())
    assert isinstance(answer_to(names, zone, good[:at] + noise + good[at:]), bytes | Elsewhere)


def test_servfail_repeats_id_and_question() -> None:
    message = DNSRecord.question("example.org", "AAAA")
    answer = servfail(message.pack())
    assert answer is not None
    reply = DNSRecord.parse(answer)
    assert (reply.header.id, reply.header.rcode, reply.q.qtype) == (message.header.id, RCODE.SERVFAIL, QTYPE.AAAA)
    assert question_bytes(answer) == question_bytes(message.pack())


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("nameserver 192.0.2.1\nnameserver 2001:db8::1\n", ("192.0.2.1", "2001:db8::1")),
        ("# nameserver 192.0.2.1\nsearch example.org\n", ("127.0.0.1",)),
        ("nameserver nonsense\nnameserver\nnameserver 192.0.2.9 # mine\n", ("192.0.2.9",)),
        ("nameserver fe80::1%eth0\n", ("fe80::1%eth0",)),
        ("".join(f"nameserver 192.0.2.{n}\n" for n in range(9)), ("192.0.2.0", "192.0.2.1", "192.0.2.2")),
    ],
)
def test_resolv_conf_is_read_as_its_man_page_says(text: str, servers: tuple[str, ...]) -> None:
    assert parse_servers(text) == servers


def test_a_container_that_wants_others_asked_is_told_by_its_address() -> None:
    names, zone = project()
    place = replace(endpoint("10.0.0.9", "own"), dns=("1.1.1.1",))
    names.claim(ContainerId("own"), [place])
    names.publish(ContainerId("own"), [place])
    assert names.servers(zone, "10.0.0.9") == ("1.1.1.1",)
    assert names.servers(zone, "10.0.0.2") == ()
    assert names.servers(zone, "10.0.0.77") == ()
    names.disclaim(ContainerId("own"))
    assert names.servers(zone, "10.0.0.9") == ()


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def dual() -> tuple[ProjectNames, Zone]:
    names = ProjectNames()
    zone = names.open_zone(NET, [IPv4Network("10.0.0.0/20"), IPv6Network("fd00:1::/64")], full_name="p_default")
    for number in (1, 2):
        container = ContainerId(f"p-web-{number}")
        addresses = (
            Address(f"10.0.0.{number + 1}", 20, "10.0.0.1"),
            Address(f"fd00:1::{number + 1}", 64, "fd00:1::1"),
            Address(f"fe80::{number + 1}", 64, ""),
        )
        place = Endpoint(NET, addresses, "02:70:00:00:00:00", "eth0", ("web", container))
        names.claim(container, [place])
        names.publish(container, [place])
    return names, zone


def found(reply: DNSRecord) -> set[str]:
    return {str(record.rdata) for record in reply.rr}


def test_each_family_has_its_own_records_and_turns() -> None:
    names, zone = dual()
    assert found(ask(names, zone, "web")) == {"10.0.0.2", "10.0.0.3"}
    assert found(ask(names, zone, "web", "AAAA")) == {"fd00:1::2", "fd00:1::3"}
    assert len(found(ask(names, zone, "web", "ANY"))) == 4
    firsts = {kind: {str(ask(names, zone, "web", kind).rr[0].rdata) for _ in range(4)} for kind in ("A", "AAAA")}
    assert [len(seen) for seen in firsts.values()] == [2, 2]
    names.withdraw(ContainerId("p-web-1"))
    assert found(ask(names, zone, "web", "AAAA")) == {"fd00:1::3"}


def test_an_address_is_looked_for_on_each_network_until_there_is_one_of_its_family() -> None:
    names, zone = project()
    six = NetworkName("six")
    names.open_zone(six, [IPv6Network("fd00::/64")], full_name="p_six")
    for number in range(2):
        four = endpoint(f"10.0.0.{number + 2}", "web", f"p-web-{number}")
        other = replace(four, network=six, addresses=(Address(f"fd00::{number + 2}", 64, "fd00::1"),))
        names.claim(ContainerId(f"p-web-{number}"), [four, other])
        names.publish(ContainerId(f"p-web-{number}"), [four, other])

    def asked(name: str, kind: str) -> set[str]:
        answer = answer_to(names, zone, DNSRecord.question(name, kind).pack(), "10.0.0.2")
        assert isinstance(answer, bytes)
        assert DNSRecord.parse(answer).header.rcode == RCODE.NOERROR
        return found(DNSRecord.parse(answer))

    assert asked("web", "A") == {"10.0.0.2", "10.0.0.3"}
    assert asked("web", "AAAA") == {"fd00::2", "fd00::3"}
    assert asked("web.default", "AAAA") == set()
    assert asked("web.six", "AAAA") == {"fd00::2", "fd00::3"}
    assert asked("web.six", "A") == set()


def test_addresses_of_both_families_lead_back_to_their_container() -> None:
    names, zone = dual()
    for address in ("10.0.0.3", "fd00:1::3"):
        assert found(ask(names, zone, ip_address(address).reverse_pointer, "PTR")) == {"p-web-2."}
    assert ask(names, zone, ip_address("fd00:1::99").reverse_pointer, "PTR").header.rcode == RCODE.NXDOMAIN
    outside = DNSRecord.question(ip_address("2001:db8::1").reverse_pointer, "PTR").pack()
    assert answer_to(names, zone, outside, "10.0.0.2") is Elsewhere.FORWARD
    for wrong in ("1.ip6.arpa", "ip6.arpa", "xy." * 32 + "ip6.arpa", "g." * 32 + "ip6.arpa"):
        assert answer_to(names, zone, DNSRecord.question(wrong, "PTR").pack()) is Elsewhere.FORWARD


def test_a_name_may_say_its_network() -> None:
    names, zone = dual()
    back = names.open_zone(NetworkName("back"), [IPv4Network("10.2.0.0/20")], full_name="p_back")
    place = replace(endpoint("10.2.0.2", "db", "a.b"), network=NetworkName("back"))
    names.claim(ContainerId("p-db-1"), [place])
    names.publish(ContainerId("p-db-1"), [place])
    for name in ("web.default", "WEB.p_default", "p-web-1.default"):
        assert ask(names, zone, name).header.rcode == RCODE.NOERROR
        assert found(ask(names, zone, name))
    for name in ("db.back", "a.b", "a.b.p_back"):
        assert found(ask(names, back, name)) == {"10.2.0.2"}
        # Not seen from elsewhere, and never asked outside.
        assert ask(names, zone, name).header.rcode == RCODE.NXDOMAIN
    for name in ("web.back.example.org", "example.default", "web.other"):
        assert answer_to(names, zone, DNSRecord.question(name).pack()) is Elsewhere.FORWARD


def test_this_machine_has_the_name_that_docker_desktop_gives_it() -> None:
    names, zone = dual()

    def from_inside(kind: str) -> set[str]:
        answer = answer_to(names, zone, DNSRecord.question("host.docker.internal", kind).pack(), "10.0.0.2")
        assert isinstance(answer, bytes)
        return found(DNSRecord.parse(answer))

    assert (from_inside("A"), from_inside("AAAA"), from_inside("MX")) == ({"10.0.0.1"}, {"fd00:1::1"}, set())
    own = endpoint("10.0.0.9", "host.docker.internal")
    names.claim(ContainerId("own"), [own])
    names.publish(ContainerId("own"), [own])
    assert from_inside("A") == {"10.0.0.9"}


def test_the_option_record_comes_back_and_an_unknown_version_is_refused() -> None:
    names, zone = project()
    for version, rcode in ((0, 0), (1, 1)):
        message = DNSRecord.question("web")
        message.add_ar(EDNS0(udp_len=4096, version=version, flags="do"))
        answer = answer_to(names, zone, message.pack())
        assert isinstance(answer, bytes)
        (option,) = DNSRecord.parse(answer).ar
        assert (option.rtype, option.rclass, option.edns_do, option.edns_rcode) == (QTYPE.OPT, 1232, 1, rcode)
    assert ask(names, zone, "web").ar == []


def test_what_is_truncated_holds_as_much_as_fits() -> None:
    names, zone = project(60)
    for size, most in ((512, 512), (0, 512), (700, 700)):
        message = DNSRecord.question("web")
        message.add_ar(EDNS0(udp_len=size))
        answer = answer_to(names, zone, message.pack())
        assert isinstance(answer, bytes)
        assert most - 16 < len(answer) <= most
        reply = DNSRecord.parse(answer)
        assert (reply.header.tc, len(reply.rr), len(reply.ar)) == (1, (most - 12 - 9 - 11) // 16, 1)


def test_names_of_containers_that_are_taken_over_are_waited_for() -> None:
    clock = Clock()
    names = ProjectNames(clock)
    zone = names.open_zone(NET, [IPv4Network("10.0.0.0/20")])
    message, other = DNSRecord.question("web").pack(), DNSRecord.question("example.org").pack()
    # Nothing is known yet: neither who asks nor what for.
    assert answer_to(names, zone, message, "10.0.0.3") is Elsewhere.LATER
    for container in (ContainerId("p-web-1"), ContainerId("p-db-1")):
        names.claim(container, [endpoint("10.0.0.2", "web" if "web" in container else "db")])
        names.expect(container)
    names.publish(ContainerId("p-db-1"), [endpoint("10.0.0.3", "db")])
    assert answer_to(names, zone, message, "10.0.0.3") is Elsewhere.LATER
    assert answer_to(names, zone, other, "10.0.0.3") is Elsewhere.FORWARD
    assert answer_to(names, zone, other, "10.0.0.2") is Elsewhere.LATER
    names.publish(ContainerId("p-web-1"), [endpoint("10.0.0.2", "web")])
    assert isinstance(answer_to(names, zone, message, "10.0.0.3"), bytes)
    names.withdraw(ContainerId("p-web-1"))
    assert isinstance(answer_to(names, zone, message, "10.0.0.3"), bytes)
    names.expect(ContainerId("p-web-1"))
    clock.now_s += 4
    gone = answer_to(names, zone, message, "10.0.0.3")
    assert isinstance(gone, bytes)
    assert DNSRecord.parse(gone).header.rcode == RCODE.NXDOMAIN
    assert answer_to(names, zone, other, "10.0.0.2") is Elsewhere.FORWARD


def test_a_dot_inside_of_a_label_is_not_one_between_two() -> None:
    names, zone = project()
    place = endpoint("10.0.0.9", "a.b")
    names.claim(ContainerId("own"), [place])
    names.publish(ContainerId("own"), [place])
    head = DNSRecord.question("x").pack()[:12]
    assert isinstance(answer_to(names, zone, head + b"\1a\1b\0\0\1\0\1"), bytes)
    assert answer_to(names, zone, head + b"\3a.b\0\0\1\0\1") is Elsewhere.FORWARD


@pytest.mark.parametrize("length", [0, 1, 62, 63])
@pytest.mark.parametrize("count", [1, 3, 4, 127])
def test_names_of_every_length_are_read_or_ignored(length: int, count: int) -> None:
    names, zone = project()
    question = (bytes([length]) + b"x" * length) * count + b"\0\0\1\0\1"
    answer = answer_to(names, zone, DNSRecord.question("x").pack()[:12] + question)
    legal = length == 0 or (length + 1) * count + 1 <= 255
    assert answer is (Elsewhere.FORWARD if legal else Elsewhere.IGNORE)
