"""`orchestrator.values` makes what `dataclasses` would, as far as anybody here can tell."""

from __future__ import annotations

import copy
from dataclasses import dataclass as stdlib
from dataclasses import field as stdlib_field
from typing import Any

import pytest

from orchestrator.values import FrozenError, entity, field, fields, frozen, replace


@frozen
class Point:
    x: int
    y: int = 0
    tags: tuple[str, ...] = field(default_factory=tuple)
    note: list[str] = field(default_factory=list, compare=False, repr=False)


@stdlib(frozen=True, slots=True)
class Reference:
    x: int
    y: int = 0
    tags: tuple[str, ...] = stdlib_field(default_factory=tuple)
    note: list[str] = stdlib_field(default_factory=list, compare=False, repr=False)


@pytest.mark.parametrize("kind", [Point, Reference])
def test_a_value_behaves_as_a_frozen_dataclass(kind: Any) -> None:
    one = kind(1)
    assert (one.x, one.y, one.tags) == (1, 0, ())
    assert one == kind(1, 0) != kind(2)
    assert hash(one) == hash(kind(x=1))
    assert kind(1, tags=("a",)) != one
    assert kind(1, note=["x"]) == one
    assert hash(kind(1, note=["x"])) == hash(one)
    assert repr(one) == f"{kind.__qualname__}(x=1, y=0, tags=())"
    assert kind.__match_args__ == ("x", "y", "tags", "note")
    assert not hasattr(one, "__dict__")
    assert copy.deepcopy(one) == one
    with pytest.raises(AttributeError):
        one.x = 3
    with pytest.raises(TypeError):
        kind()
    with pytest.raises(TypeError):
        kind(1, z=2)


def test_equality_asks_for_the_same_class() -> None:
    point: object = Point(1)
    assert point != Reference(1)
    assert point != (1, 0, ())


def test_replace_gives_a_new_value_and_knows_the_fields() -> None:
    one = Point(1, 2)
    assert replace(one, y=3) == Point(1, 3)
    assert one == Point(1, 2)
    with pytest.raises(TypeError):
        replace(one, z=1)
    with pytest.raises(TypeError):
        replace(object(), z=1)


def test_instances_are_the_same_before_and_after_their_class_is_compiled() -> None:
    @frozen
    class Late:
        a: int
        b: list[int] = field(default_factory=list)
        c: int = field(default=9, init=False)

    before = Late.__init__
    made = [Late(1), Late(1, [2]), Late(a=1, b=[2]), Late(b=[2], a=1)]
    assert Late.__init__ is before
    while Late.__init__ is before:
        Late(0)
    assert made == [Late(1), Late(1, [2]), Late(a=1, b=[2]), Late(b=[2], a=1)]
    assert [one.c for one in made] == [9] * 4


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), ((1, 2, 3), {}), ((1,), {"a": 1}), ((1,), {"z": 1}), ((1, 2), {"b": 3}), ((1,), {"c": 3})],
)
def test_wrong_arguments_are_the_same_error_for_the_first_instance(args: tuple[int, ...], kwargs: dict[str, int]) -> None:
    @frozen
    class Late:
        a: int
        b: int = 2
        c: int = field(default=9, init=False)

    with pytest.raises(TypeError) as first:
        Late(*args, **kwargs)
    with pytest.raises(TypeError) as second:
        Late(*args, **kwargs)
    assert str(first.value) == str(second.value) != ""


@entity
class Counter:
    name: str
    seen: list[int] = field(default_factory=list)
    total: int = field(init=False)
    hidden: int = field(default=7, init=False, repr=False)

    def __post_init__(self) -> None:
        self.total = len(self.seen)


def test_an_entity_is_mutable_and_equal_to_itself_alone() -> None:
    one, other = Counter("a"), Counter("a")
    assert one != other
    assert len({one, other}) == 2
    one.seen.append(1)
    assert other.seen == []
    assert (one.total, one.hidden) == (0, 7)
    assert repr(one) == "Counter(name='a', seen=[1], total=0)"
    with pytest.raises(TypeError):
        Counter("a", total=3)  # type: ignore[call-arg]


@frozen(order=True)
class Version:
    major: int
    minor: int = 0


def test_ordered_values_compare_by_their_fields() -> None:
    assert sorted([Version(2), Version(1, 5), Version(1)]) == [Version(1), Version(1, 5), Version(2)]
    assert Version(1) <= Version(1) < Version(1, 1)


@frozen
class Base:
    a: int


@frozen
class Derived(Base):
    b: int = 2


def test_a_derived_value_has_the_fields_of_its_base_first() -> None:
    assert [item.name for item in fields(Derived)] == ["a", "b"]
    assert repr(Derived(1)) == "Derived(a=1, b=2)"
    with pytest.raises(FrozenError):
        Derived(1).a = 2  # type: ignore[misc]
