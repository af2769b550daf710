"""Several files, several documents, !reset and !override, extends, include."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.compose.load import ComposeError, load_canonical
from tests.unit.compose.stacks import Stack


def merged(stack: Stack, base: str, over: str, **environment: str) -> dict[str, Any]:
    """The service ``a`` of two files."""
    stack.write("base.yaml", base)
    stack.write("over.yaml", over)
    model, _ = load_canonical(stack.request(environment, files=("base.yaml", "over.yaml")))
    service: dict[str, Any] = model["services"]["a"]
    return service


@pytest.mark.parametrize(
    ("base", "over", "key", "value"),
    [
        ("hostname: x", "hostname: y", "hostname", "y"),
        ("hostname: x", "hostname:", "hostname", "x"),
        ("command: [a, b]", "command: c", "command", ["c"]),
        ("environment: {A: 1, B: 2}", "environment: [B=3, C]", "environment", {"A": "1", "B": "3", "C": None}),
        ("labels: [a=1]", "labels: {a: 2, b: 3}", "labels", {"a": "2", "b": "3"}),
        ("expose: [1, 2]", "expose: ['2', 3]", "expose", ["1", "2", "3"]),
        ("tmpfs: /a", "tmpfs: [/b, /a]", "tmpfs", ["/a", "/b"]),
        ("cap_add: [A]", "cap_add: [B, A]", "cap_add", ["A", "B"]),
        ("entrypoint: a", "entrypoint: []", "entrypoint", []),
        (
            "healthcheck: {test: [CMD, a], retries: 3}",
            "healthcheck: {test: b}",
            "healthcheck",
            {"test": ["CMD-SHELL", "b"], "retries": 3},
        ),
        (
            "logging: {driver: x, options: {a: 1}}",
            "logging: {driver: x, options: {b: 2}}",
            "logging",
            {"driver": "x", "options": {"a": "1", "b": "2"}},
        ),
        ("logging: {driver: x, options: {a: 1}}", "logging: {driver: y}", "logging", {"driver": "y"}),
        ("ulimits: {n: {soft: 1, hard: 2}}", "ulimits: {n: 3}", "ulimits", {"n": 3}),
        ("build: ./x", "build: {target: t}", "build", {"context": "/c", "dockerfile": "Dockerfile", "target": "t"}),
        ("environment: {A: 1, B: 2}", "environment: !override {C: 3}", "environment", {"C": "3"}),
        ("environment: {A: 1, B: 2}", "environment: {A: !reset x}", "environment", {"B": "2"}),
        ("command: x", "command: !reset", "command", None),
    ],
)
def test_a_later_file_is_put_over_an_earlier_one(stack: Stack, base: str, over: str, key: str, value: Any) -> None:
    service = merged(
        stack, f"services:\n  a:\n    image: i\n    {base.replace('./x', '/c')}\n", f"services:\n  a:\n    {over}\n"
    )
    assert service[key] == value


def test_mounts_and_ports_are_the_same_by_target_and_by_their_whole(stack: Stack) -> None:
    service = merged(
        stack,
        "services: {a: {image: i, volumes: ['/x:/d', /e], ports: ['80:80', '81:81']}}",
        "services: {a: {volumes: ['/y:/d'], ports: ['80:80', '80:80/udp']}}",
    )
    assert [(mount.get("source"), mount["target"]) for mount in service["volumes"]] == [("/y", "/d"), (None, "/e")]
    assert [(port["published"], port["protocol"]) for port in service["ports"]] == [
        ("80", "tcp"),
        ("81", "tcp"),
        ("80", "udp"),
    ]


def test_two_forms_that_cannot_merge_are_an_error_with_both_places(stack: Stack) -> None:
    with pytest.raises(ComposeError) as caught:
        merged(stack, "services:\n  a:\n    image: i\n    volumes: [/x]\n", "services:\n  a:\n    volumes: {x: y}\n")
    text = str(caught.value)
    assert "over.yaml:3:14: services.a.volumes: cannot put a mapping over a list" in text
    assert "see base.yaml:4:14: the other value" in text


def test_documents_of_one_file_merge_in_order(stack: Stack) -> None:
    model = stack.canonical("services: {a: {image: i, hostname: x}}\n---\nservices: {a: {hostname: y}, b: {image: j}}\n")
    assert model["services"]["a"]["hostname"] == "y"
    assert list(model["services"]) == ["a", "b"]


def test_tags_work_through_anchors_and_merge_keys(stack: Stack) -> None:
    service = merged(
        stack,
        "services: {a: {image: i, ports: [80], command: x}}",
        "x-p: &p {ports: !reset [], command: !override [z]}\nservices: {a: {<<: *p}}",
    )
    assert "ports" not in service
    assert service["command"] == ["z"]


def test_extends_takes_a_service_of_this_file_or_another_and_its_own_words_win(stack: Stack) -> None:
    stack.write(
        "sub/other.yaml",
        "services: {base: {extends: deep, volumes: ['./v:/v'], environment: {A: 1, B: 1}}, deep: {image: i, user: u}}",
    )
    model = stack.canonical("""\
        services:
          a: {extends: {file: sub/other.yaml, service: base}, environment: {B: 2}}
          b: {extends: a, command: x}
        """)
    a, b = model["services"]["a"], model["services"]["b"]
    assert a["environment"] == b["environment"] == {"A": "1", "B": "2"}
    assert a["volumes"][0]["source"] == f"{stack.folder}/sub/v"
    assert (a["user"], b["command"]) == ("u", ["x"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("services: {a: {extends: a, image: i}}", "the services extend each other: a -> a"),
        ("services: {a: {extends: b}, b: {extends: c}, c: {extends: b}}", "the services extend each other: b -> c -> b"),
        ("services: {web: {image: i}, a: {extends: wbe}}", '"wbe" is not a service (did you mean "web"?)'),
        ("services: {a: {extends: {file: nope.yaml, service: x}}}", "nope.yaml: the file does not exist"),
    ],
)
def test_extends_that_leads_nowhere_is_an_error(stack: Stack, text: str, message: str) -> None:
    assert any(message in line for line in stack.messages(text))


def test_an_included_file_has_its_own_folder_and_variables_and_gives_way(stack: Stack) -> None:
    stack.write(
        "sub/compose.yaml", "services: {b: {image: 'i:$TAG', volumes: ['./d:/d'], hostname: inner}}\nvolumes: {x: }\n"
    )
    stack.write("sub/.env", "TAG=sub\n")
    model = stack.canonical(
        "include: [sub/compose.yaml]\nservices: {a: {image: 'i:${TAG:-top}', depends_on: [b]}, b: {hostname: outer}}\n"
    )
    services = model["services"]
    assert services["a"]["image"] == "i:top"
    assert services["b"]["image"] == "i:sub"
    assert services["b"]["volumes"][0]["source"] == f"{stack.folder}/sub/d"
    assert services["b"]["hostname"] == "outer"


def test_files_that_include_each_other_are_an_error_that_names_the_way(stack: Stack) -> None:
    stack.write("b.yaml", "include: [compose.yaml]\nservices: {b: {image: i}}\n")
    (message, *_) = stack.messages("include: [b.yaml]\nservices: {a: {image: i}}\n")
    assert message.endswith("the files include each other: compose.yaml -> b.yaml -> compose.yaml")


def test_an_error_in_an_included_file_says_where_it_was_included(stack: Stack) -> None:
    stack.write("b.yaml", "services: {b: {imag: i}}\n")
    error = stack.errors("include: [b.yaml]\nservices: {a: {image: i}}\n")
    assert 'b.yaml:1:16: services.b: "imag" is not an attribute' in str(error)
    assert "see compose.yaml:1:11: included here" in str(error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "services: {a: {image: i, depends_on: [b]}, b: {image: i, depends_on: [a]}}",
            "the services wait for each other: a -> b -> a",
        ),
        (
            "services: {a: {image: i, network_mode: host, networks: [default]}}",
            "network_mode and networks exclude each other",
        ),
        ("services: {a: {image: i, tmpfs: /x, volumes: [/x]}}", "something is mounted at /x already: services.a.tmpfs[0]"),
        (
            "services: {a: {image: i, mem_limit: 1m, deploy: {resources: {limits: {memory: 2m}}}}}",
            "differs from deploy.resources.limits.memory",
        ),
        ("services: {a: {image: i, scale: 2, deploy: {replicas: 3}}}", "differs from deploy.replicas, 3"),
        (
            "services: {a: {image: i, container_name: xx}, b: {image: i, container_name: xx}}",
            'container name "xx" is already in use by service a',
        ),
        ("services: {a: {image: i, secrets: [s]}}\nsecrets: {s: {}}", "one of file, environment must be given"),
        (
            "services: {a: {image: i, configs: [s]}}\nconfigs: {s: {file: x, content: y}}",
            "only one of file, environment, content may be given",
        ),
        (
            "services: {a: {image: i, volumes: ['vv:/v']}}\nvolumes: {vv: {external: true, driver: x}}",
            '"driver" has no place beside external: true',
        ),
        ("services: {a: {image: i, ports: [{target: 1, host_ip: x}]}}", '"x" is not an IP address'),
        (
            "services: {a: {build: {dockerfile: x, dockerfile_inline: y}}}",
            "dockerfile and dockerfile_inline exclude each other",
        ),
        ("services: {a: {image: i, gpus: [{count: 1, device_ids: [x]}]}}", "count and device_ids exclude each other"),
        ("services: {a: {image: i, develop: {watch: [{path: ., action: sync}]}}}", "this action needs a target"),
    ],
)
def test_what_contradicts_itself_is_an_error(stack: Stack, text: str, message: str) -> None:
    stack.write("compose.yaml", text)
    with pytest.raises(ComposeError) as caught:
        load_canonical(stack.request())
    assert message in str(caught.value)


def test_a_graph_in_sixty_layers_is_checked_at_once(stack: Stack) -> None:
    lines = ["services:"]
    for layer in range(60):
        for number in range(3):
            lines.append(f"  s{layer}-{number}:\n    image: i")
            if layer:
                lines.append(f"    depends_on: [s{layer - 1}-0, s{layer - 1}-1, s{layer - 1}-2]")
    assert len(stack.canonical("\n".join(lines))["services"]) == 180
