"""The configuration of a committed image, and what a writable layer's entry is to the container."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from orchestrator.build.export import as_seen_inside
from orchestrator.build.snapshot import config_as_made
from orchestrator.contracts.site import IdMap
from orchestrator.images.unpack.entries import Entry, Kind
from orchestrator.model.health import HealthCheck
from orchestrator.model.names import ServiceName
from orchestrator.model.network import PortMapping
from orchestrator.model.service import Service
from orchestrator.values import replace

SERVICE = Service(ServiceName("app"), "app:1")
IMAGE = {
    "Entrypoint": ["/entry"],
    "Cmd": ["of", "the", "image"],
    "Env": ["PATH=/bin", "KIND=image"],
    "User": "app",
    "WorkingDir": "/srv",
    "Labels": {"maker": "me", "both": "image"},
    "ExposedPorts": {"80/tcp": {}},
    "StopSignal": "SIGUSR1",
    "Volumes": {"/data": {}},
    "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5_000_000_000, "Retries": 2},
}


def test_a_service_that_says_nothing_leaves_the_image_s_configuration() -> None:
    assert config_as_made(IMAGE, SERVICE) == IMAGE


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"command": ("own",)}, {"Cmd": ["own"]}),
        ({"command": ()}, {"Cmd": None}),
        ({"entrypoint": ("own",)}, {"Entrypoint": ["own"], "Cmd": None}),
        ({"entrypoint": ("own",), "command": ("more",)}, {"Entrypoint": ["own"], "Cmd": ["more"]}),
        ({"entrypoint": ()}, {"Entrypoint": None}),
        ({"environment": {"KIND": "own", "NEW": "a=b"}}, {"Env": ["PATH=/bin", "KIND=own", "NEW=a=b"]}),
        ({"user": "0:0", "working_dir": "/x"}, {"User": "0:0", "WorkingDir": "/x"}),
        ({"stop_signal": "SIGINT"}, {"StopSignal": "SIGINT"}),
        ({"labels": {"both": "own", "new": ""}}, {"Labels": {"maker": "me", "both": "own", "new": ""}}),
        (
            {"expose": ("81", "90-91/udp"), "ports": (PortMapping(53, protocol="udp"),)},
            {"ExposedPorts": {"80/tcp": {}, "81/tcp": {}, "90/udp": {}, "91/udp": {}, "53/udp": {}}},
        ),
    ],
)
def test_what_the_stack_says_stands_in_the_image(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    assert config_as_made(IMAGE, replace(SERVICE, **changes)) == {**IMAGE, **expected}


SHELL = HealthCheck(test=("/bin/sh", "-c", "a && b"), shell=True)


@pytest.mark.parametrize(
    ("check", "inherited", "expected"),
    [
        (HealthCheck(disabled=True), IMAGE["Healthcheck"], {"Test": ["NONE"]}),
        (HealthCheck(test=("own", "x"), timeout_s=0.5), {}, {"Test": ["CMD", "own", "x"], "Timeout": 500_000_000}),
        (SHELL, {"Test": ["NONE"]}, {"Test": ["CMD-SHELL", "a && b"]}),
        (
            HealthCheck(retries=4, start_period_s=1.0, start_interval_s=2.0),
            IMAGE["Healthcheck"],
            {
                "Test": ["CMD", "true"], "Interval": 5_000_000_000, "Retries": 4, "StartPeriod": 1_000_000_000,
                "StartInterval": 2_000_000_000,
            },
        ),
    ],
)  # fmt: skip
def test_health_checks_are_merged_number_by_number(check: HealthCheck, inherited: object, expected: object) -> None:
    made = config_as_made({"Healthcheck": inherited}, replace(SERVICE, healthcheck=check))
    assert made == {"Healthcheck": expected}


IDS = IdMap(0x7000_0000)


def test_an_entry_of_a_writable_layer_has_the_container_s_ids() -> None:
    def acl(number: int) -> bytes:
        return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *row) for row in ((1, 6, 2**32 - 1), (2, 4, number)))

    third = struct.pack("<IIIIII", 0x03000001, 1024, 0, 0, 0, IDS.host_base)
    foreign = struct.pack("<IIIIII", 0x03000001, 1024, 0, 0, 0, 7)
    xattrs = {
        b"security.capability": third,
        b"system.posix_acl_access": acl(IDS.host_base + 9),
        b"user.kept": b"x",
    }
    entry = Entry(b"file", Kind.FILE, uid=IDS.host_base, gid=IDS.host_base + 1000, xattrs=xattrs)
    seen = as_seen_inside(entry, IDS)
    assert (seen.uid, seen.gid) == (0, 1000)
    assert seen.xattrs == {
        b"security.capability": struct.pack("<IIIII", 0x02000001, 1024, 0, 0, 0),
        b"system.posix_acl_access": acl(9),
        b"user.kept": b"x",
    }
    assert as_seen_inside(replace(entry, xattrs={b"security.capability": foreign}), IDS).xattrs == {}
    assert as_seen_inside(replace(entry, uid=5), IDS).uid == 5
