"""The canonical model: long forms, defaults, names, numbers and sizes as Docker Compose shows them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.compose.stacks import Stack


def test_a_stack_has_a_name_a_default_network_and_nulls_for_what_the_image_decides(stack: Stack) -> None:
    assert stack.canonical("services: {a: {image: i}}") == {
        "name": "shop",
        "networks": {"default": {"name": "shop_default", "ipam": {}}},
        "services": {"a": {"command": None, "entrypoint": None, "image": "i", "networks": {"default": None}}},
    }


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mem_limit: 1.5g", {"mem_limit": "1610612736"}),
        ("memswap_limit: -1", {"memswap_limit": "-1"}),
        ("cpus: '0.5'", {"cpus": 0.5}),
        ("cpus: 1.234567891", {"cpus": 1.2345679}),
        ("stop_grace_period: 1d", {"stop_grace_period": "24h0m0s"}),
        ("stop_grace_period: 1500ms", {"stop_grace_period": "1.5s"}),
        ("init: false", {"init": False}),
        ("tty: false", {}),
        ("privileged: 'yes'", {"privileged": True}),
        ("tmpfs: /t", {"tmpfs": ["/t"]}),
        ("dns: ''", {"dns": []}),
        ("labels: [a=b, c]", {"labels": {"a": "b", "c": ""}}),
        ("labels: {a: 1.0, b: true, c: 1000000.0, d: null}", {"labels": {"a": "1", "b": "true", "c": "1e+06", "d": ""}}),
        ("environment: [A=1, B, C=]", {"environment": {"A": "1", "B": None, "C": ""}}),
        ("environment: {A: 2020-01-01}", {"environment": {"A": "2020-01-01 00:00:00 +0000 UTC"}}),
        (
            "extra_hosts: ['a:1.1.1.1', 'b=[::1]', 'c=1.1.1.1,2.2.2.2']",
            {"extra_hosts": ["a=1.1.1.1", "b=::1", "c=1.1.1.1", "c=2.2.2.2"]},
        ),
        ("gpus: all", {"gpus": [{"count": -1}]}),
        ("ulimits: {nofile: 5, nproc: {soft: 1, hard: 2}}", {"ulimits": {"nofile": 5, "nproc": {"soft": 1, "hard": 2}}}),
        (
            "devices: ['/a', '/b:/c:r']",
            {
                "devices": [
                    {"source": "/a", "target": "/a", "permissions": "rwm"},
                    {"source": "/b", "target": "/c", "permissions": "r"},
                ]
            },
        ),
        ("healthcheck: {test: x, retries: 0}", {"healthcheck": {"test": ["CMD-SHELL", "x"], "retries": 0}}),
        ("depends_on: {}", {}),
        ("deploy: {}", {"deploy": {"resources": {}, "placement": {}}}),
        ("expose: [80, '90/udp']", {"expose": ["80", "90/udp"]}),
        ("x-own: 1", {}),
        ("pull_policy: if_not_present", {"pull_policy": "missing"}),
    ],
)
def test_an_attribute_shows_in_its_long_form(stack: Stack, text: str, shown: dict[str, Any]) -> None:
    service = stack.service(text)
    for key in ("image", "command", "entrypoint", "networks"):
        service.pop(key)
    assert service == {key: value for key, value in shown.items() if value != []}


def test_dollar_signs_come_out_doubled_so_that_the_output_reads_back(stack: Stack) -> None:
    model = stack.canonical("services: {a: {image: i, command: [echo, '$$HOME', '$X']}}", {"X": "a$b"})
    assert model["services"]["a"]["command"] == ["echo", "$$HOME", "a$$b"]
    again = stack.canonical(json.dumps(model))
    assert again == model


def test_unused_resources_are_left_out_and_extensions_of_the_top_stay(stack: Stack) -> None:
    model = stack.canonical("""\
        services: {a: {image: i, volumes: ["used:/u"], secrets: [s]}}
        volumes: {used: , unused: }
        secrets: {s: {file: ./s}, t: {file: ./t}}
        x-own: {b: 2, a: [1, null]}
        """)
    assert model["volumes"] == {"used": {"name": "shop_used"}}
    assert model["secrets"] == {"s": {"name": "shop_s", "file": f"{stack.folder}/s"}}
    assert model["services"]["a"]["secrets"] == [{"source": "s", "target": "/run/secrets/s"}]
    assert model["x-own"] == {"a": [1, None], "b": 2}


def test_what_links_and_shared_namespaces_imply_becomes_a_dependency(stack: Stack) -> None:
    model = stack.canonical("""\
        services:
          a: {image: i, links: ["b:x"], ipc: "service:c", volumes_from: [d]}
          b: {image: i}
          c: {image: i}
          d: {image: i}
        """)
    started = {"condition": "service_started", "required": True}
    assert model["services"]["a"]["depends_on"] == {
        "b": {**started, "restart": True},
        "c": {**started, "restart": True},
        "d": started,
    }


def test_a_container_before_the_start_takes_what_it_does_not_say_from_its_service(stack: Stack) -> None:
    service = stack.service("""\
        environment: {A: 1, B: 2}
        user: u
        volumes: [/v]
        pre_start: [{command: migrate, environment: [B=3]}]
        """)
    (hook,) = service["pre_start"]
    assert hook["image"] == "i"
    assert hook["environment"] == {"A": "1", "B": "3"}
    assert hook["user"] == "u"
    assert hook["command"] == ["migrate"]
    assert "volumes" not in hook


def test_jobs_are_kept_with_their_triggers_when_their_profile_is_active(stack: Stack) -> None:
    text = """\
        services: {a: {image: i}}
        jobs: {j: {image: i, triggers: {schedule: ["0 0 * * *"]}}, k: {image: i, profiles: [p], triggers: {manual: true}}}
        """
    assert list(stack.canonical(text)["jobs"]) == ["j"]
    jobs = stack.canonical(text, profiles=("p",))["jobs"]
    assert jobs["j"]["triggers"] == {"schedule": [{"cron": "0 0 * * *"}]}
    assert jobs["k"]["triggers"] == {"manual": True}


def test_relative_paths_are_absolute_and_urls_stay(stack: Stack) -> None:
    model = stack.canonical(
        """\
        services:
          a: {build: ./src/../app}
          b: {build: "https://example.com/x.git"}
          c: {build: {context: ~/c, additional_contexts: [d=./d, e=service:a]}}
        """,
        {"HOME": "/home/dev"},
    )
    contexts = {name: service["build"] for name, service in model["services"].items()}
    assert contexts["a"] == {"context": f"{stack.folder}/app", "dockerfile": "Dockerfile"}
    assert contexts["b"]["context"] == "https://example.com/x.git"
    assert contexts["c"]["context"] == "/home/dev/c"
    assert contexts["c"]["additional_contexts"] == {"d": f"{stack.folder}/d", "e": "service:a"}
