"""``pystack network ...`` on a real data directory, without a supervisor."""

from __future__ import annotations

import json
import os
import time
from datetime import datetime

import pytest

from orchestrator.contracts.network import Address, Endpoint
from orchestrator.contracts.state import ContainerRecord, Definition, ProjectRecord
from orchestrator.model.names import ContainerId, Instance, NetworkName, ProjectName, ServiceName
from orchestrator.model.network import Network, Subnet
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.model.subnets import parse_range
from orchestrator.network.record import Recorded, SubnetRecord
from orchestrator.state.directory import site_of
from orchestrator.state.preparation import prepare
from orchestrator.state.records import FileState
from orchestrator.values import replace
from tests.unit.cli.conftest import Bench

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the kernel is asked for its subnets")


def stack(bench: Bench, project: str = "demo", *, shared: str = "", made: bool = True) -> None:
    """A project with a container on its own network, and on `shared`. `made` False: its record was written before that."""
    site = prepare(site_of(str(bench.root / "data"), str(bench.root / "run"), ProjectName(project)))
    own = Network(NetworkName("default"), f"{project}_default", labels=(("tier", "one"),))
    networks = {own.key: own}
    ends = [Endpoint(own.key, (Address("10.1.0.2", 20, "10.1.0.1"),), "02:70:0a:01:00:02", "eth0")]
    if shared:
        far = Network(NetworkName("far"), shared, external=True)
        networks[far.key] = far
        ends.append(Endpoint(far.key, (Address("10.2.0.2", 20, "10.2.0.1"),), "02:70:0a:02:00:02", "eth1"))
    service = Service(ServiceName("db"), "host")
    container = ContainerRecord(
        ContainerId(f"{project}-db-1"), Instance(service.name), Definition(service), endpoints=tuple(ends)
    )
    stack = Project(ProjectName(project), "/srv", {service.name: service}, networks=networks)
    FileState(site).commit(ProjectRecord(stack, (container,), tuple(networks.values()) if made else ()))


def names(bench: Bench, *words: str) -> list[str]:
    outcome = bench.run("network", "ls", "--format", "{{.Name}}", *words)
    assert (outcome.code, outcome.err) == (0, "")
    return outcome.out.split()


def test_a_network_is_made_listed_inspected_and_removed(bench: Bench) -> None:
    assert names(bench) == []
    made = bench.run("network", "create", "shared", "--label", "a=b", "--internal", "--attachable")
    identity = made.out.strip()
    assert (made.code, len(identity)) == (0, 64)
    assert bench.run("network", "ls").out == (
        f"NETWORK ID     NAME     DRIVER   SCOPE\n{identity[:12]}   shared   bridge   local\n"
    )
    assert bench.run("network", "ls", "-q", "--no-trunc").out.strip() == identity
    (value,) = json.loads(bench.run("network", "inspect", identity[:5]).out)
    assert (value["Name"], value["Id"], value["Driver"], value["Labels"]) == ("shared", identity, "bridge", {"a": "b"})
    assert (value["Internal"], value["Attachable"], value["EnableIPv6"], value["Containers"]) == (True, True, False, {})
    assert value["IPAM"]["Config"][0]["Subnet"].endswith("/20")
    assert bench.run("network", "rm", identity).out == "shared\n"
    assert names(bench) == []
    assert not (bench.root / "data" / "networks").exists()


@pytest.mark.parametrize("made", [True, False])
def test_a_projects_own_network_is_listed_from_its_first_up(bench: Bench, made: bool) -> None:
    stack(bench, made=made)
    assert names(bench) == ["demo_default"]
    refused = bench.run("network", "rm", "demo_default")
    assert (refused.code, "demo" in refused.err) == (1, True)


