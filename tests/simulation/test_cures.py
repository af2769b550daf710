"""Who waits for a service that is unhealthy, and is cured by its restart policy, or not."""

from __future__ import annotations

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.contracts.control import Stop
from orchestrator.model.health import OnUnhealthy
from orchestrator.model.phase import Phase
from orchestrator.model.project import Project
from orchestrator.policy.conditions import PATIENCE_RUNS
from orchestrator.scheduler.engine import Engine
from orchestrator.testing import seeds
from orchestrator.testing.build import HEALTHY, check, edge, project, service
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.testing.world import World
from tests.simulation.stage import row, simulate, started, starts, up

ILL_AT_FIRST = FakeService(ill_after_s=(0.0,))


def stack(restart: str, on_unhealthy: OnUnhealthy = OnUnhealthy.RESTART) -> Project:
    db = service("db", restart=restart, healthcheck=check(1, retries=2), on_unhealthy=on_unhealthy, stop_grace_s=1.0)
    return project(db, service("web", edge("db", HEALTHY)))


def test_one_unhealthy_run_that_the_policy_cures_is_waited_out() -> None:
    async def scene(engine: Engine, world: World) -> None:
        assert (await up(engine, stack("always"), wait=True)).ok
        assert starts(world, "db") == [0.0, 2.1]
        assert starts(world, "web") == [3.1]

    simulate(lambda: World({"db": ILL_AT_FIRST}), scene)


def test_with_a_slow_stop_as_well() -> None:
    async def scene(engine: Engine, world: World) -> None:
        assert (await up(engine, stack("on-failure:1"), wait=True)).ok
        assert starts(world, "db") == [0.0, 3.1]

    simulate(lambda: World({"db": FakeService(ill_after_s=(0.0,), ignores_sigterm=True)}), scene)


def test_what_nobody_cures_is_given_up_at_once() -> None:
    async def scene(engine: Engine, world: World) -> None:
        for policy, means in (("no", OnUnhealthy.RESTART), ("always", OnUnhealthy.IGNORE), ("always", OnUnhealthy.STOP)):
            outcome = await up(engine, stack(policy, means))
            assert not outcome.ok
            assert row(engine, "web").phase is Phase.BLOCKED
            await engine.operate(Stop())
        assert "web" not in started(world)

    simulate(lambda: World({"db": FakeService(ill_after_s=(0.0,) * 9)}), scene)


def test_what_is_not_cured_in_five_runs_is_given_up() -> None:
    async def scene(engine: Engine, world: World) -> None:
        with trio.fail_after(60):
            outcome = await up(engine, stack("always"))
        assert not outcome.ok
        assert len(starts(world, "db")) == PATIENCE_RUNS
        assert "ended 5 times before it was healthy" in row(engine, "web").reason

    simulate(lambda: World({"db": FakeService(ill_after_s=(0.0,) * 99)}), scene)


def test_a_stop_while_it_is_being_cured_ends_the_wait() -> None:
    async def scene(engine: Engine, world: World) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(up, engine, stack("always"))
            await trio.sleep(2.5)
            with trio.fail_after(30):
                assert (await engine.operate(Stop())).ok
        assert world.runtime.alive() == ()
        assert "web" not in started(world)

    simulate(lambda: World({"db": FakeService(ill_after_s=(0.0,), ignores_sigterm=True)}), scene)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["ill", "crash", "late"]), max_size=PATIENCE_RUNS - 1),
    st.sampled_from(["always", "unless-stopped", "on-failure"]),
    st.floats(0, 2),
    st.integers(0, 1000),
)
def test_whatever_befell_the_runs_before_the_one_that_is_healthy_the_dependent_starts(
    troubles: list[str], restart: str, stops_after_s: float, seed: int
) -> None:
    behaviour = FakeService(
        ill_after_s=[0.0 if trouble != "crash" else None for trouble in troubles],
        crashes=[{"ill": 1e9, "crash": 0.5, "late": 1.5}[trouble] for trouble in troubles],
        stops_after_s=stops_after_s,
    )

    async def main() -> None:
        world = World({"db": behaviour})
        async with world.engine() as engine:
            with trio.fail_after(600):
                assert (await up(engine, stack(restart), wait=True)).ok
            assert len(starts(world, "db")) == len(troubles) + 1
            assert starts(world, "web")[0] >= starts(world, "db")[-1]

    seeds.run(main, seed=seed)
