from __future__ import annotations

import pytest

from orchestrator.compose.load import ComposeError, LoadRequest, discover_files, load_canonical, project_identity
from tests.unit.compose.stacks import Stack

ONE = "services: {a: {image: one}}\n"


def names(stack: Stack, environment: dict[str, str] | None = None, **more: object) -> list[str]:
    files, _ = discover_files(stack.request(environment, **more))
    return [file.removeprefix(f"{stack.folder}/") for file in files]


def test_compose_yaml_comes_before_the_other_names_and_takes_its_override(stack: Stack) -> None:
    for name in ("docker-compose.yaml", "compose.yml", "compose.yaml", "compose.override.yaml"):
        stack.write(name, ONE)
    assert names(stack) == ["compose.yaml", "compose.override.yaml"]


def test_a_parent_folder_is_searched_too(stack: Stack) -> None:
    stack.write("docker-compose.yml", ONE)
    inner = stack.folder / "deep" / "er"
    inner.mkdir(parents=True)
    files, folder = discover_files(LoadRequest(str(inner), {}))
    assert files == (f"{stack.folder}/docker-compose.yml",)
    assert folder == str(stack.folder)


def test_named_files_replace_discovery_and_the_first_one_is_the_projects_folder(stack: Stack) -> None:
    stack.write("sub/one.yaml", ONE)
    stack.write("two.yaml", ONE)
    files, folder = discover_files(stack.request(files=("sub/one.yaml", "two.yaml")))
    assert files == (f"{stack.folder}/sub/one.yaml", f"{stack.folder}/two.yaml")
    assert folder == f"{stack.folder}/sub"


def test_compose_file_names_the_files_and_may_stand_in_dot_env(stack: Stack) -> None:
    stack.write("one.yaml", ONE)
    stack.write("two.yaml", ONE)
    assert names(stack, {"COMPOSE_FILE": "one.yaml:two.yaml"}) == ["one.yaml", "two.yaml"]
    assert names(stack, {"COMPOSE_FILE": "one.yaml;two.yaml", "COMPOSE_PATH_SEPARATOR": ";"}) == ["one.yaml", "two.yaml"]
    stack.write(".env", "COMPOSE_FILE=two.yaml\n")
    assert names(stack) == ["two.yaml"]


def test_no_file_at_all_is_an_error_with_a_hint(stack: Stack) -> None:
    with pytest.raises(ComposeError, match="no compose file in") as caught:
        discover_files(stack.request())
    assert "make compose.yaml or compose.yml" in str(caught.value)


def test_standard_input_is_a_file(stack: Stack) -> None:
    model, _ = load_canonical(stack.request(files=("-",), stdin_text=ONE))
    assert model["services"]["a"]["image"] == "one"
    assert model["name"] == "shop"


@pytest.mark.parametrize(
    ("more", "environment", "text", "name"),
    [
        ({}, {}, ONE, "shop"),
        ({}, {}, "name: Written!\n" + ONE, "written"),
        ({}, {"V": "x"}, "name: a-${V}\n" + ONE, "a-x"),
        ({}, {"COMPOSE_PROJECT_NAME": "env"}, "name: written\n" + ONE, "env"),
        ({"project_name": "flag"}, {"COMPOSE_PROJECT_NAME": "env"}, "name: written\n" + ONE, "flag"),
    ],
)
def test_the_project_is_named_by_flag_variable_file_or_folder(
    stack: Stack, more: dict[str, str], environment: dict[str, str], text: str, name: str
) -> None:
    stack.write("compose.yaml", text)
    request = stack.request(environment, **more)
    assert project_identity(request) == (name, str(stack.folder))
    assert load_canonical(request)[0]["name"] == name


def test_a_name_that_is_no_project_name_is_an_error(stack: Stack) -> None:
    stack.write("compose.yaml", ONE)
    with pytest.raises(ComposeError, match='"Not Ok" is not a project name'):
        project_identity(stack.request(project_name="Not Ok"))


def test_the_identity_needs_no_valid_stack(stack: Stack) -> None:
    stack.write("compose.yaml", "name: known\nservices: {a: {image: [1]}}\n")
    assert project_identity(stack.request()) == ("known", str(stack.folder))
    stack.write("compose.yaml", "a: [")
    assert project_identity(stack.request()) == ("shop", str(stack.folder))


@pytest.mark.parametrize("before", ["", "services: {a: [}\n"])
def test_a_name_whose_variables_leave_nothing_is_an_error_at_its_line(stack: Stack, before: str) -> None:
    stack.write("compose.yaml", f"{before}name: ${{V}}\n{ONE if not before else ''}")
    with pytest.raises(ComposeError, match=rf'compose.yaml:{1 + before.count(chr(10))}:7: name: "" leaves no project name'):
        project_identity(stack.request())
    assert project_identity(stack.request({"V": "x"}))[0] == "x"
    assert project_identity(stack.request(project_name="given"))[0] == "given"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("name: known\nservices: {a: [}\n", "known"),
        ("name: one\nname: 'two'\nservices: {a: [}\n", "two"),
        ("name: known-$V\nservices: {a: [}\n", "known-x"),
        ("services: {a: [}\nname: known # ours\n", "known"),
        ("services: {a: [}\n  name: inner\n", "shop"),
        ("name: [", "shop"),
        ("name: [\nservices: {a: [}\n", "shop"),
    ],
)
def test_a_file_that_is_no_yaml_just_now_is_of_the_same_project(stack: Stack, text: str, name: str) -> None:
    stack.write("compose.yaml", text)
    assert project_identity(stack.request({"V": "x"}))[0] == name


def test_a_file_that_is_named_and_is_not_there_leaves_no_identity(stack: Stack) -> None:
    stack.write("compose.yaml", ONE)
    with pytest.raises(ComposeError, match=r"nope\.yaml: the file does not exist"):
        project_identity(stack.request(files=("nope.yaml",)))
    assert project_identity(stack.request(files=("nope.yaml",), project_name="given"))[0] == "given"


def test_the_projects_name_is_a_variable_of_the_files(stack: Stack) -> None:
    assert stack.canonical("services: {a: {image: 'i:$COMPOSE_PROJECT_NAME'}}")["services"]["a"]["image"] == "i:shop"


def test_env_files_of_the_command_line_replace_dot_env(stack: Stack) -> None:
    stack.write(".env", "V=dot\n")
    stack.write("a.env", "V=a\nW=a\n")
    stack.write("b.env", "W=b-$V\n")
    text = "services: {a: {image: '$V/$W'}}"
    assert stack.canonical(text)["services"]["a"]["image"] == "dot/"
    assert stack.canonical(text, env_files=("a.env", "b.env"))["services"]["a"]["image"] == "a/b-a"
    with pytest.raises(ComposeError, match=r"nope\.env: the file does not exist"):
        stack.canonical(text, env_files=("nope.env",))


def test_a_project_directory_moves_relative_paths_and_dot_env(stack: Stack) -> None:
    stack.write("else/.env", "V=there\n")
    model = stack.canonical(
        "services: {a: {image: $V, volumes: ['./d:/d']}}", files=("compose.yaml",), project_directory="else"
    )
    assert model["name"] == "else"
    assert model["services"]["a"]["image"] == "there"
    assert model["services"]["a"]["volumes"][0]["source"] == f"{stack.folder}/else/d"