def test_what_is_said_of_its_addresses_is_kept(bench: Bench) -> None:
    words = "--subnet 10.9.0.0/24 --gateway 10.9.0.7 --ip-range 10.9.0.64/26 --aux-address router=10.9.0.9"
    more = "--subnet fd00:9::/64 -o com.docker.network.driver.mtu=1400"
    assert bench.run("network", "create", "x", *words.split(), *more.split()).code == 0
    (value,) = json.loads(bench.run("network", "inspect", "x").out)
    assert value["IPAM"]["Config"] == [
        {
            "Subnet": "10.9.0.0/24",
            "Gateway": "10.9.0.7",
            "IPRange": "10.9.0.64/26",
            "AuxiliaryAddresses": {"router": "10.9.0.9"},
        },
        {"Subnet": "fd00:9::/64", "Gateway": "fd00:9::1"},
    ]
    assert value["Options"] == {"com.docker.network.driver.mtu": "1400"}
    assert value["EnableIPv6"] is True


def test_two_networks_have_different_ranges_before_either_is_in_the_kernel(bench: Bench) -> None:
    bench.run("network", "create", "one", "--ipv6")
    bench.run("network", "create", "two", "--ipv6")
    one, two = json.loads(bench.run("network", "inspect", "one", "two").out)
    ranges = [item["Subnet"] for value in (one, two) for item in value["IPAM"]["Config"]]
    assert len(set(ranges)) == 4
    outcome = bench.run("network", "create", "three", "--subnet", ranges[0])
    assert (outcome.code, f"{ranges[0]} overlaps {ranges[0]}" in outcome.err) == (1, True)


def test_networks_of_projects_are_listed_and_only_go_with_them(bench: Bench) -> None:
    stack(bench)
    stack(bench, "other", shared="shared")
    bench.run("network", "create", "shared")
    assert names(bench) == ["demo_default", "other_default", "shared"]
    assert names(bench, "--filter", "name=default", "--filter", "label=com.docker.compose.project=demo") == ["demo_default"]
    assert names(bench, "--filter", "label=tier=one", "--filter", "name=other") == ["other_default"]
    assert names(bench, "--filter", "driver=overlay") == []
    (value,) = json.loads(bench.run("network", "inspect", "demo_default").out)
    assert (value["Project"], list(value["Containers"])) == ("demo", ["demo/demo-db-1"])
    outcome = bench.run("network", "rm", "demo_default")
    assert (outcome.code, outcome.err) == (
        1,
        "error: network \"demo_default\" is project demo's own\n"
        "hint: it goes with the project: pystack -p demo down\n",
    )
    outcome = bench.run("network", "create", "demo_default")
    assert 'project demo has a network of its own called "demo_default"' in outcome.err


def test_what_containers_are_on_is_not_removed_and_they_are_named(bench: Bench) -> None:
    stack(bench, shared="shared")
    stack(bench, "other", shared="shared")
    bench.run("network", "create", "shared")
    bench.run("network", "create", "free")
    assert names(bench, "--filter", "dangling=true") == ["free"]
    (value,) = json.loads(bench.run("network", "inspect", "shared").out)
    assert value["Containers"]["other/other-db-1"] == {
        "Name": "other-db-1",
        "MacAddress": "02:70:0a:02:00:02",
        "IPv4Address": "10.2.0.2/20",
        "IPv6Address": "",
        "Project": "other",
    }
    outcome = bench.run("network", "rm", "free", "shared")
    assert outcome.code == 1
    assert outcome.err == (
        'error: network "shared" is in use by containers demo-db-1 of project demo, other-db-1 of project other\n'
        "hint: remove what uses it first: pystack -p demo down\n"
    )
    assert bench.run("network", "prune", "-f").out == "Deleted Networks:\nfree\n"
    assert names(bench, "--filter", "name=shared") == ["shared"]


@pytest.mark.parametrize("verb", [("rm", "free"), ("prune", "-f")])
def test_nothing_is_removed_while_the_records_of_a_project_are_damaged(bench: Bench, verb: tuple[str, ...]) -> None:
    stack(bench)
    bench.run("network", "create", "free")
    directory = bench.root / "data" / "projects" / "demo"
    for name in ("wanted.json", "wanted.json.copy"):
        (directory / name).write_bytes(b"\0" * 100)
    outcome = bench.run("network", *verb)
    assert outcome.code == 1
    assert "what project demo uses is not known" in outcome.err
    assert names(bench) == ["free"]


