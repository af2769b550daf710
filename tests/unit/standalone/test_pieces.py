"""Signals, users, mappings, mount options and paths of groups: what `pystack-oci` makes of words."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import InputError
from orchestrator.kernel import constants as c
from orchestrator.standalone.groups import path_of
from orchestrator.standalone.identities import home_of, identity_of, numbers_of
from orchestrator.standalone.mapping import map_lines, outside
from orchestrator.standalone.mount_options import parse
from orchestrator.standalone.signals import signal_number

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("9", 9),
        ("0", 0),
        ("KILL", 9),
        ("SIGTERM", 15),
        ("usr1", 10),
        ("SIGRTMIN", int(signal.SIGRTMIN)),
        ("RTMAX-1", signal.SIGRTMAX - 1),
    ],
)
def test_signals_have_names_and_numbers(text: str, number: int) -> None:
    assert signal_number(text) == number


@pytest.mark.parametrize("text", ["", "65", "-0", "SIG", "NOTHING", "TERM+1", "RTMAX+9", "-9"])
def test_what_is_no_signal_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="unknown signal"):
        signal_number(text)


def test_a_process_without_capabilities_has_none_and_unknown_ones_are_left_out() -> None:
    warned: list[str] = []
    process = {"args": ["x"], "capabilities": {"permitted": ["CAP_KILL", "CAP_FLY"], "ambient": ["CAP_KILL"]}}
    identity = identity_of(process, {}, warned.append)
    assert (identity.sets, identity.ambient, identity.bounding) == ((0, 1 << 5, 0), 0, frozenset())
    assert warned == ["unknown capability CAP_FLY: left out"]
    assert identity_of({"args": ["x"]}, {}, warned.append).sets == (0, 0, 0)


def test_a_home_is_the_images_or_the_root() -> None:
    passwd = b"root:x:0:0::/root:/bin/sh\nodd:x:7\nbad:x:8:8::relative:/x\nme:x:9:9::/home/me:/x\n"
    assert [home_of(uid, passwd) for uid in (0, 7, 8, 9, 10)] == [b"/root", b"/", b"/", b"/home/me", b"/"]


def test_numbers_are_ranges_and_lists() -> None:
    assert numbers_of("0-2,7", "x") == [0, 1, 2, 7]
    for text in ("a", "3-1", "-1", "1-", "0-999999"):
        with pytest.raises(InputError):
            numbers_of(text, "x")


def test_a_memory_policy_without_nodes_has_none_for_the_kernel_to_read() -> None:
    def policy(given: object) -> object:
        return identity_of({"args": ["x"]}, {"memoryPolicy": given}, lambda _: None).memory_policy

    assert policy(None) is None
    assert policy({"mode": "MPOL_LOCAL"}) == (4, b"", 1)
    assert policy({"mode": "MPOL_BIND", "nodes": "0,65"}) == (2, (1 | 1 << 65).to_bytes(16, "little"), 129)
    for wrong in ({}, {"mode": "BIND"}, {"mode": "MPOL_BIND", "flags": ["x"]}):
        with pytest.raises(InputError, match="memoryPolicy"):
            policy(wrong)


def test_mappings_of_a_mount_are_its_own_or_the_containers() -> None:
    mine = [{"containerID": 0, "hostID": 5, "size": 2}]
    linux = {"linux": {"uidMappings": [{"containerID": 0, "hostID": 100, "size": 10}], "gidMappings": mine}}
    assert map_lines(linux, {"uidMappings": mine, "gidMappings": mine}, "idmap", "x") == ("0 5 2\n", "0 5 2\n")
    assert map_lines(linux, {}, "idmap", "x") == ("0 100 10\n", "0 5 2\n")
    assert map_lines(linux, {}, "idmap=uids=@0-1-3;gids=0-9-1#4-4-1", "x") == ("0 101 3\n", "0 9 1\n4 4 1\n")
    assert outside(linux["linux"]["uidMappings"], 3) == 103
    with pytest.raises(InputError, match="no id 10"):
        outside(linux["linux"]["uidMappings"], 10)
    with pytest.raises(InputError, match="needs mappings"):
        map_lines({}, {}, "idmap", "x")


def test_options_of_the_mount_of_its_tree_and_of_the_file_system_are_apart() -> None:
    options = parse(["rbind", "ro", "rnosuid", "rslave", "size=1m", "sync", "defaults"], "x")
    assert (options.bind, options.recursive, options.propagation) == (True, True, (c.MS_SLAVE, True))
    assert (options.set_, options.tree_set) == (c.MOUNT_ATTR_RDONLY, c.MOUNT_ATTR_NOSUID)
    assert options.data == [(b"size", b"1m"), (b"sync", None)]
    assert parse(["ro", "rw"], "x").set_ == 0
    with pytest.raises(InputError, match="remount"):
        parse(["remount"], "x")


def test_groups_are_where_the_config_says_or_below_ours() -> None:
    def path(given: str) -> str:
        return path_of({"linux": {"cgroupsPath": given}}, "box")

    assert [path(text) for text in ("", "/a/b", "a/b")] == ["pystack-oci/box", "a/b", "pystack-oci/a/b"]
    with pytest.raises(InputError, match="leads out"):
        path("/a/../..")


def test_running_a_container_imports_neither_typing_nor_what_makes_enumerations() -> None:
    """Each of these takes as long as some of the container's own steps."""
    code = "import sys; import orchestrator.standalone.start, orchestrator.standalone.starting; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    heavy = {"typing", "enum", "re", "json", "socket", "signal", "subprocess", "argparse", "trio", "click", "rich"}
    assert heavy & set(found.stdout.split()) == set()
