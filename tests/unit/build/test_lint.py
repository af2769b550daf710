"""Warnings, by BuildKit's names."""

from __future__ import annotations

import pytest

from orchestrator.build.frontend import parse, stage_findings
from orchestrator.build.ignore import parse_ignore
from orchestrator.errors import InputError

DESCRIBED = "InvalidDefinitionDescription"


def warnings(text: str) -> list[tuple[str, int]]:
    return [(item.rule, item.line) for item in parse(text, "D").warnings]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM scratch AS Web\n", [("StageNameCasing", 1)]),
        ("FROM scratch as web\n", [("FromAsCasing", 1)]),
        ("from scratch AS web\n", [("FromAsCasing", 1)]),
        ("From scratch as web\n", [("ConsistentInstructionCasing", 1)]),
        ("FROM scratch\nRUN a \\\n\n b\n", [("NoEmptyContinuation", 4)]),
        ("FROM scratch\ncopy a /b\nCOPY a /b\n", [("ConsistentInstructionCasing", 2)]),
        ("from scratch\ncopy a /b\nCOPY a /b\n", [("ConsistentInstructionCasing", 3)]),
        ("FROM scratch AS a\nFROM scratch AS a\n", [("DuplicateStageName", 2)]),
        ("FROM alpine AS scratch\nFROM alpine AS context\n", [("ReservedStageName", 1), ("ReservedStageName", 2)]),
        ("FROM scratch\nCMD run\nENTRYPOINT run\n", [("JSONArgsRecommended", 2), ("JSONArgsRecommended", 3)]),
        ('FROM scratch\nSHELL ["/bin/zsh"]\nCMD run\n', []),
        ("FROM scratch\nMAINTAINER me\n", [("MaintainerDeprecated", 2)]),
        ("FROM alpine:${V}\n", [("UndefinedArgInFrom", 1), ("InvalidDefaultArgInFrom", 1)]),
        ("FROM --platform=$BULIDPLATFORM alpine\n", [("UndefinedArgInFrom", 1)]),
        ("FROM alpine:${V:-3}\n", []),
        ("ARG V\nFROM $V\n", [("InvalidDefaultArgInFrom", 2)]),
        ("ARG V=3\nFROM --platform=$BUILDPLATFORM alpine:$V\n", []),
        ("FROM scratch\nWORKDIR app\nWORKDIR sub\n", [("WorkdirRelativePath", 2)]),
        ("FROM scratch AS a\nWORKDIR /app\nFROM a\nWORKDIR sub\n", []),
        ('FROM scratch\nCMD ["a"]\nCMD ["b"]\n', [("MultipleInstructionsDisallowed", 2)]),
        ('FROM scratch AS a\nCMD ["a"]\nFROM a\nCMD ["b"]\n', []),
        ("FROM scratch\nENV a b\nLABEL a b\n", [("LegacyKeyValueFormat", 2), ("LegacyKeyValueFormat", 3)]),
        ("FROM --platform=${TARGETPLATFORM} scratch\n", [("RedundantTargetPlatform", 1)]),
        ("FROM --platform=linux/arm64 alpine AS web\n", [("FromPlatformFlagConstDisallowed", 1)]),
        ("FROM --platform=linux/arm64 alpine AS web-arm64\n", []),
        ("FROM scratch\nARG API_TOKEN\nENV password=a\n", [("SecretsUsedInArgOrEnv", 2), ("SecretsUsedInArgOrEnv", 3)]),
        ("FROM scratch\nARG PUBLIC_KEY\nENV PASSWORD_FILE=a monkey=b\n", []),
        ("FROM scratch\nEXPOSE 80/TCP 81/tcp\n", [("ExposeProtoCasing", 2)]),
        ("FROM scratch\nEXPOSE 127.0.0.1:80:80\n", [("ExposeInvalidFormat", 2)]),
        ("# about it\nFROM scratch AS a\n", []),
        ("# check=experimental=all\n\n# about it\nFROM scratch AS a\n", [(DESCRIBED, 4)]),
        ("# check=experimental=all\n\n# a is it\nFROM scratch AS a\n", []),
    ],
)
def test_what_is_legal_and_probably_not_meant_is_a_warning(text: str, expected: list[tuple[str, int]]) -> None:
    assert warnings(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "# check=skip=all\nFROM scratch as Web\n",
        "# syntax=x\n# check=skip=FromAsCasing,StageNameCasing\nFROM scratch as Web\n",
        "ARG A\n# check=skip=FromAsCasing // it is old\n# check=skip=StageNameCasing\nFROM scratch as Web\n",
    ],
)
def test_a_comment_switches_a_rule_off(text: str) -> None:
    assert warnings(text) == []


def test_a_dockerfile_can_ask_for_warnings_to_be_mistakes() -> None:
    with pytest.raises(InputError) as caught:
        parse("# check=error=true\nFROM scratch as a\n", "D")
    assert caught.value.place == "D:2"
    assert caught.value.message.startswith("FROM and as should have the same case (FromAsCasing)\n")


def test_variables_are_undefined_by_what_the_base_and_the_lines_above_define() -> None:
    dockerfile = parse("FROM alpine\nARG V\nENV A=$V B=$NOPE\nWORKDIR $A/$HOME\nUSER $PTAH\nRUN $X\n", "D")
    found = stage_findings(dockerfile, dockerfile.stages[0], ["PATH", "HOME"])
    assert [(item.rule, item.line, item.message) for item in found] == [
        ("UndefinedVar", 3, "the variable NOPE is not defined"),
        ("UndefinedVar", 5, 'the variable PTAH is not defined (did you mean "PATH"?)'),
    ]


def test_a_source_that_the_ignore_file_excludes_is_a_warning_if_asked_for() -> None:
    text = "FROM scratch\nCOPY ./tmp/a b /\nADD tmp/* /\nCOPY --from=x tmp /\n"
    ignore = parse_ignore("tmp\n", ".dockerignore")
    quiet, loud = parse(text, "D"), parse(f"# check=experimental=CopyIgnoredFile\n{text}", "D")
    assert stage_findings(quiet, quiet.stages[0], [], ignore.ignores) == ()
    assert [(item.rule, item.line) for item in stage_findings(loud, loud.stages[0], [], ignore.ignores)] == [
        ("CopyIgnoredFile", 3)
    ]
