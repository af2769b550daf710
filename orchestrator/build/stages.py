"""The stages of a build: each is a task, and begins at once. One that begins with another, or takes from it, waits for it
there.

    needed_stages --> a task a stage: base, triggers of the base, instructions one after the other --> what the target came
    to

A stage that fails cancels the others. What an ONBUILD of a base takes from is known late: that stage is begun then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import trio

from orchestrator.build import instructions as i
from orchestrator.build.bases import Ground
from orchestrator.build.configuration import SCRATCH, Scope
from orchestrator.build.failure import RunFailed, failed, refused
from orchestrator.build.frontend import (
    PROXIES,
    NeededStage,
    Origin,
    Source,
    declared,
    global_arguments,
    needed_stages,
    parse,
    read_check,
    source_of,
    stage_findings,
    warn,
)
from orchestrator.build.sources import Origins, Sources
from orchestrator.build.steps import Reached, Stepper, Telling
from orchestrator.contracts.images import Progress, Transfer
from orchestrator.errors import InputError, PystackError
from orchestrator.values import entity, field, frozen, replace

Ignored = Callable[[str], bool]


@frozen
class Arguments:
    """`given`: for the build. `platform`: `frontend.platform_arguments`."""

    given: Mapping[str, str]
    platform: Mapping[str, str]

    @property
    def ambient(self) -> dict[str, str]:
        return {name: value for name, value in self.given.items() if name in PROXIES}


@entity
class _Task:
    """`ground`, `arguments`: what the stage came to, and the ARGs it has by then, for those that begin with it."""

    needed: NeededStage
    done: trio.Event = field(default_factory=trio.Event)
    ground: Ground | None = None
    arguments: Mapping[str, str] = field(default_factory=dict)


class Stages:
    """`stepper`: makes that of a stage, by its name and its sources."""

    def __init__(
        self,
        dockerfile: i.Dockerfile,
        arguments: Arguments,
        origins: Origins,
        stepper: Callable[[i.Stage, Sources], Stepper],
        progress: Progress,
        label: str,
    ) -> None:
        self._dockerfile = dockerfile
        self._arguments = arguments
        self._origins = origins
        self._stepper = stepper
        self._progress = progress
        self._label = label
        self._tasks: dict[int, _Task] = {}
        self._nursery: trio.Nursery | None = None

    @property
    def _contexts(self) -> Collection[str]:
        return self._origins.contexts.keys()

    async def build(self, target: str) -> Ground:
        """What `target` came to. Raises PystackError, or a group of them."""
        needed = self._needed(target)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for each in needed:
                self._begin(each)
        ground = self._tasks[needed[-1].stage.number].ground
        assert ground is not None, "a stage that did not fail has come to something"
        return ground

    def _needed(self, target: str) -> tuple[NeededStage, ...]:
        given, platform = self._arguments.given, self._arguments.platform
        return needed_stages(self._dockerfile, target, given=given, platform=platform, contexts=self._contexts)

    def _begin(self, needed: NeededStage) -> None:
        if needed.stage.number not in self._tasks:
            self._tasks[needed.stage.number] = _Task(needed)
            assert self._nursery is not None, "stages are begun while a build runs"
            self._nursery.start_soon(self._build_stage, self._tasks[needed.stage.number])

    async def _result(self, number: int) -> Ground:
        task = self._tasks[number]
        await task.done.wait()
        assert task.ground is not None, "who waits for a stage that failed is cancelled"
        return task.ground

    async def _build_stage(self, task: _Task) -> None:
        needed = task.needed
        stage = needed.stage
        try:
            ground = await self._base(needed)
            triggers = [step for text in ground.triggers for step in self._trigger(text, needed)]
            arguments = self._arguments_of_base(needed)
            self._lint(stage, ground, arguments, await self._ignores(stage))
        except PystackError as exc:
            raise exc if exc.place else failed(self._dockerfile, stage, exc) from exc
        except OSError as exc:
            raise failed(self._dockerfile, stage, refused(exc)) from exc
        ground = replace(ground, triggers=())
        scope = Scope(ground.config, arguments, self._arguments.ambient, self._dockerfile.escape, author=ground.author)
        reached = Reached(ground, scope)
        stepper = self._stepper(stage, Sources(self._origins, self._meaning, self._result))
        steps = [*triggers, *((step, self._dockerfile) for step in stage.instructions)]
        for number, (instruction, dockerfile) in enumerate(steps, start=2):
            reached = await self._step(stepper, instruction, dockerfile, reached, self._part(stage, number, len(steps) + 1))
        task.ground = replace(reached.ground, config=reached.scope.config, author=reached.scope.author)
        task.arguments = reached.scope.arguments
        task.done.set()

    def _part(self, stage: i.Stage, number: int, count: int) -> str:
        """As BuildKit names it."""
        name = stage.name or (f"stage-{stage.number}" if len(self._dockerfile.stages) > 1 else "")
        return " ".join(word for word in (self._label, name, f"{number}/{count}") if word)

    async def _step(
        self, stepper: Stepper, instruction: i.Instruction, dockerfile: i.Dockerfile, reached: Reached, part: str
    ) -> Reached:
        self._progress(Transfer(part, "waiting", text=instruction.text))

        def done(action: str) -> None:
            self._progress(Transfer(part, action))

        def output(line: bytes) -> None:
            self._progress(Transfer(part, "building", text=line.decode("utf-8", "replace")))

        def sentence(text: str) -> None:
            self._progress(f"{dockerfile.name}:{instruction.place.line}: {text}")

        try:
            if isinstance(instruction, i.Arg):
                reached = replace(reached, scope=self._declare(instruction, reached.scope))
                done("done")
                return reached
            return await stepper.step(instruction, reached, Telling(done, output, sentence))
        except RunFailed as exc:
            done("failed")
            raise failed(dockerfile, instruction, exc.error, exc.output) from exc.error
        except PystackError as exc:
            done("failed")
            raise exc if exc.place else failed(dockerfile, instruction, exc) from exc
        except OSError as exc:
            done("failed")
            raise failed(dockerfile, instruction, refused(exc)) from exc

    def _declare(self, item: i.Arg, scope: Scope) -> Scope:
        given, platform = self._arguments.given, self._arguments.platform
        outer = global_arguments(self._dockerfile, given, platform)
        arguments = dict(scope.arguments)
        for name, value in declared(item, scope.variables, given, outer, scope.escape):
            if value is not None:
                arguments[name] = value
        return replace(scope, arguments=arguments)

    # Warnings.

    async def _ignores(self, stage: i.Stage) -> Ignored | None:
        """What the context leaves out, if a rule wants to know."""
        takes = any(isinstance(step, i.Add | i.Copy) for step in stage.instructions)
        if not takes or not read_check(self._dockerfile.text).wants("CopyIgnoredFile"):
            return None
        return await self._origins.ignores()

    def _lint(self, stage: i.Stage, ground: Ground, arguments: Mapping[str, str], ignores: Ignored | None) -> None:
        inherited = (str(pair).partition("=")[0] for pair in ground.config.get("Env") or ())
        names = {*inherited, *arguments, *PROXIES, *self._arguments.ambient}
        warn(self._dockerfile, stage_findings(self._dockerfile, stage, names, ignores), self._progress)

    # The base.

    async def _base(self, needed: NeededStage) -> Ground:
        part = self._part(needed.stage, 1, self._steps_of(needed))
        self._progress(Transfer(part, "waiting", text=needed.stage.text))
        match needed.base.origin:
            case Origin.SCRATCH:
                ground = Ground(config=SCRATCH)
            case Origin.STAGE:
                ground = await self._result(needed.base.number)
                ground = replace(ground, triggers=tuple(ground.config.get("OnBuild") or ()), config=_inherited(ground))
            case Origin.CONTEXT:
                ground = await self._origins.context_ground(needed.base.name, needed.platform)
            case Origin.IMAGE:
                ground = await self._origins.image(needed.base.name, needed.platform)
        self._progress(Transfer(part, "done"))
        return ground

    def _arguments_of_base(self, needed: NeededStage) -> Mapping[str, str]:
        """A stage that begins with another has its ARGs, as it has its ENV; who waited for `_base` may ask.

        Source: https://docs.docker.com/reference/dockerfile/#scope
        """
        return self._tasks[needed.base.number].arguments if needed.base.origin is Origin.STAGE else {}

    def _steps_of(self, needed: NeededStage) -> int:
        return len(needed.stage.instructions) + 1

    def _trigger(self, text: str, needed: NeededStage) -> list[tuple[i.Instruction, i.Dockerfile]]:
        """An ONBUILD of the base. Raises InputError."""
        found = parse(f"FROM scratch\n{text}", f"ONBUILD of {needed.base.name}")
        steps = found.stages[0].instructions
        for step in steps:
            for name in _names(step):
                source = self._meaning(name)
                if source.origin is Origin.STAGE:
                    self._begin_late(source.number, needed)
        return [(step, found) for step in steps]

    def _begin_late(self, number: int, needed: NeededStage) -> None:
        more = self._needed(str(number))
        if any(each.stage.number == needed.stage.number for each in more):
            raise InputError(f'an ONBUILD of {needed.base.name} takes from stage "{number}", which needs this one')
        for each in more:
            self._begin(each)

    def _meaning(self, name: str) -> Source:
        return source_of(self._dockerfile, name, self._contexts)


def _inherited(ground: Ground) -> Mapping[str, object]:
    return {key: value for key, value in ground.config.items() if key != "OnBuild" and value is not None}


def _names(step: i.Instruction) -> tuple[str, ...]:
    if isinstance(step, i.Copy):
        return (step.from_,) if step.from_ else ()
    if isinstance(step, i.Run):
        return tuple(mount.from_ for mount in step.mounts if mount.from_)
    return ()


