"""The record of subnets on disk."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from orchestrator.errors import OperationError
from orchestrator.model.names import NetworkName
from orchestrator.model.subnets import AddressRange
from orchestrator.network.discovery import Route, conflicts
from orchestrator.network.record import VERSION, Recorded, SubnetRecord, upgrade

NET = NetworkName("default")
DATA = Path(__file__).resolve().parents[2] / "data"
SUBNET = AddressRange(IPv4Network("10.1.0.0/20"), IPv4Address("10.1.0.1"), chosen=True)
ENTRY = Recorded((SUBNET,), internal=True, bridge="psb0123abcd4567", resolver="10.1.15.254")


def test_what_is_recorded_is_read_again_and_the_last_to_go_takes_the_file(tmp_path: Path) -> None:
    record = SubnetRecord(str(tmp_path / "project"))
    record.forget(NET)
    assert list(tmp_path.iterdir()) == []
    record.set(NET, ENTRY)
    assert SubnetRecord(str(tmp_path / "project")).networks == {NET: ENTRY}
    assert (tmp_path / "project/networks.json").stat().st_mode & 0o777 == 0o600
    record.forget(NET)
    assert list((tmp_path / "project").iterdir()) == []


def test_a_file_of_version_1_is_read_and_written_again_as_this_one(tmp_path: Path) -> None:
    """A copy of what the code of version 1 wrote; one network is called "version", to be mean."""
    (tmp_path / "networks.json").write_bytes((DATA / "v1/networks.json").read_bytes())
    record = SubnetRecord(str(tmp_path))
    before = dict(record.networks)
    back = AddressRange(IPv4Network("10.9.1.0/24"), IPv4Address("10.9.1.254"), chosen=True)
    assert before[NetworkName("back")] == Recorded((back,), internal=True)
    assert set(before) == {"back", "default", "version"}
    record.set(NET, ENTRY)
    assert json.loads((tmp_path / "networks.json").read_text())["version"] == VERSION
    assert SubnetRecord(str(tmp_path)).networks == before | {NET: ENTRY}


def test_a_file_of_version_3_says_that_the_name_server_is_at_the_gateway(tmp_path: Path) -> None:
    entry = '{"subnets": [{"subnet": "10.1.0.0/20", "gateway": "10.1.0.1", "chosen": true}], "internal": true}'
    (tmp_path / "networks.json").write_text(f'{{"version": 3, "networks": {{"default": {entry}}}}}')
    assert SubnetRecord(str(tmp_path)).networks == {NET: Recorded((SUBNET,), internal=True)}


def test_an_upgrade_leaves_its_argument_as_it_is_and_refuses_versions_that_it_does_not_know() -> None:
    text = (DATA / "v1/networks.json").read_text()
    data = json.loads(text)
    assert upgrade(data, 1)["version"] == VERSION
    assert data == json.loads(text)
    assert upgrade(upgrade(data, 1), VERSION) == upgrade(data, 1)
    for unknown in (0, VERSION + 1):
        with pytest.raises(ValueError, match=f"version {unknown}, and this pystack knows"):
            upgrade(data, unknown)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"default": 3}',
        '{"default": {"subnet": "x", "gateway": "y"}}',
        '{"version": 2}',
        '{"version": 3, "networks": {"default": {"subnets": []}}}',
        '{"version": 2, "networks": {"default": {"subnets": []}}}',
        '{"version": 4, "networks": {"a": {"subnets": [{"subnet": "10.1.0.0/20", "gateway": "10.1.0.1"}], "resolver": 5}}}',
    ],
)
def test_a_damaged_record_is_kept_aside_and_told_and_keeps_nobody_out(tmp_path: Path, text: str) -> None:
    (tmp_path / "networks.json").write_text(text)
    record = SubnetRecord(str(tmp_path))
    assert record.networks == {}
    (finding,) = record.findings
    assert finding.file == str(tmp_path / "networks.json")
    assert (tmp_path / "networks.json.damaged-1").read_text() == text
    assert SubnetRecord(str(tmp_path)).findings == ()


def test_a_record_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "networks.json").write_text(f'{{"version": {VERSION + 1}, "networks": {{}}}}')
    with pytest.raises(OperationError, match=r"networks\.json is of version 5"):
        SubnetRecord(str(tmp_path))
    assert (tmp_path / "networks.json").exists()


def test_conflicts_are_told_once_and_not_with_a_bridges_own_route() -> None:
    def route(network: str, interface: str) -> Route:
        return Route(IPv4Network(network), interface, 254)

    ours, twin, vpn = route("10.1.0.0/20", "psb1"), route("10.1.0.0/20", "psb2"), route("10.0.0.0/8", "tun0")
    found = conflicts([ours, twin, vpn, route("192.168.0.0/16", "eth0")])
    assert [(c.bridge, c.other.interface) for c in found] == [("psb1", "psb2"), ("psb1", "tun0"), ("psb2", "tun0")]
    assert str(found[1]) == "psb1: 10.1.0.0/20 overlaps the route to 10.0.0.0/8 by tun0 (table 254)"
