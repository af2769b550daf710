"""What builds have as secrets from variables reaches the builder, and is not recorded."""

from __future__ import annotations

import json

from orchestrator.contracts.images import Image, ImageRequest, Progress
from orchestrator.model.build import BuildSecret, BuildSpec
from orchestrator.model.codec import to_json
from orchestrator.scheduler.engine import Engine
from orchestrator.testing.build import project, service
from orchestrator.testing.fake_images import FakeImages
from orchestrator.testing.world import World
from tests.simulation.stage import simulate, up

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
