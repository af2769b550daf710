"""Which containers a plan lets take turns, and in which order their operations can be done."""

from __future__ import annotations

from orchestrator.contracts.runtime import Exit
from orchestrator.model.names import NetworkName, ServiceName
from orchestrator.model.network import Network, Subnet
from orchestrator.model.project import Project
from orchestrator.model.updating import Order, UpdateRules
from orchestrator.plan.plan import Kind, Plan, linear
from orchestrator.testing.build import HEALTHY, edge, project, service
from orchestrator.values import replace
from tests.unit.plan.test_reconcile import seen, up

WEB = ServiceName("web")
START_FIRST = UpdateRules(Order.START_FIRST)


def stack(version: int, rules: UpdateRules | None = START_FIRST) -> Project:
    web = service("web", edge("db", HEALTHY), environment={"V": str(version)}, replicas=2, update=rules)
    front = service("front", edge("web", HEALTHY, restart=True))
    return project(web, service("db", environment={"V": str(version)}), front)


TWO: dict[str, tuple[int, ...]] = {"web": (1, 2)}


def pairs(plan: Plan) -> list[tuple[str, str]]:
    return [(slot.old, slot.new) for roll in plan.rolls for slot in roll.slots]


def test_rules_alone_are_no_change_and_without_them_all_are_replaced_at_once() -> None:
    same = replace(stack(1).services[WEB], update=UpdateRules(delay_s=9.0))
    changed = replace(stack(1), services={**stack(1).services, WEB: same})
    assert up(changed, seen(stack(1), scale=TWO)).empty
    plan = up(stack(2, None), seen(stack(1), scale=TWO))
    assert plan.rolls == ()
    assert not plan.of(Kind.ANNOUNCE, Kind.WATCH)


def test_a_replica_that_does_not_run_is_made_anew_and_has_no_successor() -> None:
    plan = up(stack(2), seen(stack(1), scale=TWO, stopped={"web": Exit(code=1)}))
    assert pairs(plan) == [("demo-web-1", "demo-web-1"), ("demo-web-2", "demo-web-2")]
    assert not plan.of(Kind.ANNOUNCE)


def test_new_anonymous_volumes_mean_stop_first() -> None:
    plan = up(stack(2), seen(stack(1), scale=TWO), renew_volumes=True)
    assert pairs(plan) == [("demo-web-1", "demo-web-1"), ("demo-web-2", "demo-web-2")]


def test_containers_that_are_only_made_take_no_turns() -> None:
    assert up(stack(2), seen(stack(1), scale=TWO), start=False).rolls == ()


def test_a_network_that_is_made_anew_takes_all_of_them_off_it_at_once() -> None:
    default = NetworkName("default")
    moved = replace(
        stack(2), networks={default: Network(default, "demo_default", subnets=(Subnet("10.9.0.0/24"),))}
    )
    plan = up(moved, seen(stack(1), scale=TWO))
    assert plan.rolls == ()
    assert len(linear(plan.operations)) == len(plan.operations)


def test_nothing_waits_for_a_turn_that_waits_for_it() -> None:
    for rules in (START_FIRST, UpdateRules()):
        plan = up(stack(2, rules), seen(stack(1), scale=TWO))
        done: set[str] = set()
        for item in linear(plan.operations):
            assert done.issuperset(item.after), item.id
            done.add(item.id)
        by_id = {item.id: item for item in plan.operations}
        stops = {name: item for name, item in by_id.items() if item.kind is Kind.STOP}
        # What db, which web needs, is stopped after is not what takes turns: that starts only when db is there again.
        db = next(item for item in stops.values() if item.service == "db")
        assert not any(by_id[name].service == "web" for name in db.after)
        front = next(item for item in stops.values() if item.service == "front")
        announced = {item.id for item in plan.of(Kind.ANNOUNCE)}
        assert announced == {name for name in front.after if by_id[name].service == "web"}


def test_the_former_definition_is_kept_for_going_back() -> None:
    (roll,) = up(stack(2), seen(stack(1), scale=TWO)).rolls
    assert (roll.service, roll.former.environment["V"], roll.former_image) == ("web", "1", "id-of-host")
