"""The project is the whole stack; profiles, named services and what they need say which of it takes part."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.compose.model.choice import select
from orchestrator.errors import InputError, PystackError
from orchestrator.model.codec import from_json, to_json
from orchestrator.model.project import Project
from tests.unit.compose.stacks import Stack

PROFILES = """\
services:
  web: {image: host, networks: [front], volumes: [web:/d]}
  db: {image: host, profiles: [back], volumes: [db:/d]}
  app: {image: host, profiles: [front], depends_on: [db]}
  tool: {image: host, profiles: [back], depends_on: [db]}
  both: {image: host, profiles: [front, back], depends_on: {db: {condition: service_started, required: false}}}
networks: {front: , unused: }
volumes: {web: , db: , unused: }
"""
WITHOUT_APP = PROFILES.replace("profiles: [front], depends_on: [db]", "profiles: [front]")


def chosen(stack: Stack, text: str, *named: str, **more: object) -> list[str]:
    return list(select(stack.load(text, services=named, **more).project, named))  # type: ignore[arg-type]


def test_the_project_is_the_whole_stack_whatever_was_named(stack: Stack) -> None:
    projects = [stack.load(PROFILES, services=named).project for named in ((), ("web",), ("tool",), ("app", "db"))]
    assert all(project == projects[0] for project in projects)
    assert list(projects[0].services) == ["web", "db", "app", "tool", "both"]
    assert projects[0].inactive == {"db", "app", "tool", "both"}
    assert set(projects[0].networks) == {"front", "unused", "default"}
    assert set(projects[0].volumes) == {"web", "db", "unused"}
    assert list(projects[0].services["app"].depends_on) == ["db"]  # type: ignore[index]
    assert from_json(Project, to_json(projects[0])) == projects[0]


@pytest.mark.parametrize(
    ("profiles", "named", "services"),
    [
        ("", (), ["web"]),
        ("", ("db",), ["db"]),
        ("", ("tool",), ["db", "tool"]),
        ("", ("web", "tool"), ["web", "db", "tool"]),
        ("", ("both",), ["db", "both"]),  # its own profiles are those of db too
        ("back", (), ["web", "db", "tool", "both"]),
        (" back , nosuch", (), ["web", "db", "tool", "both"]),
        ("back", ("web",), ["web"]),
        ("front", ("both",), ["both"]),  # it is active already: naming it activates nothing more
        ("front", ("both", "tool"), ["db", "tool", "both"]),
        ("*", (), ["web", "db", "app", "tool", "both"]),
        ("*", ("app",), ["db", "app"]),
    ],
)
def test_naming_a_service_activates_its_profiles_and_brings_what_it_needs(
    stack: Stack, profiles: str, named: tuple[str, ...], services: list[str]
) -> None:
    text = WITHOUT_APP if "*" not in profiles else PROFILES
    assert chosen(stack, text, *named, environment={"COMPOSE_PROFILES": profiles}) == services
    given = tuple(part.strip() for part in profiles.split(",") if part)
    assert chosen(stack, text, *named, profiles=given) == services


def test_the_profiles_of_the_command_line_are_taken_instead_of_the_environments(stack: Stack) -> None:
    project = stack.load(WITHOUT_APP, {"COMPOSE_PROFILES": "back"}, profiles=("front",)).project
    assert project.profiles == ("front",)
    assert project.inactive == {"db", "tool"}


@pytest.mark.parametrize("more", [{"services": ("app",)}, {"profiles": ("front",)}], ids=["named", "active"])
def test_what_a_service_needs_must_be_active(stack: Stack, more: dict[str, Any]) -> None:
    (found,) = stack.errors(PROFILES, **more).diagnostics
    assert found.text().splitlines() == [
        'compose.yaml:4:54: services.app.depends_on: "db" is not active: none of its profiles is (back)',
        "     4 |   app: {image: host, profiles: [front], depends_on: [db]}",
        "       |                                                      ^^",
        "  see compose.yaml:3:21: services.db.profiles",
        "  hint: activate one with --profile, or write required: false",
    ]


def test_a_project_alone_answers_as_its_files_do(stack: Stack) -> None:
    project = stack.load(PROFILES).project
    with pytest.raises(InputError) as caught:
        select(project, ["app"])
    assert str(caught.value) == (
        'compose.yaml:4:54: services.app.depends_on.db: "db" is not active: none of its profiles is (back)'
    )
    with pytest.raises(InputError) as caught:
        select(project, ["wbe"])
    assert str(caught.value) == 'no such service: wbe (did you mean "web"?)'
    assert caught.value.hint == f"its services: {', '.join(sorted(project.services))}"
    assert list(select(project, ["app", "db", "app"])) == ["db", "app"]


def test_an_unknown_service_on_the_command_line_is_an_error(stack: Stack) -> None:
    assert stack.messages("services: {web: {image: host}}", services=("wbe",)) == [
        'no such service: wbe (did you mean "web"?)'
    ]
    found = stack.errors("services: {web: {image: host}, db: {image: host}}", services=("nope",)).diagnostics
    assert [(item.message, item.hint) for item in found] == [("no such service: nope", "its services: db, web")]


BROKEN = """\
services:
  web: {image: host}
  bad: {image: host, profiles: [p], SOMETHING}
"""


@pytest.mark.parametrize(
    ("something", "message"),
    [
        ("depends_on: [nope]", 'depends_on: "nope" is not a service'),
        ("networks: [zz]", 'networks.zz: "zz" is not a network of this stack'),
        ("volumes: ['zz:/d']", 'volumes[0]: "zz" is not a volume of this stack'),
        ("env_file: gone.env", "env_file[0]: the file gone.env does not exist"),
        ("depends_on: [bad]", "depends_on: the services wait for each other: bad -> bad"),
        ("scale: 2, container_name: one", "scale: more than one container cannot have one container_name"),
        ("pre_stop: [{command: []}]", "pre_stop[0]: the command of a hook is empty"),
        ("stop_signal: X9X", 'stop_signal: "X9X" is not a signal'),
    ],
)
def test_a_service_that_is_not_asked_for_may_be_wrong_in_what_only_running_it_needs(
    stack: Stack, something: str, message: str
) -> None:
    text = BROKEN.replace("SOMETHING", something)
    project = stack.load(text).project
    assert list(project.services) == ["web", "bad"]
    assert project.inactive == {"bad"}
    named: dict[str, Any] = {"services": ("bad",)}
    active: dict[str, Any] = {"profiles": ("p",)}
    for more in (named, active):
        assert [line.partition("services.bad.")[2] for line in stack.messages(text, **more)] == [message]


def test_the_files_of_an_active_service_are_wanted_when_it_is_asked_for(stack: Stack) -> None:
    """As with `docker compose up web`; `docker compose config web` wants them all."""
    text = "services: {web: {image: host}, gone: {image: host, env_file: no.env, label_file: no.labels}}"
    assert list(stack.load(text, services=("web",)).project.services) == ["web", "gone"]
    missing = ["services.gone.env_file[0]", "services.gone.label_file[0]"]
    for names in ((), ("gone",)):
        assert [item.path for item in stack.errors(text, services=names).diagnostics] == missing
    with pytest.raises(PystackError, match=r"no\.env does not exist"):
        stack.canonical(text, services=("web",))


def test_what_everyone_reads_must_be_right_in_every_service(stack: Stack) -> None:
    (message,) = stack.messages(BROKEN.replace("SOMETHING", 'x-y: "${NOT_SET:?is needed}"'))
    assert "NOT_SET" in message
    (message,) = stack.messages(BROKEN.replace("SOMETHING", "scale: [1]"))
    assert "services.bad.scale" in message
