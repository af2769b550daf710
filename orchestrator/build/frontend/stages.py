"""Which stages a target needs, and what each stands on: decided from FROM, COPY --from and RUN --mount=from=.

A name means, in this order: a named context that the build was given, a stage (FROM: an earlier one; elsewhere any one), an
image. A number means a stage. Stages that the target does not need are not built, and mistakes in their variables are none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from enum import Enum, auto

from orchestrator.build.frontend.arguments import global_arguments
from orchestrator.build.frontend.mistakes import located, mistake
from orchestrator.build.frontend.words import expand
from orchestrator.build.instructions import Copy, Dockerfile, Instruction, Run, Stage
from orchestrator.compose.text.diagnostics import did_you_mean
from orchestrator.errors import InputError
from orchestrator.values import frozen


class Origin(Enum):
    SCRATCH = auto()
    STAGE = auto()
    CONTEXT = auto()
    IMAGE = auto()


@frozen
class Source:
    """What a name means: the stage `number`, or the context or image `name`. `number` is -1 for what is no stage."""

    origin: Origin
    name: str = ""
    number: int = -1


@frozen
class NeededStage:
    """`base` and `platform` are expanded (`platform` "": the target's). `sources`: what COPY --from and the mounts of its
    instructions mean, by the name that they have there; `needs`: numbers of the stages that come before it."""

    stage: Stage
    base: Source
    platform: str
    sources: Mapping[str, Source]

    @property
    def needs(self) -> frozenset[int]:
        return frozenset(source.number for source in (self.base, *self.sources.values()) if source.number >= 0)


def needed_stages(
    dockerfile: Dockerfile,
    target: str = "",
    *,
    given: Mapping[str, str] | None = None,
    platform: Mapping[str, str] | None = None,
    contexts: Collection[str] = (),
) -> tuple[NeededStage, ...]:
    """The stages that `target` (a name or a number; "": the last one) needs, each after those it needs, the target last.

    `given`: build arguments; `platform`: `platform_arguments`; `contexts`: names of the named contexts. Raises InputError
    for an unknown target, a stage or a number that is not there, a circle, and a base that comes out empty.
    """
    last = _target(dockerfile, target)
    with located(dockerfile, dockerfile.globals[0] if dockerfile.globals else dockerfile.stages[0]):
        known = global_arguments(dockerfile, given or {}, platform or {})
    found: dict[int, NeededStage] = {}
    order: list[int] = []
    # Depth first, without recursion: a file may have thousands of stages. `path`: those whose needs are being looked at.
    path: list[tuple[int, Iterator[int]]] = []
    state = {last: "open"}
    found[last] = _needed(dockerfile, dockerfile.stages[last], known, contexts)
    path.append((last, iter(sorted(found[last].needs))))
    while path:
        number, ahead = path[-1]
        following = next(ahead, None)
        if following is None:
            path.pop()
            state[number] = "done"
            order.append(number)
        elif state.get(following) == "open":
            raise _circle(dockerfile, [step for step, _ in path], following)
        elif following not in state:
            state[following] = "open"
            found[following] = _needed(dockerfile, dockerfile.stages[following], known, contexts)
            path.append((following, iter(sorted(found[following].needs))))
    return tuple(found[number] for number in order)


def source_of(dockerfile: Dockerfile, name: str, contexts: Collection[str] = ()) -> Source:
    """What ``--from=NAME`` means, for an instruction of the Dockerfile or one that an ONBUILD of its base brought along.
    Raises InputError without a place."""
    if name in contexts:
        return Source(Origin.CONTEXT, name)
    if name.isascii() and name.isdecimal():
        if len(name) > 6 or int(name) >= len(dockerfile.stages):
            count = len(dockerfile.stages)
            raise InputError(f"there is no stage {name}", hint=f"the stages are 0 to {count - 1}, in the order of the file")
        return Source(Origin.STAGE, name, int(name))
    number = _numbered(dockerfile.stages).get(name.lower())
    if number is not None:
        return Source(Origin.STAGE, name, number)
    return Source(Origin.SCRATCH) if name == "scratch" else Source(Origin.IMAGE, name)


def froms(instruction: Instruction) -> tuple[str, ...]:
    """The names that an instruction takes files from."""
    if isinstance(instruction, Copy):
        return (instruction.from_,) if instruction.from_ else ()
    if isinstance(instruction, Run):
        return tuple(mount.from_ for mount in instruction.mounts if mount.from_)
    return ()


def base_of(dockerfile: Dockerfile, stage: Stage, known: Mapping[str, str], contexts: Collection[str] = ()) -> Source:
    """What FROM means, `known` being `global_arguments`. Raises InputError without a place."""
    name = expand(stage.base, known, dockerfile.escape)
    if not name:
        raise InputError(f"the base of FROM {stage.base} is empty", hint=_undefined_hint(stage.base))
    if name in contexts:
        return Source(Origin.CONTEXT, name)
    if name == "scratch":
        return Source(Origin.SCRATCH)
    number = _numbered(dockerfile.stages[: stage.number]).get(name.lower())
    return Source(Origin.STAGE, name, number) if number is not None else Source(Origin.IMAGE, name)


def _undefined_hint(word: str) -> str:
    return f"give the build argument that {word} names, or a default: ARG NAME=value above the first FROM"


def _numbered(stages: tuple[Stage, ...]) -> dict[str, int]:
    """Of two stages with one name the later one has it."""
    return {stage.name: stage.number for stage in stages if stage.name}


def _target(dockerfile: Dockerfile, target: str) -> int:
    if not target:
        return len(dockerfile.stages) - 1
    number = _numbered(dockerfile.stages).get(target.lower())
    if number is not None:
        return number
    if target.isascii() and target.isdecimal() and len(target) <= 6 and int(target) < len(dockerfile.stages):
        return int(target)
    names = [stage.name for stage in dockerfile.stages if stage.name]
    raise InputError(
        f'there is no stage "{target}"{did_you_mean(target, names)}', place=dockerfile.name,
        hint=f"the stages with a name are {', '.join(names)}" if names else "give a stage its name: FROM image AS NAME",
    )  # fmt: skip


def _needed(dockerfile: Dockerfile, stage: Stage, known: Mapping[str, str], contexts: Collection[str]) -> NeededStage:
    with located(dockerfile, stage):
        base = base_of(dockerfile, stage, known, contexts)
        platform = expand(stage.platform, known, dockerfile.escape)
        if stage.platform and not platform:
            near = did_you_mean(stage.platform.strip("${}"), known)
            raise InputError(f"the platform of FROM --platform={stage.platform} is empty{near}")
    sources = {}
    for instruction in stage.instructions:
        with located(dockerfile, instruction):
            for name in froms(instruction):
                sources[name] = source_of(dockerfile, name, contexts)
    return NeededStage(stage, base, platform, sources)


def _circle(dockerfile: Dockerfile, path: list[int], again: int) -> InputError:
    numbers = [*path[path.index(again) :], again]
    shown = " -> ".join(dockerfile.stages[number].name or str(number) for number in numbers)
    stage = dockerfile.stages[again]
    return mistake(
        dockerfile.text, dockerfile.name, stage.place, f"the stages need each other in a circle: {shown}",
        "COPY --from and RUN --mount=from= may take from stages that do not need this one",
    )  # fmt: skip
