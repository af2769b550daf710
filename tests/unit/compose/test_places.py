"""Errors about values of several files: the place of each that takes part, and the way by which its file was reached."""

from __future__ import annotations

from textwrap import dedent

import pytest

from orchestrator.compose.load import ComposeError, load_canonical
from tests.unit.compose.stacks import Stack

BASE = "compose.yaml"
OVER = "over.yaml"


def error_of(stack: Stack, text: str, over: str | None = None, **files: str) -> str:
    """The text of the errors; `files` are further ones, NAME.yaml."""
    stack.write(BASE, text)
    for name, text in files.items():
        stack.write(f"{name}.yaml", text)
    names: tuple[str, ...] = (BASE,)
    if over is not None:
        stack.write(OVER, over)
        names = (BASE, OVER)
    with pytest.raises(ComposeError) as caught:
        load_canonical(stack.request(files=names))
    return str(caught.value)


def test_a_dependency_of_an_override_names_the_override_and_the_service(stack: Stack) -> None:
    text = error_of(
        stack,
        "services:\n  web: {image: i}\n  db: {image: i}\n",
        "services:\n  web:\n    depends_on: [dbb]\n",
    )
    assert text == dedent("""\
        over.yaml:3:18: services.web.depends_on: "dbb" is not a service (did you mean "db"?)
             3 |     depends_on: [dbb]
               |                  ^^^
          see compose.yaml:2:3: services.web""")


def test_a_limit_said_twice_names_both_places(stack: Stack) -> None:
    text = error_of(
        stack,
        "services:\n  a:\n    image: i\n    deploy: {resources: {limits: {memory: 2m}}}\n",
        "services:\n  a:\n    mem_limit: 1m\n",
    )
    assert text == dedent("""\
        over.yaml:3:16: services.a.mem_limit: differs from deploy.resources.limits.memory
             3 |     mem_limit: 1m
               |                ^^
          see compose.yaml:4:43: deploy.resources.limits.memory
          see compose.yaml:2:3: services.a
          hint: say it once, or say the same""")


@pytest.mark.parametrize(
    ("base", "over", "expected"),
    [
        (
            "services: {a: {image: i, networks: [n]}}\nnetworks: {n: }",
            "services: {a: {network_mode: host}}",
            ["over.yaml:1:16: services.a.network_mode: network_mode and networks", "see compose.yaml:1:26: networks"],
        ),
        (
            "services: {a: {image: i, deploy: {replicas: 3}}}",
            "services: {a: {scale: 2}}",
            ["over.yaml:1:23: services.a.scale: differs", "see compose.yaml:1:45: deploy.replicas"],
        ),
        (
            "services: {a: {image: i, tmpfs: /x}}",
            "services: {a: {volumes: [/x]}}",
            ["over.yaml:1:26: services.a.volumes[0]: something", "see compose.yaml:1:33: services.a.tmpfs[0]"],
        ),
        (
            "services: {a: {image: i, container_name: xx}, b: {image: i}}",
            "services: {b: {container_name: xx}}",
            ["over.yaml:1:32: services.b.container_name:", "see compose.yaml:1:42: services.a.container_name"],
        ),
        (
            "services: {a: {image: i, container_name: xx}}",
            "services: {a: {scale: 2}}",
            ["over.yaml:1:23: services.a.scale: more than one", "see compose.yaml:1:42: container_name"],
        ),
        (
            "services: {a: {image: i, depends_on: [b]}, b: {image: i}}",
            "services: {b: {depends_on: [a]}}",
            [
                "over.yaml:1:29: services.b.depends_on: the services wait for each other: a -> b -> a",
                "see compose.yaml:1:39: a waits for b",
            ],
        ),
        (
            "services: {a: {image: i, depends_on: []}, b: {image: i, profiles: [p]}}",
            "services: {a: {depends_on: [b]}}",
            ['over.yaml:1:29: services.a.depends_on: "b" is not active', "see compose.yaml:1:57: services.b.profiles"],
        ),
        (
            "services: {a: {build: {dockerfile: x}}}",
            "services: {a: {build: {dockerfile_inline: y}}}",
            ["over.yaml:1:24: services.a.build: dockerfile and", "see compose.yaml:1:24: dockerfile"],
        ),
        (
            "services: {a: {build: {platforms: [linux/amd64]}}}",
            "services: {a: {platform: linux/arm64}}",
            ["compose.yaml:1:35: services.a.build.platforms: must hold", "see over.yaml:1:16: platform"],
        ),
        (
            "services: {a: {image: i}, b: {build: .}}",
            "services: {b: {build: {additional_contexts: {x: 'service:a'}}}}",
            ["over.yaml:1:49: services.b.build.additional_contexts.x: the service", "see compose.yaml:1:12: services.a"],
        ),
        (
            "services: {a: {image: i, volumes: ['vv:/v']}}\nvolumes: {vv: {driver: x}}",
            "volumes: {vv: {external: true}}",
            ['compose.yaml:2:16: volumes.vv: "driver" has no place', "see over.yaml:1:16: external"],
        ),
        (
            "services: {a: {image: i, configs: [s]}}\nconfigs: {s: {file: x}}",
            "configs: {s: {content: y}}",
            ["over.yaml:1:15: configs.s: only one of", "see compose.yaml:2:15: file"],
        ),
        (
            "services: {a: {image: i}}\nvolumes: {vv: {name: x}}",
            "volumes: {vv: {external: {name: y}}}",
            ["compose.yaml:2:15: volumes.vv: name and external.name", "see over.yaml:1:27: external.name"],
        ),
        (
            "services: {a: {image: i, volumes: [/x]}}",
            "services: {a: {volumes: {x: y}}}",
            ["over.yaml:1:25: services.a.volumes: cannot put", "see compose.yaml:1:35: the other value"],
        ),
    ],
)
def test_a_contradiction_between_two_files_names_both(stack: Stack, base: str, over: str, expected: list[str]) -> None:
    lines = error_of(stack, base, over).split("\n")
    assert lines[0].startswith(expected[0])
    assert f"  {expected[1]}" in lines


