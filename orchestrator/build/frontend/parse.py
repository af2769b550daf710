"""A Dockerfile's text becomes a `Dockerfile`: stages of instructions. The first mistake is the error."""

from __future__ import annotations

import re

from orchestrator.build.frontend.directives import read_check
from orchestrator.build.frontend.flags import read_flags
from orchestrator.build.frontend.lint import Written, text_findings
from orchestrator.build.frontend.mistakes import mistake
from orchestrator.build.frontend.reading import read_instruction
from orchestrator.build.frontend.syntax import Line, read_lines
from orchestrator.build.instructions import Arg, Dockerfile, Instruction, Lines, Stage
from orchestrator.errors import InputError
from orchestrator.values import replace

_STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*")


def parse(text: str, name: str) -> Dockerfile:
    """The Dockerfile `text`, which messages call `name`. Raises InputError with place and excerpt for a mistake in it."""
    syntax = read_lines(text, name)
    if not syntax.lines:
        raise InputError("the Dockerfile has no instructions", hint="it begins with FROM, as in: FROM alpine", place=name)
    written: list[Written] = []
    globals_: list[Arg] = []
    stages: list[Stage] = []
    body: list[Instruction] = []
    for line in syntax.lines:
        try:
            if line.name == "FROM":
                if stages:
                    stages[-1] = replace(stages[-1], instructions=tuple(body))
                body = []
                stages.append(_stage(line, len(stages)))
                written.append(Written(line, stages[-1], len(stages) - 1))
                continue
            instruction = read_instruction(line)
            if stages:
                body.append(instruction)
            elif isinstance(instruction, Arg):
                globals_.append(instruction)
            else:
                raise InputError(f"{line.name} comes before the first FROM", hint="only ARG may: put FROM above it")
        except InputError as exc:
            raise mistake(text, name, line.place, exc.message, exc.hint) from exc
        written.append(Written(line, instruction, len(stages) - 1))
    if not stages:
        raise mistake(text, name, syntax.lines[-1].place, "there is no FROM", "add FROM and an image, or FROM scratch")
    stages[-1] = replace(stages[-1], instructions=tuple(body))
    found = Dockerfile(text, name, syntax.escape, tuple(globals_), tuple(stages))
    findings = text_findings(found, written, syntax.empty_continuations)
    if findings and read_check(text).error:
        first = findings[0]
        raise mistake(
            text, name, Lines(first.line, first.line), f"{first.message} ({first.rule})",
            f"the Dockerfile says check=error=true; # check=skip={first.rule} above the line allows it",
        )  # fmt: skip
    return replace(found, warnings=findings)


def _stage(line: Line, number: int) -> Stage:
    flags = read_flags("FROM", line.flags)
    args = line.args
    if len(args) not in (1, 3):
        raise InputError("FROM needs an image, or an image, AS and a name", hint="such as: FROM alpine AS build")
    name = ""
    if len(args) == 3:
        if args[1].upper() != "AS":
            example = f"such as: FROM {args[0]} AS {args[2]}"
            raise InputError(f'FROM {args[0]}: "{args[1]}" where AS should be', hint=example)
        name = args[2].lower()
        if _STAGE_NAME.fullmatch(name) is None:
            raise InputError(
                f'"{args[2]}" is no name of a stage', hint="it begins with a letter; letters, digits, _ . and - follow"
            )
    return Stage(number, name, args[0], flags.text("platform"), (), line.place, line.text)
