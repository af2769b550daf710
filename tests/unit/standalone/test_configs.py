"""Configs that are none: one error each, that names the place. Before anything is made."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.errors import InputError
from orchestrator.standalone.configs import check_config, complete_mappings, parse_config
from orchestrator.standalone.default_config import default_config

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a version that is none": (
        {"ociVersion": "one"},
        "ociVersion",
    ),
    "a version of another world": (
        {"ociVersion": "2.0.0"},
        "is not supported",
    ),
    "no arguments": (
        {"process": {"args": [], "cwd": "/"}},
        "process.args is empty",
    ),
    "a working directory that is relative": (
        {"process": {"args": ["true"], "cwd": "tmp"}},
        "is not an absolute path",
    ),
    "an unknown limit": (
        {"process": {"args": ["true"], "cwd": "/", "rlimits": [{"type": "RLIMIT_X", "soft": 1, "hard": 1}]}},
        "there is no resource limit RLIMIT_X",
    ),
    "a limit twice": (
        {"process": {"args": ["true"], "cwd": "/", "rlimits": [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}] * 2}},
        "is there already",
    ),
    "a root that is not said": (
        {"root": {}},
        "root.path is missing",
    ),
    "a namespace twice": (
        {"linux": {"namespaces": [{"type": "mount"}, {"type": "mount"}]}},
        "is there already",
    ),
    "an unknown namespace": (
        {"linux": {"namespaces": [{"type": "mount"}, {"type": "x"}]}},
        "is not a namespace",
    ),
    "a host name without a namespace for it": (
        {"hostname": "x", "linux": {"namespaces": [{"type": "mount"}]}},
        "hostname needs a uts namespace",
    ),
    "a sysctl of the machine": (
        {"linux": {"namespaces": [{"type": "mount"}], "sysctl": {"kernel.pid_max": "9"}}},
        "kernel.pid_max",
    ),
    "a sysctl of the network of the host": (
        {"hostname": "", "linux": {"namespaces": [{"type": "mount"}], "sysctl": {"net.ipv4.ip_forward": "1"}}},
        "the container has no network namespace",
    ),
    "mappings without a user namespace": (
        {"linux": {"namespaces": [{"type": "mount"}], "uidMappings": [{"containerID": 0, "hostID": 0, "size": 1}]}},
        "need a user namespace",
    ),
    "mappings of users alone": (
        {"linux": {"namespaces": [{"type": "mount"}, {"type": "user"}], "uidMappings": [{"containerID": 0}]}},
        "needs both uidMappings and gidMappings",
    ),
    "nodes that are no text": ({"linux": {"namespaces": [{"type": "mount"}], "memoryPolicy": {"nodes": 1}}}, "nodes"),
    "a mount option of the wrong kind": (
        {"mounts": [{"destination": "/x", "type": "tmpfs", "options": "ro"}]},
        "is not a list",
    ),
    "a hook that is relative": (
        {"hooks": {"poststop": [{"path": "true"}]}},
        "is not an absolute path",
    ),
    "a cache of a processor": (
        {"hostname": "", "linux": {"namespaces": [{"type": "mount"}], "intelRdt": {"closID": "x"}}},
        "intelRdt",
    ),
    "a NUL character": ({"hostname": "a\0b"}, "NUL"),
}


@pytest.mark.parametrize("mistake", BAD)
def test_a_mistake_is_one_error_with_its_place(mistake: str) -> None:
    changes, words = BAD[mistake]
    with pytest.raises(InputError) as caught:
        check_config(default_config(rootless=False) | changes)
    assert words in str(caught.value)


@pytest.mark.parametrize("rootless", [True, False])
def test_what_spec_writes_is_right(rootless: bool) -> None:
    check_config(default_config(rootless=rootless))


def test_what_is_null_is_as_if_it_were_not_there() -> None:
    check_config(default_config(rootless=False) | {"hooks": None, "mounts": None, "annotations": None})


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"[" * 100_000, b"{" + b" " * (17 << 20) + b"}"])
def test_what_is_no_json_object_is_named(data: bytes) -> None:
    with pytest.raises(InputError, match="the config FILE"):
        parse_config(data, "FILE")


def test_versions_of_the_spec_up_to_1_3_are_read() -> None:
    for version in ("1.0.0", "1.0.2-dev", "1.1.0+dev", "1.2.1", "1.3.0"):
        check_config(json.loads(json.dumps(default_config(rootless=False) | {"ociVersion": version})))


def test_a_new_user_namespace_without_mappings_is_the_callers_alone() -> None:
    config: dict[str, Any] = {"linux": {"namespaces": [{"type": "user"}]}}
    complete_mappings(config, 5, 6)
    assert config["linux"]["uidMappings"] == [{"containerID": 0, "hostID": 5, "size": 1}]
    assert config["linux"]["gidMappings"] == [{"containerID": 0, "hostID": 6, "size": 1}]
    for linux in ({"namespaces": [{"type": "user", "path": "/x"}]}, {"namespaces": [{"type": "pid"}]}, {}):
        config = {"linux": dict(linux)}
        complete_mappings(config, 5, 6)
        assert config == {"linux": linux}