def test_an_error_in_an_extended_file_says_who_extends_it(stack: Stack) -> None:
    text = error_of(
        stack,
        "services:\n  a:\n    extends: {file: base.yaml, service: b}\n",
        base="services:\n  b:\n    image: i\n    networks: [nope]\n",
    )
    assert text == dedent("""\
        base.yaml:4:16: services.a.networks.nope: "nope" is not a network of this stack
             4 |     networks: [nope]
               |                ^^^^
          see compose.yaml:2:3: services.a
          see compose.yaml:3:21: extended here
          hint: declare it at the top level, under networks:""")


def test_what_an_extended_file_and_its_heir_disagree_about_names_both(stack: Stack) -> None:
    lines = error_of(
        stack,
        "services: {a: {extends: {file: base.yaml, service: b}, volumes: {x: y}}}",
        base="services: {b: {image: i, volumes: [/x]}}",
    ).split("\n")
    assert lines[0].startswith("compose.yaml:1:65: services.a.volumes: cannot put a mapping over a list")
    assert "  see base.yaml:1:35: the other value" in lines


def test_services_that_extend_each_other_over_two_files_name_each_step(stack: Stack) -> None:
    lines = error_of(
        stack,
        "services: {a: {image: i, extends: {file: base.yaml, service: b}}}",
        base="services: {b: {extends: c}, c: {extends: {file: compose.yaml, service: a}}}",
    ).split("\n")
    assert lines[0].startswith("base.yaml:1:")
    assert [line.split(": ", 1)[1] for line in lines if line.startswith("  see")][:2] == [
        "services.a.extends",
        "services.b.extends",
    ]


def test_an_error_two_includes_deep_names_the_whole_way(stack: Stack) -> None:
    text = error_of(
        stack,
        "include: [one.yaml]\nservices: {a: {image: i}}\n",
        one="include: [two.yaml]\nservices: {b: {image: i}}\n",
        two="services: {c: {image: i, depends_on: [d]}}\n",
    )
    assert text == dedent("""\
        two.yaml:1:39: services.c.depends_on: "d" is not a service
             1 | services: {c: {image: i, depends_on: [d]}}
               |                                       ^
          see one.yaml:1:11: included here
          see compose.yaml:1:11: included here""")


def test_what_an_include_and_its_includer_disagree_about_names_both(stack: Stack) -> None:
    text = error_of(
        stack,
        "include: [one.yaml]\nservices: {a: {volumes: {x: y}}}\n",
        one="services: {a: {image: i, volumes: [/x]}}\n",
    )
    assert text.startswith("compose.yaml:2:25: services.a.volumes: cannot put a mapping over a list")
    assert "\n  see one.yaml:1:35: the other value" in text


def test_a_file_that_many_extend_names_three_of_them(stack: Stack) -> None:
    users = "\n".join(f"  s{n}: {{extends: {{file: base.yaml, service: b}}}}" for n in range(9))
    text = error_of(stack, f"services:\n{users}\n", base="services: {b: {image: i, depends_on: [nope]}}")
    first = text.split("services.s1")[0]
    assert first.count("extended here") == 3


def test_a_mistake_in_an_env_file_says_who_names_the_file(stack: Stack) -> None:
    stack.write("e.env", "A=1\na b\n")
    text = error_of(stack, "services: {a: {image: i, env_file: [e.env]}}")
    assert text.startswith('e.env:2:1: "a b" is not a variable name')
    assert "\n  see compose.yaml:1:37: named here" in text


def test_a_file_that_is_not_there_says_who_names_it(stack: Stack) -> None:
    assert error_of(stack, "services: {a: {extends: {file: no.yaml, service: b}}}") == dedent("""\
        no.yaml: the file does not exist
          see compose.yaml:1:32: extended here
        compose.yaml:1:12: services.a: has neither an image nor a build
             1 | services: {a: {extends: {file: no.yaml, service: b}}}
               |            ^
          hint: add image:""")
    assert error_of(stack, "include: [no.yaml]\nservices: {a: {image: i}}") == dedent("""\
        no.yaml: the file does not exist
          see compose.yaml:1:11: included here""")


def test_a_service_that_extends_stands_where_it_is_written(stack: Stack) -> None:
    lines = error_of(
        stack,
        "services:\n\n\n  a:\n    extends: {file: base.yaml, service: b}\n",
        base="services:\n  b: {hostname: x}\n",
    ).split("\n")
    assert lines[:3] == [
        "compose.yaml:4:3: services.a: has neither an image nor a build",
        "     4 |   a:",
        "       |   ^",
    ]
