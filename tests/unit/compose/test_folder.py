"""The folder's name is given without a parser only where the loader gives the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.compose.discovery import LoadRequest
from orchestrator.compose.folder import plain_name
from orchestrator.compose.identity import project_identity
from orchestrator.compose.text.diagnostics import ComposeError
from orchestrator.model.keys import normal_project_name

LINES = (
    "services: {}", "name: other", "name : other", '"name": other', "? name", ": other", "'na\\u006de': x", "---", "--- ",
    "...", "# name: no", "  name: inner", "x-a:", "{name: flow}", "networks:", "-", "name:", "&a name: x",
    "!!str name: y", "a: |", " name: text", "\tname: x", "", "services:\r", "name: other\r", "x\rname: other",
    "\ufeffname: other", "<<: {name: m}",
)  # fmt: skip
VARIABLES = ("A=1", "COMPOSE_PROJECT_NAME=fromenv", "# COMPOSE_FILE", "export COMPOSE_FILE=other.yaml", "broken line", "")


def by_the_loader(directory: Path, environment: dict[str, str]) -> str | None:
    try:
        return project_identity(LoadRequest(directory=str(directory), environment=environment))[0]
    except ComposeError:
        return None


@given(lines=st.lists(st.sampled_from(LINES), max_size=5), variables=st.lists(st.sampled_from(VARIABLES), max_size=2))
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_name_that_is_given_is_the_loaders(tmp_path: Path, lines: list[str], variables: list[str]) -> None:
    folder = tmp_path / "Shop.1"
    folder.mkdir(exist_ok=True)
    (folder / "compose.yaml").write_bytes("\n".join(lines).encode())
    (folder / ".env").write_text("\n".join(variables))
    name = plain_name(str(folder), {})
    loaded = by_the_loader(folder, {})
    if name is not None and loaded is not None:
        assert name == loaded


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("# a comment\nservices:\n  db:\n    image: host\n    name: inner\n", "shop1"),
        ("---\r\nservices: {}\r\nx-name: y\r\n", "shop1"),
        ("name: other\nservices: {}\n", None),
        ("{services: {}}\n", None),
        ('"n\\u0061me": other\nservices: {}\n', None),
        ("", None),
    ],
)
def test_most_files_need_no_loader(tmp_path: Path, text: str, name: str | None) -> None:
    folder = tmp_path / "Shop.1"
    (folder / "sub").mkdir(parents=True)
    (folder / "docker-compose.yml").write_bytes(text.encode())
    for directory in (folder, folder / "sub"):
        assert plain_name(str(directory), {}) == name


@pytest.mark.parametrize(
    "environment", [{"COMPOSE_PROJECT_NAME": "x"}, {"COMPOSE_FILE": "a.yaml"}, {"COMPOSE_ENV_FILES": "a.env"}]
)
def test_what_the_environment_says_is_for_the_loader(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "compose.yaml").write_text("services: {}\n")
    assert plain_name(str(tmp_path), {}) is not None
    assert plain_name(str(tmp_path), environment) is None


def test_files_and_directories_of_the_command_line_count(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "stack.yaml").write_text("services: {}\n")
    (tmp_path / "two" / "named.yaml").write_text("name: x\n")
    here = str(tmp_path)
    assert plain_name(here, {}, ("one/stack.yaml", "two/stack.yaml")) == "one"
    assert plain_name(here, {}, ("one/stack.yaml",), "two") == "two"
    assert plain_name(here, {}, ("one/stack.yaml", "two/named.yaml")) is None
    assert plain_name(here, {}, ("-",)) is None
    assert plain_name(here, {}, ("one/nosuch.yaml",)) is None
    assert plain_name(here, {}) is None
    (tmp_path / "one" / ".env").write_text("COMPOSE_PROJECT_NAME=x\n")
    assert plain_name(here, {}, ("one/stack.yaml",)) is None


def test_names_are_made_of_what_is_allowed() -> None:
    assert [normal_project_name(text) for text in ("Shop.1", "_-a_b-", "ÄÖ", "-", "İx")] == ["shop1", "a_b-", "", "", "ix"]
