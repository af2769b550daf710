"""Shares of the addresses of a shared network, and what projects tell each other of their names there."""

from __future__ import annotations

import itertools
import os
from ipaddress import ip_address
from pathlib import Path

import pytest

from orchestrator.errors import OperationError
from orchestrator.model.names import ContainerId, NetworkName
from orchestrator.model.network import Attachment, Subnet
from orchestrator.model.subnets import IPAddress
from orchestrator.network.addressing import AddressBooks
from orchestrator.network.shared_addresses import AddressShare, shares_of
from orchestrator.network.shared_files import SharedFiles, SharedNetwork
from orchestrator.network.shared_names import Named, Neighbours, forget_gone, read_names, write_names


class Place:
    """A data directory with one network, and projects."""

    def __init__(self, root: Path, *subnets: str) -> None:
        self.root = root
        self.files = SharedFiles(str(root))
        written = tuple(Subnet(text) for text in subnets or ("10.9.0.0/24",))
        self.files.make(SharedNetwork("n", "0", written))

    def share(self, project: str, written: tuple[str, ...] = (), used: tuple[IPAddress, ...] = ()) -> AddressShare:
        (self.root / "projects" / project).mkdir(parents=True, exist_ok=True)
        network = self.files.read("n")
        assert network is not None
        share = AddressShare(self.files, "n", project, network.ranges)
        with self.files.held("n"):
            share.provide(used, map(ip_address, written))
        return share

    def books(self, share: AddressShare) -> AddressBooks:
        network = self.files.read("n")
        assert network is not None
        return AddressBooks.of(NetworkName("n"), network.ranges, frozenset(), str(share.server), share)


def take(books: AddressBooks, *names: str) -> list[str]:
    return [books.take(ContainerId(name), Attachment(NetworkName("n")))[0].ip for name in names]


def test_projects_never_give_out_the_same_address(tmp_path: Path) -> None:
    place = Place(tmp_path, "10.9.0.0/24", "fd00:9::/64")
    shares = [place.share(name) for name in "abc"]
    servers = [share.server for share in shares]
    given = [take(place.books(share), *(f"c{number}" for number in range(50))) for share in shares]
    every = [*itertools.chain(*given), *map(str, servers)]
    assert len(set(every)) == len(every) == 153
    assert "10.9.0.1" not in every


def test_a_share_outlives_the_supervisor_and_goes_with_the_project(tmp_path: Path) -> None:
    place = Place(tmp_path)
    before = place.share("a")
    again = place.share("a")
    assert (again.server, again.addresses(4)) == (before.server, before.addresses(4))
    with place.files.held("n"):
        again.give_back()
    assert place.share("b").addresses(4) == before.addresses(4)
    os.rmdir(tmp_path / "projects" / "b")
    assert shares_of(place.files, "n") is not None
    assert place.share("c").addresses(4) == before.addresses(4)


def test_an_address_that_a_stack_writes_down_is_its_own_if_nobody_has_it(tmp_path: Path) -> None:
    place = Place(tmp_path)
    first, second = place.share("a", ("10.9.0.200",)), place.share("b")
    wanted = Attachment(NetworkName("n"), ipv4_address="10.9.0.200")
    assert place.books(first).take(ContainerId("c"), wanted)[0].ip == "10.9.0.200"
    with pytest.raises(OperationError, match=r'address 10\.9\.0\.200 on network "n" is one of project a'):
        place.books(second).take(ContainerId("c"), wanted)
    free = Attachment(NetworkName("n"), ipv4_address="10.9.0.201")
    assert place.books(second).take(ContainerId("c"), free)[0].ip == "10.9.0.201"
    with pytest.raises(OperationError, match="one of project b"):
        place.books(first).take(ContainerId("d"), free)


