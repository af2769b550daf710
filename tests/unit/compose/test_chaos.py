"""``x-pystack.chaos``: a script of faults, checked when the stack is loaded."""

from __future__ import annotations

import pytest

from orchestrator.model.chaos import ChaosStep, FaultKind, Injection
from orchestrator.policy.script import moments
from tests.unit.compose.stacks import Stack

SERVICES = "services: {api: {image: host, scale: 2}, db: {image: host, container_name: store}}\n"


def test_a_script_is_read_and_nothing_of_it_is_in_a_service(stack: Stack) -> None:
    text = """x-pystack:
  on_unhealthy: ignore
  chaos:
    - {at: 10s, do: cut api store, for: 5s}
    - {every: 1m, do: kill api}
    - {at: 0s, do: lag %s-api-2 outside 100ms --one-way}
"""
    name = stack.load(SERVICES).project.name
    project = stack.load(SERVICES + text % name).project
    assert project.chaos == (
        ChaosStep(Injection(FaultKind.CUT, "api", "store", for_s=5.0), 10.0, 0.0, "x-pystack.chaos[0]"),
        ChaosStep(Injection(FaultKind.KILL, "api", for_s=0.0), 60.0, 60.0, "x-pystack.chaos[1]"),
        ChaosStep(
            Injection(FaultKind.LAG, f"{name}-api-2", "outside", one_way=True, delay_s=0.1), 0.0, 0.0, "x-pystack.chaos[2]"
        ),
    )
    assert project.services == stack.load(SERVICES + "x-pystack: {on_unhealthy: ignore}\n").project.services


@pytest.mark.parametrize(
    ("step", "column", "complaint"),
    [
        ("{at: 1s, do: cut api dbb}", 18, '"dbb" is no service of this stack (did you mean "db"?)'),
        ("{at: 1s, do: cut api}", 18, "it is written as: cut A B"),
        ("{at: 1s, do: boil api}", 18, "begins with no fault"),
        ("{do: kill api}", 5, "either at, or every"),
        ("{at: 1s, every: 1s, do: kill api}", 5, "either at, or every"),
        ("{at: 1s, do: kill api, for: 1s}", 33, "kill is over at once"),
        ("{at: 1s, do: pause api --for 1s, for: 1s}", 43, "its time is in do: already"),
        ("{at: 1s}", 5, "do"),
        ("{every: 10ms, do: kill api}", 13, "every second at most"),
        ("{at: soon, do: kill api}", 10, "is not a duration"),
        ("{at: 1s, do: kill api, til: 3s}", 28, '"til"'),
    ],
)
def test_what_is_wrong_with_it_is_told_where_it_stands(stack: Stack, step: str, column: int, complaint: str) -> None:
    (message,) = stack.messages(f"{SERVICES}x-pystack:\n  chaos:\n  - {step}\n")
    assert f"compose.yaml:4:{column}:" in message
    assert complaint in message


def test_what_comes_again_and_again_does_so_between_the_others() -> None:
    once = ChaosStep(Injection(FaultKind.KILL, "db"), 25.0)
    often = ChaosStep(Injection(FaultKind.KILL, "api"), 10.0, 10.0)
    found = moments((once, often))
    assert [next(found) for _ in range(5)] == [(10.0, often), (20.0, often), (25.0, once), (30.0, often), (40.0, often)]
    assert list(moments((once,))) == [(25.0, once)]
