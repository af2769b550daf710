"""Names: what may be a project's, what becomes of text that is meant as one, and those of kernel objects."""

from __future__ import annotations

import pytest

from orchestrator.errors import InputError
from orchestrator.model.names import ContainerId, ProjectKey, cgroup_path, normal_project_name, parse_project_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("shop", "shop"),
        ("My Shop.v2", "myshopv2"),
        ("_-a-_b", "a-_b"),
        ("1st", "1st"),
        ("caf\u00e9", "caf"),
        ("../..", ""),
        ("\u0130stanbul\0", "istanbul"),
        ("---", ""),
        ("", ""),
    ],
)
def test_any_text_becomes_a_project_name_or_nothing(text: str, name: str) -> None:
    assert normal_project_name(text) == name
    assert name == "" or parse_project_name(name) == name


@pytest.mark.parametrize("text", ["", "Shop", "a b", "-a", "_a", "a/b", "..", "a\n", "\u00e9", "a\0"])
def test_what_is_given_as_a_project_name_must_be_one_as_it_stands(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_project_name(text)
    assert caught.value.message == f'"{text}" is not a project name'
    assert caught.value.hint is not None


KEY = ProjectKey("0123abcd")


@pytest.mark.parametrize("name", ["p-web-1", "A_b-c.D", "web.1", "x.log.1", "a..b", "cpus.max", "memory", "tasks.1"])
def test_a_container_s_group_has_its_name(name: str) -> None:
    assert cgroup_path(KEY, ContainerId(name)) == f"pystack/0123abcd/{name}"


@pytest.mark.parametrize("name", ["memory.max", "cgroup.procs", "cpu.x", "tasks", "release_agent"])
def test_a_name_that_the_kernel_has_for_a_file_of_its_own_is_set_apart(name: str) -> None:
    """No id begins with an underscore, so it cannot be another's."""
    assert cgroup_path(KEY, ContainerId(name)) == f"pystack/0123abcd/_{name}"
