"""Which stages a target needs, and what build arguments come out as."""

from __future__ import annotations

import pytest

from orchestrator.build.frontend import (
    NeededStage,
    Origin,
    Source,
    declared,
    global_arguments,
    needed_stages,
    parse,
    platform_arguments,
    source_of,
    unused,
)
from orchestrator.build.instructions import Arg
from orchestrator.errors import InputError

DIAMOND = """\
FROM alpine AS base
FROM base AS left
FROM base AS right
FROM busybox AS unused
FROM scratch AS final
COPY --from=left /a /a
COPY --from=2 /b /b
RUN --mount=from=tools,target=/t x
COPY --from=golang:1 /go /go
"""


def names(needed: tuple[NeededStage, ...]) -> list[str]:
    return [item.stage.name for item in needed]


def test_a_stage_comes_after_those_it_needs_and_what_nobody_needs_is_left_out() -> None:
    needed = needed_stages(parse(DIAMOND, "D"), contexts=["tools"])
    assert names(needed) == ["base", "left", "right", "final"]
    final = needed[-1]
    assert final.needs == {1, 2}
    assert final.base == Source(Origin.SCRATCH)
    assert final.sources == {
        "left": Source(Origin.STAGE, "left", 1),
        "2": Source(Origin.STAGE, "2", 2),
        "tools": Source(Origin.CONTEXT, "tools"),
        "golang:1": Source(Origin.IMAGE, "golang:1"),
    }


@pytest.mark.parametrize(("target", "expected"), [("LEFT", ["base", "left"]), ("3", ["unused"]), ("", None)])
def test_a_target_is_a_name_or_a_number_or_the_last_one(target: str, expected: list[str] | None) -> None:
    assert names(needed_stages(parse(DIAMOND, "D"), target)) == (expected or ["base", "left", "right", "final"])


def test_a_context_stands_in_for_a_stage_and_for_an_image() -> None:
    needed = needed_stages(parse(DIAMOND, "D"), "left", contexts=["base"])
    assert names(needed) == ["left"]
    assert needed[0].base == Source(Origin.CONTEXT, "base")


def test_a_base_is_an_earlier_stage_and_a_later_one_of_that_name_is_an_image() -> None:
    needed = needed_stages(parse("FROM b AS a\nFROM a AS b\n", "D"))
    assert needed[0].base == Source(Origin.IMAGE, "b")
    assert needed[1].base == Source(Origin.STAGE, "a", 0)


def test_arguments_choose_the_base_and_the_platform() -> None:
    text = "ARG V=1\nARG I=app-$V\nFROM x AS app-1\nFROM y AS app-2\nFROM --platform=$BUILDPLATFORM $I AS last\n"
    platform = platform_arguments("linux/amd64", "linux/arm64/v8")
    needed = needed_stages(parse(text, "D"), given={"V": "2"}, platform=platform)
    assert names(needed) == ["app-2", "last"]
    assert needed[-1].platform == "linux/amd64"


@pytest.mark.parametrize(
    ("text", "target", "place", "sentence"),
    [
        (DIAMOND, "finl", "D", 'there is no stage "finl" (did you mean "final"?)'),
        (DIAMOND, "9", "D", 'there is no stage "9"'),
        ("FROM a\nCOPY --from=7 /a /a\n", "", "D:2", "there is no stage 7"),
        ("FROM $NOPE\n", "", "D:1", "the base of FROM $NOPE is empty"),
        ("FROM --platform=$X a\n", "", "D:1", "the platform of FROM --platform=$X is empty"),
        ("ARG A='x\nFROM a\n", "", "D:1", None),
        ("FROM a AS a1\nCOPY --from=a1 /a /a\n", "", "D:1", "the stages need each other in a circle: a1 -> a1"),
        (
            "FROM x AS a\nCOPY --from=c / /\nFROM a AS b\nFROM x AS c\nCOPY --from=b / /\n", "c", "D:4",
            "the stages need each other in a circle: c -> b -> a -> c",
        ),
    ],
)  # fmt: skip
def test_stages_that_cannot_be_built_are_told(text: str, target: str, place: str, sentence: str | None) -> None:
    with pytest.raises(InputError) as caught:
        needed_stages(parse(text, "D"), target)
    assert caught.value.place == place
    assert sentence is None or caught.value.message.split("\n")[0] == sentence


def test_a_mistake_in_a_stage_that_nobody_needs_is_none() -> None:
    assert names(needed_stages(parse("FROM $X AS bad\nFROM scratch AS good\n", "D"))) == ["good"]


def test_more_than_a_thousand_stages_in_a_row_need_no_recursion() -> None:
    text = "FROM scratch AS s0\n" + "".join(f"FROM s{n} AS s{n + 1}\n" for n in range(1200))
    assert len(needed_stages(parse(text, "D"))) == 1201


def test_a_trigger_of_a_base_may_name_a_stage_too() -> None:
    assert source_of(parse(DIAMOND, "D"), "Right") == Source(Origin.STAGE, "Right", 2)


def test_platform_arguments_have_all_parts() -> None:
    found = platform_arguments("linux/amd64", "linux/arm/v7", "web")
    assert {name: found[name] for name in ("BUILDARCH", "BUILDVARIANT", "TARGETOS", "TARGETARCH", "TARGETVARIANT")} == {
        "BUILDARCH": "amd64", "BUILDVARIANT": "", "TARGETOS": "linux", "TARGETARCH": "arm", "TARGETVARIANT": "v7",
    }  # fmt: skip
    assert found["TARGETSTAGE"] == "web"


def test_what_is_given_wins_over_the_default_and_the_default_over_what_is_above() -> None:
    dockerfile = parse("ARG A=1 B=${A}2 C D=4\nFROM scratch\nARG A\nARG D=${A}x\nARG E\n", "D")
    outer = global_arguments(dockerfile, {"A": "9"}, {})
    assert outer == {"A": "9", "B": "92", "D": "4"}
    known: dict[str, str] = {}
    found = []
    for item in dockerfile.stages[0].instructions:
        assert isinstance(item, Arg)
        for name, value in declared(item, known, {"A": "9"}, outer, "\\"):
            found.append((name, value))
            known |= {} if value is None else {name: value}
    assert found == [("A", "9"), ("D", "9x"), ("E", None)]


def test_arguments_that_nothing_declares_are_named_and_predefined_ones_are_not() -> None:
    dockerfile = parse("ARG A\nFROM scratch\nARG B\n", "D")
    given = dict.fromkeys(["A", "B", "X", "http_proxy", "SOURCE_DATE_EPOCH", "BUILDKIT_INLINE_CACHE"], "1")
    assert unused(dockerfile, given) == ("X",)
