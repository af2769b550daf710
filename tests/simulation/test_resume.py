"""A machine that goes down and comes up again: what ran runs again, and nothing else does."""

from __future__ import annotations

from orchestrator.contracts.control import Start, Stop
from orchestrator.plan.plan import Verb
from orchestrator.scheduler.engine import Engine
from orchestrator.testing.build import COMPLETED, HEALTHY, check, edge, project, service
from orchestrator.testing.fake_runtime import FakeService
from orchestrator.testing.world import World
from tests.simulation.stage import do, simulate, started, two_lives, up

STACK = project(
    service("db", healthcheck=check(1, retries=99)),
    service("migrate", edge("db", HEALTHY)),
    service("web", edge("db", HEALTHY), edge("migrate", COMPLETED), restart="always"),
    service("plain"),
    service("manual", restart="unless-stopped"),
)
RUNNING = {"db", "web", "plain"}


def world() -> World:
    return World({"db": FakeService(healthy_after_s=3), "migrate": FakeService(exits_after_s=1)})


def alive(here: World) -> set[str]:
    return {here.service_of(name) for name in here.runtime.alive()}


async def _bring_up(engine: Engine, here: World) -> None:
    assert (await up(engine, STACK, wait=True)).ok
    await do(engine, Verb.STOP, "manual")
    assert alive(here) == RUNNING


async def _comes_back(engine: Engine, here: World) -> None:
    before = len(here.runtime.acts)
    assert (await engine.operate(Start(resume=True))).ok
    assert alive(here) == RUNNING
    acts = list(here.runtime.acts)[before:]
    again = {here.service_of(act.container): act.at_s for act in acts if act.what == "start"}
    assert again.keys() == RUNNING
    assert again["web"] >= again["db"] + 3, "the conditions hold again"
    assert (await engine.operate(Start(resume=True))).changed == 0


def test_what_was_halted_starts_again_and_what_was_stopped_by_hand_or_had_ended_stays() -> None:
    async def body(engine: Engine, here: World) -> None:
        await _bring_up(engine, here)
        assert (await engine.operate(Stop(halt=True))).ok
        assert alive(here) == set()
        await _comes_back(engine, here)

    simulate(world, body)


def test_also_over_a_reboot() -> None:
    async def first(engine: Engine, here: World) -> None:
        await _bring_up(engine, here)
        assert (await engine.operate(Stop(halt=True))).ok

    async def away(here: World) -> None:
        here.reboot()

    two_lives(world, first, _comes_back, away)


def test_what_a_power_cut_took_starts_again_whatever_its_restart_policy() -> None:
    async def away(here: World) -> None:
        here.reboot()

    async def second(engine: Engine, here: World) -> None:
        assert (await engine.operate(Start(resume=True))).ok
        assert alive(here) == RUNNING
        assert "manual" not in alive(here)

    two_lives(world, _bring_up, second, away)


def test_a_stop_by_hand_after_a_halt_counts() -> None:
    async def body(engine: Engine, here: World) -> None:
        await _bring_up(engine, here)
        await engine.operate(Stop(halt=True))
        assert (await do(engine, Verb.START, "plain")).ok
        await do(engine, Verb.STOP, "plain")
        await engine.operate(Start(resume=True))
        assert alive(here) == {"db", "web"}
        assert set(started(here)) == {*RUNNING, "migrate", "manual"}

    simulate(world, body)
