"""A dollar sign in a password of an env file cuts it, which is told, without the password."""

from __future__ import annotations

from orchestrator.compose.load import load_canonical
from tests.unit.compose.stacks import Stack

TEXT = "services: {a: {image: i, env_file: e.env, environment: {A: '${A}'}}, b: {image: i, env_file: e.env}}"


def test_unset_variables_of_env_files_are_warnings_with_their_place(stack: Stack) -> None:
    stack.write(".env", 'A="secret$WORD1"\nB=\'$fine\'\n')
    stack.write("e.env", '\nC="secret$WORD2"\nD=$GIVEN\n')
    loaded = stack.load(TEXT, {"GIVEN": "x"})
    told = [(item.file, item.line, item.column, item.code) for item in loaded.warnings]
    assert told == [(".env", 1, 10, "unset-variable"), ("e.env", 2, 10, "unset-variable")]
    assert all("secret" not in item.text() and "single quotes" in (item.hint or "") for item in loaded.warnings)


def test_a_folder_that_is_looked_at_twice_is_told_of_once(stack: Stack) -> None:
    stack.write("sub/.env", "A=$NOBODY\n")
    stack.write("sub/compose.yaml", "services: {a: {image: i}}")
    request = stack.request(files=("sub/compose.yaml",))
    assert [item.message for item in load_canonical(request)[1]] == [
        'the variable "NOBODY" is not set: an empty text is used'
    ]