def test_a_network_whose_record_is_damaged_is_listed_and_can_be_removed(bench: Bench) -> None:
    bench.run("network", "create", "free")
    (bench.root / "data" / "networks" / "free" / "network.json").write_bytes(b"\0" * 100)
    assert bench.run("network", "prune", "-f", "--filter", "until=0s").out == "", "nobody knows since when it is there"
    assert names(bench) == ["free"]
    assert bench.run("network", "rm", "free").out == "free\n"
    assert names(bench) == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("create", "../x"), 2, '"../x" is not a network name'),
        (("create", "é"), 2, '"é" is not a network name'),
        (("create", "host"), 2, "is not a name for a network of your own"),
        (("create", "shared"), 1, 'there is a network "shared" already'),
        (("create", "a", "--driver", "overlay"), 2, "'overlay' is not"),
        (("create", "a", "--subnet", "10.1.2.3/24"), 2, "--subnet: "),
        (("create", "a", "--subnet", "10.1.0.0/24", "--subnet", "10.2.0.0/24"), 2, "there is an IPv4 subnet already"),
        (("create", "a", "--gateway", "10.1.2.3"), 2, "--gateway: 10.1.2.3 needs a --subnet"),
        (("create", "a", "--subnet", "10.1.0.0/24", "--gateway", "10.2.0.1"), 2, "--gateway: 10.2.0.1 is not an address"),
        (("create", "a", "--aux-address", "x"), 2, '"x" is not KEY=VALUE'),
        (("create", "a", "--opt", "nosuch=1"), 2, '--opt nosuch: there is no option "nosuch" here'),
        (("create", "a", "--label", "=x"), 2, "a label needs a key"),
        (("inspect", "shraed"), 1, 'there is no network "shraed" (did you mean "shared"?)'),
        (("ls", "--filter", "status=x"), 2, '"status=x" is no filter'),
        (("rm", "nosuch"), 1, 'there is no network "nosuch"'),
        (("prune",), 2, "-f does not ask"),
    ],
)
def test_what_is_wrong_is_one_error(bench: Bench, words: tuple[str, ...], code: int, said: str) -> None:
    bench.run("network", "create", "shared")
    outcome = bench.run("network", *words)
    assert outcome.code == code
    assert outcome.err.count("error: ") == 1
    assert said in outcome.err
    assert names(bench) == ["shared"]


def test_removing_with_force_says_nothing_of_what_is_not_there(bench: Bench) -> None:
    bench.run("network", "create", "a")
    outcome = bench.run("network", "rm", "-f", "a", "nosuch")
    assert (outcome.code, outcome.out, outcome.err) == (0, "a\n", "")


def test_filters_of_docker_s_that_every_network_here_answers_alike(bench: Bench) -> None:
    bench.run("network", "create", "meeting")
    for wanted, found in (
        ("scope=local", ["meeting"]), ("scope=swarm", []), ("type=custom", ["meeting"]), ("type=builtin", []),
    ):  # fmt: skip
        assert names(bench, "--filter", wanted) == found, wanted
    refused = bench.run("network", "ls", "--filter", "type=mine")
    assert (refused.code, "type is custom or builtin" in refused.err) == (2, True)
    assert bench.run("network", "prune", "-f", "--filter", "until=1h").out == ""
    assert bench.run("network", "prune", "-f", "--filter", "until=0s").out == "Deleted Networks:\nmeeting\n"


def test_a_project_s_own_network_says_when_it_was_made_and_whose_the_reserved_addresses_are(bench: Bench) -> None:
    stack(bench)
    site = site_of(str(bench.root / "data"), str(bench.root / "run"), ProjectName("demo"))
    written = Subnet("10.1.0.0/20", None, None, ("10.1.0.9",), ("router",))
    record = FileState(site).load()
    assert record is not None
    own = replace(record.networks[0], subnets=(written,))
    FileState(site).commit(replace(record, networks=(own,)))
    SubnetRecord(site.data_dir).set(own.key, Recorded((parse_range(written),)))
    (value,) = json.loads(bench.run("network", "inspect", "demo_default").out)
    assert abs(datetime.fromisoformat(value["Created"]).timestamp() - time.time()) < 60
    assert value["IPAM"]["Config"][0]["AuxiliaryAddresses"] == {"router": "10.1.0.9"}
