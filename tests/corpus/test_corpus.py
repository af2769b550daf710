"""Whole stacks in the style of what people run: both loaders read each, and make the same of it.

A folder is a stack, discovered as ``config`` does in it. `CALLS` adds calls with profiles, files and environment.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.differential.oracle import Stack, answers, difference_of

HERE = Path(__file__).parent
NAMES = sorted(path.name for path in HERE.iterdir() if path.is_dir() and any(path.glob("*compose*.y*ml")))
EVERYTHING = ("*",)

# Stacks that mean to be called in another way: the files of -f, profiles, the environment.
CALLS: dict[str, tuple[tuple[str, ...], tuple[str, ...], dict[str, str]]] = {
    "multi-file": (("compose.yaml", "compose.prod.yaml", "compose.eu.yaml"), (), {"REGION": "eu-west-1"}),
    "profiles": ((), ("frontend", "debug"), {}),
    "django-celery": (("compose.yaml",), (), {"GIT_SHA": "abc123", "BUILD_TARGET": "ci"}),
    "traefik": ((), (), {"DOMAIN": "other.example"}),
    "reset-override": (("compose.yaml", "compose.ci.yaml"), (), {"CI": "true"}),
}


def stack_of(name: str) -> Stack:
    """The files of the folder `name`."""
    paths = [path for path in (HERE / name).rglob("*") if path.is_file()]
    return Stack({str(path.relative_to(HERE / name)): path.read_bytes() for path in paths})


def _agree(stack: Stack) -> None:
    oracle, ours = answers(stack)
    assert oracle.error is None
    assert ours.error is None
    assert difference_of(oracle, ours) is None
    assert oracle.model["services"]


def test_there_are_stacks_of_many_kinds() -> None:
    assert len(NAMES) >= 45


@pytest.mark.parametrize("name", NAMES)
def test_a_stack_loads_as_the_oracle_loads_it(name: str) -> None:
    _agree(stack_of(name))


@pytest.mark.parametrize("name", NAMES)
def test_a_stack_with_every_profile_loads_as_the_oracle_loads_it(name: str) -> None:
    stack = stack_of(name)
    _agree(Stack(stack.files, profiles=EVERYTHING))


@pytest.mark.parametrize("name", CALLS)
def test_a_stack_called_another_way_loads_as_the_oracle_loads_it(name: str) -> None:
    compose, profiles, environment = CALLS[name]
    _agree(Stack(stack_of(name).files, compose, environment, profiles))
