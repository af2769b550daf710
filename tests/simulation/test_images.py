"""Images of an operation: got anew before the plan where a policy wants it, once each, and in the order of their builds."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from orchestrator.contracts.control import Recreate
from orchestrator.contracts.events import EventKind
from orchestrator.contracts.images import Image, ImageRequest, Progress
from orchestrator.errors import OperationError
from orchestrator.model.build import BuildSpec, PullPolicy
from orchestrator.model.phase import Phase
from orchestrator.plan.plan import Verb
from orchestrator.scheduler.engine import Engine
from orchestrator.testing.build import project, service
from orchestrator.testing.fake_images import FakeImages
from orchestrator.testing.world import World
from orchestrator.values import replace
from tests.simulation.stage import do, row, simulate, up

ALWAYS = PullPolicy("always")
DAILY = replace(service("daily"), image="redis:7", pull_policy=ALWAYS)
BASE = replace(service("base"), image="base", build=BuildSpec("/srv"))
APP = replace(
    service("app"), image="app", build=BuildSpec("/srv", additional_contexts=(("base", "service:base"),))
)


def test_what_a_policy_wants_anew_is_got_before_the_plan_and_replaces_the_container() -> None:
    async def body(engine: Engine, world: World) -> None:
        stack = project(DAILY, service("other"))
        await up(engine, stack)
        world.images.due["redis:7"] = "newer"
        assert (await up(engine, stack)).changed == 1
        assert (await up(engine, stack)).changed == 0
        assert world.images.obtained == ["redis:7", "redis:7"]

    simulate(World, body)


def test_a_change_of_the_policy_alone_replaces_nothing() -> None:
    async def body(engine: Engine, world: World) -> None:
        await up(engine, project(DAILY))
        for policy in (PullPolicy("never"), PullPolicy("missing"), PullPolicy("refresh", 60.0), PullPolicy("build")):
            assert (await up(engine, project(replace(DAILY, pull_policy=policy)))).changed == 0
        assert world.images.obtained == []

    simulate(World, body)


def test_two_services_of_one_missing_image_get_it_once() -> None:
    async def body(engine: Engine, world: World) -> None:
        world.images.unmade.add("redis:7")
        assert (await up(engine, project(DAILY, replace(DAILY, name=service("twin").name)))).ok
        assert world.images.obtained == ["redis:7"]

    simulate(World, body)


def test_what_a_build_takes_something_from_is_there_before_it_and_made_once() -> None:
    async def body(engine: Engine, world: World) -> None:
        world.images.unmade.update(("base", "app"))
        assert (await up(engine, project(APP, BASE))).ok
        assert world.images.obtained == ["base", "app"]

    simulate(World, body)


def test_builds_that_are_due_follow_what_they_take_something_from() -> None:
    async def body(engine: Engine, world: World) -> None:
        policy = PullPolicy("build")
        world.images.due.update({"base": "newer", "app": "newer"})
        assert (await up(engine, project(replace(APP, pull_policy=policy), replace(BASE, pull_policy=policy)))).ok
        assert world.images.obtained == ["base", "app"]

    simulate(World, body)


def test_each_command_gets_images_as_its_own_caller() -> None:
    """Two of them may be under way at once, of users with credentials of their own."""

    async def body(engine: Engine, world: World) -> None:
        stack = project(replace(service("a"), image="a"), APP, BASE)
        world.images.unmade.update(("a", "base", "app"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(up, engine, stack, "a", registry={"HOME": "/root"}))
            nursery.start_soon(partial(up, engine, stack, "app", registry={"HOME": "/home/u"}))
        of = {name: environ["HOME"] for name, environ in world.images.environs.items()}
        assert of == {"a": "/root", "base": "/home/u", "app": "/home/u"}
        world.images.due["redis:7"] = "newer"
        await up(engine, project(DAILY), registry={"HOME": "/srv"})
        assert world.images.environs["redis:7"] == {"HOME": "/srv"}

    simulate(World, body)


def test_an_up_whose_images_cannot_be_had_leaves_no_network() -> None:
    class Refusing(FakeImages):
        async def obtain(self, request: ImageRequest, progress: Progress) -> Image:
            raise OperationError(f'cannot pull "{request.reference}"')

    def world() -> World:
        made = World()
        made.images = Refusing(unmade=("a", "b"))
        return made

    async def body(engine: Engine, world: World) -> None:
        stack = project(replace(service("a"), image="a"), replace(service("b"), image="b"))
        outcome = await up(engine, stack)
        assert not outcome.ok
        assert world.networking.networks == {}
        assert await world.runtime.containers() == ()
        seen = len(world.events)
        assert (await do(engine, Verb.DOWN)).ok
        removed = [event for event in world.events[seen:] if event.kind is EventKind.NETWORK_REMOVED]
        assert removed == []  # It was removed when the up failed.

    simulate(world, body)


class Endless(FakeImages):
    """Getting an image takes for ever. `ended`: what somebody gave up."""

    ended: tuple[str, ...] = ()

    async def obtain(self, request: ImageRequest, progress: Progress) -> Image:
        try:
            await trio.sleep_forever()
        finally:
            self.ended += (request.reference,)


def test_a_build_that_nobody_waits_for_any_more_ends_with_what_it_was_for() -> None:
    def world() -> World:
        made = World()
        made.images = Endless(unmade=("a", "b"))
        return made

    async def body(engine: Engine, world: World) -> None:
        stack = project(
            replace(service("one"), image="a"), replace(service("two"), image="a"), replace(service("three"), image="b")
        )
        images = world.images
        assert isinstance(images, Endless)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(up, engine, stack)
            await trio.sleep(1)
            await do(engine, Verb.STOP, "one")
            assert sorted(images.ended) == []  # The other one still needs it.
            await do(engine, Verb.STOP, "two")
            assert sorted(images.ended) == ["a"]
            assert (await do(engine, Verb.DOWN)).ok
            assert sorted(images.ended) == ["a", "b"]
        assert not engine.running()
        assert world.state.load() is None

    simulate(world, body)


def test_an_up_that_gets_images_anew_does_not_come_after_the_down_of_all() -> None:
    def world() -> World:
        made = World()
        made.images = Endless()
        made.images.due["redis:7"] = "newer"
        return made

    async def body(engine: Engine, world: World) -> None:
        errors: list[str] = []

        async def try_up() -> None:
            try:
                await up(engine, project(DAILY))
            except OperationError as error:
                errors.append(error.message)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(try_up)
            await trio.sleep(1)
            assert (await do(engine, Verb.DOWN)).ok
            assert not engine.running()
        assert errors == ['getting images: taken over by "down"']
        assert world.runtime.existing() == ()

    simulate(world, body)


def test_a_service_whose_build_failed_is_not_named_beside_its_own_error() -> None:
    class Failing(FakeImages):
        async def obtain(self, request: ImageRequest, progress: Progress) -> Image:
            raise OperationError("RUN false ended with exit code 1\n  > 2 | RUN false", place="app/Dockerfile:2")

    def world() -> World:
        made = World()
        made.images = Failing(unmade=("app", "base"))
        return made

    async def body(engine: Engine, world: World) -> None:
        outcome = await up(engine, project(APP, BASE, service("other")))
        error = outcome.error()
        assert error is not None
        assert str(error) == "app/Dockerfile:2: RUN false ended with exit code 1\n  > 2 | RUN false"

    simulate(world, body)


def test_nothing_is_given_up_for_an_image_that_cannot_be_had() -> None:
    class Refusing(FakeImages):
        async def obtain(self, request: ImageRequest, progress: Progress) -> Image:
            if request.reference == "typo":
                raise OperationError('cannot pull "typo"')
            return await super().obtain(request, progress)

    def world() -> World:
        made = World()
        made.images = Refusing(unmade=("typo", "new"))
        return made

    async def body(engine: Engine, world: World) -> None:
        web, db = service("web", "db"), service("db", restart="always")
        await up(engine, project(web, db))
        before, acts = world.runtime.existing(), len(world.runtime.acts)
        wrong = project(web, replace(db, image="typo"))
        with pytest.raises(OperationError, match="cannot pull"):
            await up(engine, wrong)
        assert (world.runtime.existing(), len(world.runtime.acts)) == (before, acts)
        assert row(engine, "db").phase is row(engine, "web").phase is Phase.RUNNING
        assert (await up(engine, wrong, recreate=Recreate.NEVER)).changed == 0
        new = service("new")
        outcome = await up(engine, project(web, db, replace(new, image="typo")))
        assert not outcome.ok, "it has nothing to lose: its image is an operation of the plan"
        assert row(engine, "new").phase is Phase.FAILED
        assert (await up(engine, project(web, replace(db, image="new"), service("other")))).changed == 2
        assert world.images.obtained == ["new"]

    simulate(world, body)