def test_a_small_network_is_used_to_the_last_address_and_then_it_says_who_has_them(tmp_path: Path) -> None:
    place = Place(tmp_path, "10.9.0.0/29")
    one, two = place.books(place.share("a")), place.books(place.share("b"))
    given = take(one, "x") + take(two, "y") + take(one, "z")
    assert len({*given, one.resolver, two.resolver}) == 5
    with pytest.raises(OperationError) as failed:
        take(one, "more")
    assert str(failed.value) == 'no free address on network "n" (10.9.0.0/29): project a has 3, project b has 2'
    with pytest.raises(OperationError, match="no free address"):
        place.share("c")


def test_damaged_shares_are_kept_aside_and_what_runs_keeps_its_addresses(tmp_path: Path) -> None:
    place = Place(tmp_path)
    share = place.share("a")
    books = place.books(share)
    (address,) = take(books, "x")
    (tmp_path / "networks" / "n" / "addresses.json").write_bytes(b"\0" * 50)
    with place.files.held("n"):
        share.provide([ip_address(address)])
    assert ip_address(address) in share.addresses(4)
    assert (tmp_path / "networks" / "n" / "addresses.json.damaged-1").exists()
    other = place.books(place.share("b"))
    assert set(take(other, "x", "y", "z")).isdisjoint(map(str, share.addresses(4)))


def named(container: str, *addresses: str, veth: str = "lo", ready: bool = True) -> Named:
    return Named(ContainerId(container), veth, addresses, (container, "web"), ready)


def told(neighbours: Neighbours, name: str) -> list[str]:
    return sorted(map(str, neighbours.zone.addresses(name)))


def test_a_project_knows_what_others_tell_and_not_what_it_tells_itself(tmp_path: Path) -> None:
    directory, clock = str(tmp_path / "names"), [0.0]
    neighbours = Neighbours(directory, "a", (), lambda: clock[0])
    neighbours.look()
    write_names(directory, "a", [named("a-web-1", "10.9.0.2")])
    write_names(directory, "b", [named("b-web-1", "10.9.0.3"), named("b-web-2", "10.9.0.4", ready=False)])
    assert neighbours.look()
    assert told(neighbours, "web") == ["10.9.0.3"]
    assert told(neighbours, "b-web-2") == ["10.9.0.4"]
    assert told(neighbours, "a-web-1") == []
    assert not neighbours.look()
    write_names(directory, "b", [named("b-web-2", "10.9.0.4")])
    assert neighbours.look()
    assert told(neighbours, "web") == ["10.9.0.4"]
    write_names(directory, "b", [])
    assert neighbours.look()
    assert told(neighbours, "web") == []


def test_containers_of_two_projects_that_are_called_alike_are_two(tmp_path: Path) -> None:
    directory = str(tmp_path / "names")
    for project, address in (("b", "10.9.0.3"), ("c", "10.9.0.4")):
        write_names(directory, project, [named("same", address)])
    neighbours = Neighbours(directory, "a", ())
    neighbours.look()
    assert told(neighbours, "same") == ["10.9.0.3", "10.9.0.4"]
    holder = neighbours.zone.holder("10.9.0.3")
    assert holder is not None
    assert neighbours.zone.name_of(holder) == "same"


def test_a_container_counts_while_its_interface_is_there(tmp_path: Path) -> None:
    directory = str(tmp_path / "names")
    write_names(directory, "b", [named("gone", "10.9.0.3", veth="psvgone"), named("there", "10.9.0.4")])
    neighbours = Neighbours(directory, "a", ())
    neighbours.look()
    assert told(neighbours, "web") == ["10.9.0.4"]
    assert told(neighbours, "gone") == []


def test_a_file_that_is_damaged_or_of_a_project_that_is_gone_says_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "names"
    write_names(str(directory), "b", [named("x", "10.9.0.3")])
    (directory / "c.json").write_bytes(b"{}")
    neighbours = Neighbours(str(directory), "a", ())
    neighbours.look()
    assert told(neighbours, "x") == ["10.9.0.3"]
    (tmp_path / "projects" / "c").mkdir(parents=True)
    forget_gone(str(directory), str(tmp_path / "projects"))
    assert sorted(os.listdir(directory)) == ["c.json"]
    assert read_names(str(directory / "c.json")) == ()
