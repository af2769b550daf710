"""What builds and containers have as secrets from variables reaches them, and is not recorded."""

from __future__ import annotations

import json

from orchestrator.contracts.images import Image, ImageRequest, Progress
from orchestrator.contracts.runtime import SandboxSpec
from orchestrator.model.build import BuildSecret, BuildSpec
from orchestrator.model.codec import to_json
from orchestrator.model.granted import GrantedFile
from orchestrator.oci.inputs import SandboxInputs
from orchestrator.plan.plan import Verb
from orchestrator.scheduler.engine import Engine
from orchestrator.testing.build import project, service
from orchestrator.testing.fake_images import FakeImages
from orchestrator.testing.world import World
from orchestrator.values import replace
from tests.simulation.stage import do, simulate, two_lives, up

SPEC = BuildSpec("/app", secrets=(BuildSecret("token", environment="TOKEN", value="s3cret"), BuildSecret("key", "/key")))


class _Asked(FakeImages):
    """Notes what it is to build with."""

    def __init__(self) -> None:
        super().__init__(unmade=["app"])
        self.builds: list[BuildSpec | None] = []

    async def obtain(self, request: ImageRequest, progress: Progress) -> Image:
        self.builds.append(request.build)
        return await super().obtain(request, progress)


def world() -> World:
    made = World()
    made.images = _Asked()
    return made


def test_a_secret_from_a_variable_reaches_the_builder_and_no_record() -> None:
    stack = project(service("web", image="app", build=SPEC))

    async def body(engine: Engine, world: World) -> None:
        assert (await up(engine, stack)).ok
        assert isinstance(world.images, _Asked)
        assert world.images.builds == [SPEC]
        record = world.state.load()
        assert record is not None
        assert "TOKEN" in json.dumps(to_json(record))
        assert "s3cret" not in json.dumps(to_json(record))

    simulate(world, body)


GRANTED = GrantedFile("/run/secrets/t", 'secret "t"', variable="TOKEN", content="s3cret", digest="d1")


def test_a_granted_secret_reaches_the_container_and_no_record() -> None:
    stack = project(service("web", files=(GRANTED, GrantedFile("/c", content="inline", digest="d2"))))

    async def body(engine: Engine, world: World) -> None:
        compiled, inner = [], engine._state.compile_sandbox

        def compile_sandbox(inputs: SandboxInputs) -> SandboxSpec:
            compiled.append([file.content for file in inputs.service.files])
            return inner(inputs)

        engine._state.compile_sandbox = compile_sandbox
        assert (await up(engine, stack)).ok
        assert compiled == [["s3cret", "inline"]]
        assert "s3cret" not in json.dumps(to_json(world.state.load()))
        assert (await up(engine, stack)).ok
        assert len(compiled) == 1, "the same secret is no change"
        assert (await up(engine, project(service("web", files=(replace(GRANTED, content="new", digest="d3"),))))).ok
        assert compiled[1:] == [["new"]]

    simulate(World, body)


def test_another_supervisor_leaves_what_it_does_not_know_to_the_bundle() -> None:
    stack = project(service("web", files=(GRANTED,)))
    compiled = []

    async def first(engine: Engine, world: World) -> None:
        assert (await up(engine, stack)).ok
        assert (await do(engine, Verb.STOP)).ok

    async def second(engine: Engine, world: World) -> None:
        inner = engine._state.compile_sandbox

        def compile_sandbox(inputs: SandboxInputs) -> SandboxSpec:
            compiled.append([file.content for file in inputs.service.files])
            return inner(inputs)

        engine._state.compile_sandbox = compile_sandbox
        assert (await do(engine, Verb.START)).ok

    two_lives(World, first, second)
    assert compiled
    assert all(contents == [None] for contents in compiled)
