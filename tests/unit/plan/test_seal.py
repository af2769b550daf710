"""Which differences between two worlds a seal sees, and how they are told."""

from __future__ import annotations

import pytest

from orchestrator.errors import MovedError
from orchestrator.model.project import Place
from orchestrator.plan.seal import THE_PLAN, check_seal, stack_seal
from orchestrator.testing.build import project, service
from orchestrator.values import replace


def test_equal_seals_pass() -> None:
    check_seal({"container a": "1", THE_PLAN: "2"}, {THE_PLAN: "2", "container a": "1"})


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({"a": "1", "b": "x", THE_PLAN: "p"}, ": b"),
        ({"a": "1", THE_PLAN: "q"}, ": b"),
        ({"a": "1", "b": "2", THE_PLAN: "q"}, f": {THE_PLAN}"),
        ({"a": "1", "b": "2", THE_PLAN: "p", **{f"n{n}": "" for n in range(7)}}, ": n0, n1, n2, n3, n4 and 2 more"),
    ],
)
def test_what_has_moved_is_named_and_the_plan_only_when_nothing_else_explains_it(found: dict[str, str], told: str) -> None:
    with pytest.raises(MovedError) as raised:
        check_seal({"a": "1", "b": "2", THE_PLAN: "p"}, found)
    assert str(raised.value).endswith(told)


def test_each_part_of_a_stack_is_told_by_its_name_and_places_make_no_difference() -> None:
    before = project(service("a", volumes=["data:/d"]), service("b", "a"))
    other = project(service("a", volumes=["data:/d"], command=("x",)), service("b", "a"))
    moved = replace(before, places={"services.a": Place("compose.yaml", 7, 3)})

    def differing(one: object, two: object) -> list[str]:
        first, second = stack_seal(one), stack_seal(two)  # type: ignore[arg-type]
        return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))

    assert differing(before, other) == ["service a of the compose files"]
    assert differing(before, moved) == []
    assert differing(before, project(service("a"))) == [
        "service a of the compose files", "service b of the compose files", "volume data of the compose files"
    ]  # fmt: skip
