"""Observed + wanted -> Plan, as golden texts."""

from __future__ import annotations

from functools import partial
from textwrap import dedent
from typing import Any

import pytest

from orchestrator.contracts.control import Down, Recreate, Remove, Restart, Selection, Start, Stop, Up
from orchestrator.contracts.network import Address, Endpoint
from orchestrator.contracts.runtime import ContainerState, Exit, Run
from orchestrator.contracts.state import ContainerRecord, Definition, Wanted
from orchestrator.errors import InputError, OperationError
from orchestrator.model.names import ContainerId, Instance, NetworkName, ServiceName, VolumeName, container_id, instance_id
from orchestrator.model.namespaces import Namespace, Namespaces, Sharing
from orchestrator.model.network import Network, Subnet
from orchestrator.model.project import Project
from orchestrator.model.service import Service
from orchestrator.model.volume import Volume, VolumesFrom
from orchestrator.plan.hashing import config_hash
from orchestrator.plan.observed import ObservedProject, observe
from orchestrator.plan.plan import Kind, Plan, linear
from orchestrator.plan.reconcile import plan_start, plan_up
from orchestrator.plan.sharing import shared_identities
from orchestrator.plan.teardown import plan_down, plan_remove, plan_restart, plan_stop
from orchestrator.testing.build import COMPLETED, HEALTHY, edge, project, service
from orchestrator.values import replace
from tests.counting import grows_like

STACK = project(
    service("web", edge("api", HEALTHY), networks=["front"]),
    service("api", edge("db", HEALTHY), edge("migrate", COMPLETED), networks=["back", "front"]),
    service("migrate", edge("db", HEALTHY), networks=["back"]),
    service("db", networks=["back"], volumes=["data:/var/lib/db"]),
)


def identities(stack: Project) -> dict[ServiceName, str]:
    return {name: f"id-of-{item.image}" for name, item in stack.services.items()}


def up(stack: Project, observed: ObservedProject, *selection: str, no_deps: bool = False, **options: Any) -> Plan:
    images = options.pop("images", None) or identities(stack)
    return plan_up(Up(stack, select(*selection, dependencies=not no_deps), **options), observed, images=images)


def select(*names: str, dependencies: bool = True) -> Selection:
    return Selection(tuple(ServiceName(name) for name in names), dependencies=dependencies)


def stop(stack: Project, observed: ObservedProject, *names: str, timeout_s: float | None = None) -> Plan:
    return plan_stop(Stop(select(*names), timeout_s), observed, stack)


def start(stack: Project, observed: ObservedProject, *names: str) -> Plan:
    return plan_start(Start(select(*names)), observed, stack)


def restart(stack: Project, observed: ObservedProject, *names: str, no_deps: bool = False) -> Plan:
    return plan_restart(Restart(select(*names, dependencies=not no_deps)), observed, stack)


def down(stack: Project, observed: ObservedProject, **options: Any) -> Plan:
    return plan_down(Down(**options), observed, stack)


def subjects(plan: Plan, *kinds: Kind) -> list[str]:
    """What the operations of these kinds (none: all) are called, without the kind."""
    found = plan.of(*kinds) if kinds else plan.operations
    return [plan.label(item).removeprefix(f"{item.kind.value} ") for item in found]


def labels(plan: Plan, *kinds: Kind) -> list[str]:
    return [plan.label(item) for item in (plan.of(*kinds) if kinds else plan.operations)]


def endpoint(network: str) -> Endpoint:
    address = Address("10.0.0.2", 24, "10.0.0.1")
    return Endpoint(NetworkName(network), (address,), "02:00:00:00:00:01", "eth0")


def recorded(stack: Project, item: Service, number: int = 1) -> ContainerRecord:
    instance = Instance(item.name, number=number)
    identity = f"id-of-{item.image}"
    return ContainerRecord(
        ContainerId(item.container_name) if item.container_name else instance_id(stack.name, instance),
        instance,
        Definition(item, identity, item.healthcheck),
        config_hash(stack, item, identity),
        endpoints=tuple(endpoint(key) for key in item.networks),
        boot_id="b1",
    )


def seen(
    stack: Project,
    *,
    stopped: dict[str, Exit | None] | None = None,
    gone: tuple[str, ...] = (),
    absent: tuple[str, ...] = (),
    leftovers: tuple[str, ...] = (),
    restarting: tuple[str, ...] = (),
    boot_id: str = "b1",
    scale: dict[str, tuple[int, ...]] | None = None,
    volumes: dict[str, str] | None = None,
    **changes: object,
) -> ObservedProject:
    """`stack` as it is when all of it runs, except for what the arguments say. `changes`: fields of every record. `scale`:
    the numbers of a service's replicas, where they are not just 1."""
    ended = stopped or {}
    records, sandboxes = [], []
    for name, item in stack.services.items():
        if name in absent:
            continue
        for number in (scale or {}).get(name, (1,)):
            record = replace(recorded(stack, item, number), **changes)
            records.append(record)
            if name not in gone:
                run = None if name in ended else Run(record.container, 1, 100, 0.0)
                sandboxes.append(ContainerState(record.container, run, 1, ended.get(name)))
    sandboxes += [ContainerState(container_id(stack.name, ServiceName(name))) for name in leftovers]
    return observe(
        stack,
        records,
        sandboxes,
        networks=stack.networks.values(),
        volumes={VolumeName(key): id for key, id in (volumes or dict.fromkeys(stack.volumes, "v1")).items()},
        boot_id=boot_id,
        restarting=[container_id(stack.name, ServiceName(name)) for name in restarting],
    )


def golden(plan: Plan, text: str) -> None:
    assert plan.render() == dedent(text).lstrip("\n")


def changed(stack: Project, name: str, **fields: object) -> Project:
    item = replace(stack.services[ServiceName(name)], **fields)
    return replace(stack, services={**stack.services, ServiceName(name): item})


def test_a_first_up_makes_networks_volumes_and_containers_and_starts_them_as_their_conditions_hold() -> None:
    golden(
        up(STACK, ObservedProject()),
        """
        up demo:
          create network back: does not exist yet
          create network front: does not exist yet
          create volume data: does not exist yet
          create db: not created yet [after create network back, create volume data]
          start db: created [after create db]
          create migrate: not created yet [after create network back]
          start migrate: created [after create migrate, db healthy]
          create api: not created yet [after create network back, create network front]
          start api: created [after create api, db healthy, migrate completed successfully]
          create web: not created yet [after create network front]
          start web: created [after create web, api healthy]
        """,
    )


def test_all_resources_are_networks_and_volumes_whoever_uses_them() -> None:
    network, volume = Network(NetworkName("spare"), "demo_spare"), Volume(VolumeName("kept"), "demo_kept")
    stack = replace(project(), networks={network.key: network}, volumes={volume.key: volume})
    assert up(stack, ObservedProject()).empty
    golden(
        up(stack, ObservedProject(), all_resources=True),
        """
        up demo:
          create network spare: does not exist yet
          create volume kept: does not exist yet
        """,
    )


def test_rm_removes_what_does_not_run_and_with_stop_all_but_one_offs() -> None:
    observed = seen(STACK, stopped={"migrate": Exit(code=0), "web": None})

    def rm(**options: Any) -> Plan:
        return plan_remove(Remove(**options), observed, STACK)

    assert labels(rm()) == ["remove web", "remove migrate"]
    assert labels(rm(selection=select("api"))) == []
    assert labels(rm(selection=select("api"), stop=True)) == ["stop api", "remove api"]
    assert labels(rm(stop=True))[-1] == "remove db"
    with pytest.raises(InputError, match="nosuch"):
        rm(selection=select("nosuch"))


def test_a_second_up_with_nothing_changed_does_nothing() -> None:
    plan = up(STACK, seen(STACK))
    assert plan.empty
    assert plan.changed == 0
    golden(plan, "up demo: nothing to do\n")


def test_one_changed_service_is_replaced_alone() -> None:
    after = changed(STACK, "api", image="rootfs:/srv/api")
    golden(
        up(after, seen(STACK)),
        """
        up demo:
          stop api: config hash changed: image
          remove api: config hash changed: image [after stop api]
          create api: config hash changed: image [after remove api]
          start api: created [after create api, db healthy, migrate completed successfully]
        """,
    )


def test_two_changed_services_stop_in_reverse_order() -> None:
    after = changed(changed(STACK, "api", environment={"A": "1"}), "db", environment={"A": "1"})
    golden(
        up(after, seen(STACK)),
        """
        up demo:
          stop api: config hash changed: environment
          stop db: config hash changed: environment [after stop api]
          remove api: config hash changed: environment [after stop api]
          remove db: config hash changed: environment [after stop db]
          create db: config hash changed: environment [after remove db]
          start db: created [after create db]
          create api: config hash changed: environment [after remove api]
          start api: created [after create api, db healthy, migrate completed successfully]
        """,
    )


def test_dependents_with_restart_true_follow_a_replaced_service() -> None:
    before = project(service("db"), service("api", edge("db", restart=True)), service("web", "api"))
    after = changed(before, "db", labels={"x": "y"})
    golden(
        up(after, seen(before)),
        """
        up demo:
          stop api: dependency db was replaced
          stop db: config hash changed: labels [after stop api]
          remove db: config hash changed: labels [after stop db]
          create db: config hash changed: labels [after remove db]
          start db: created [after create db]
          start api: dependency db was replaced [after stop api, db started]
        """,
    )
    assert labels(up(after, seen(before), no_deps=True), Kind.START) == ["start db"]


def test_a_new_image_under_the_same_name_replaces() -> None:
    plan = up(STACK, seen(STACK), "db", images={**identities(STACK), ServiceName("db"): "newer"})
    assert {item.cause for item in plan.of(Kind.REMOVE)} == {"config hash changed: image content"}


def test_recreate_always_replaces_and_never_leaves_alone() -> None:
    plan = up(STACK, seen(STACK), "web", recreate=Recreate.ALWAYS, no_deps=True)
    assert [item.cause for item in plan.of(Kind.REMOVE)] == ["recreate requested"]
    assert up(changed(STACK, "api", image="x"), seen(STACK), recreate=Recreate.NEVER).empty


def test_dependencies_are_recreated_when_it_is_asked_for_alone_and_not_by_what_is_for_the_named_ones() -> None:
    def removed(**options: Any) -> set[str]:
        return {str(item.container) for item in up(STACK, seen(STACK), "api", **options).of(Kind.REMOVE)}

    assert removed(recreate_dependencies=True) == {"demo-db-1", "demo-migrate-1"}
    assert removed(recreate=Recreate.ALWAYS) == {"demo-api-1"}
    assert removed(recreate=Recreate.ALWAYS, recreate_dependencies=True) == {"demo-api-1", "demo-db-1", "demo-migrate-1"}


def test_what_ended_is_started_again_with_the_reason() -> None:
    stopped: dict[str, Exit | None] = {"migrate": Exit(code=0), "web": Exit(signal=9), "db": None}
    golden(
        up(STACK, seen(STACK, stopped=stopped)),
        """
        up demo:
          start db: created, never started
          start web: was killed by SIGKILL [after api healthy]
        """,
    )


def test_what_waits_for_its_restart_or_was_given_up_is_started_now() -> None:
    plan = up(STACK, seen(STACK, stopped={"web": Exit(code=1)}, restarting=("web",)))
    assert [item.cause for item in plan.operations] == ["exited with code 1; not waiting for its restart"]
    plan = up(STACK, seen(STACK, stopped={"web": Exit(code=1)}, gave_up="exited with code 1; given up"))
    assert [item.cause for item in plan.operations] == ["given up: exited with code 1; given up"]


def test_after_a_reboot_everything_is_made_again() -> None:
    plan = up(STACK, seen(STACK, gone=tuple(STACK.services), boot_id="b2"))
    assert {item.cause for item in plan.of(Kind.CREATE)} == {"lost at reboot"}
    assert len(plan.of(Kind.START)) == 4
    assert not plan.of(Kind.STOP, Kind.REMOVE)


def test_a_sandbox_without_a_record_is_removed_before_it_is_made() -> None:
    golden(
        up(STACK, seen(STACK, absent=("web",), leftovers=("web",))),
        """
        up demo:
          remove web: left over from an operation that did not end
          create web: not created yet [after remove web]
          start web: created [after create web, api healthy]
        """,
    )


def test_orphans_are_reported_and_left_alone() -> None:
    before = project(*STACK.services.values(), service("old", networks=["back"]))
    golden(up(STACK, seen(before)), "up demo: nothing to do\n  orphan demo-old-1: its service is no longer in the stack\n")


def test_a_selection_brings_its_dependencies_and_no_deps_does_not_wait_for_them() -> None:
    plan = up(STACK, ObservedProject(), "migrate")
    assert subjects(plan, Kind.START) == ["db", "migrate"]
    plan = up(STACK, ObservedProject(), "migrate", no_deps=True)
    assert [(item.service, item.waits) for item in plan.of(Kind.START)] == [("migrate", ())]


def test_a_changed_network_is_made_anew_with_everything_on_it() -> None:
    front = Network(NetworkName("front"), "demo_front", subnets=(Subnet("10.9.0.0/24"),))
    after = replace(STACK, networks={**STACK.networks, NetworkName("front"): front})
    golden(
        up(after, seen(STACK), "web", no_deps=True),
        """
        up demo:
          disconnect web: network front is made anew
          disconnect api: network front is made anew
          remove network front: made anew: ipam changed [after disconnect web, disconnect api]
          create network front: made anew: ipam changed [after remove network front]
          reconnect api: network front is made anew [after disconnect api, create network front]
          reconnect web: network front is made anew [after disconnect web, create network front]
        """,
    )


def test_stop_goes_in_reverse_order_also_past_services_that_do_not_run() -> None:
    golden(
        stop(STACK, seen(STACK, stopped={"migrate": Exit(code=0), "api": Exit(code=1)})),
        """
        stop demo:
          stop web: requested
          stop db: requested [after stop web]
        """,
    )


def test_stop_of_one_leaves_its_dependents_running_and_ends_a_back_off() -> None:
    plan = stop(STACK, seen(STACK, stopped={"db": Exit(code=1)}, restarting=("db",)), "db", timeout_s=2)
    assert [(plan.label(item), item.grace_s) for item in plan.operations] == [("stop db", 2)]


def test_start_starts_what_was_stopped_and_what_it_needs() -> None:
    stopped: dict[str, Exit | None] = {"api": Exit(signal=15), "db": Exit(signal=15)}
    golden(
        start(STACK, seen(STACK, stopped=stopped, wanted=Wanted.STOPPED), "api"),
        """
        start demo:
          start db: stopped by request
          start api: stopped by request [after db healthy, migrate completed successfully]
        """,
    )


def test_start_and_restart_of_a_service_that_was_never_created_say_so() -> None:
    observed = seen(STACK, absent=("web",))
    with pytest.raises(OperationError, match='service "web" has no container to start') as caught:
        start(STACK, observed, "web")
    assert caught.value.hint == "create it with: pystack up web"
    with pytest.raises(OperationError, match='service "web" has no container to restart'):
        restart(STACK, observed, "web")


def test_restart_keeps_the_sandbox_and_takes_restart_true_dependents_along() -> None:
    stack = project(service("db"), service("api", edge("db", restart=True)), service("web", "api"))
    golden(
        restart(stack, seen(stack), "db"),
        """
        restart demo:
          stop api: dependency db was restarted
          stop db: requested [after stop api]
          start db: requested [after stop db]
          start api: dependency db was restarted [after stop api, db started]
        """,
    )
    plan = restart(stack, seen(stack), "db", no_deps=True)
    assert labels(plan) == ["stop db", "start db"]


def test_down_stops_removes_and_frees_the_networks() -> None:
    golden(
        down(STACK, seen(STACK, stopped={"migrate": Exit(code=0)})),
        """
        down demo:
          stop web: the stack goes down
          stop api: the stack goes down [after stop web]
          stop db: the stack goes down [after stop api]
          remove web: the stack goes down [after stop web]
          remove api: the stack goes down [after stop api]
          remove migrate: the stack goes down
          remove db: the stack goes down [after stop db]
          remove network back: the stack goes down [after remove api, remove migrate, remove db]
          remove network front: the stack goes down [after remove web, remove api]
        """,
    )


def test_new_anonymous_volumes_are_for_what_has_some_among_what_is_asked_for() -> None:
    having = frozenset(map(ContainerId, ("demo-web-1", "demo-db-1")))
    found = replace(seen(STACK, absent=("migrate",)), anonymous=having)
    assert up(STACK, found).of(Kind.REMOVE) == ()
    plan = up(STACK, found, renew_volumes=True)
    assert {item.container for item in plan.of(Kind.REMOVE)} == having
    assert all(item.anonymous for item in plan.of(Kind.REMOVE, Kind.CREATE)), "nor does what is made find any of before"
    assert {item.container for item in plan.of(Kind.CREATE)} == {"demo-db-1", "demo-migrate-1", "demo-web-1"}
    alone = up(STACK, found, "web", renew_volumes=True)
    assert [item.container for item in alone.of(Kind.REMOVE)] == ["demo-web-1"]


def test_who_has_the_anonymous_volumes_of_what_gets_new_ones_is_replaced_too() -> None:
    stack = project(
        service("a"),
        service("b", edge("a"), volumes_from=(VolumesFrom("a"),)),
        service("c", edge("b"), volumes_from=(VolumesFrom("demo-b-1", is_container=True),)),
        service("d", edge("a")),
    )
    found = replace(seen(stack), anonymous=frozenset({ContainerId("demo-a-1")}))
    for asked in ((), ("a",)):
        plan = up(stack, found, *asked, renew_volumes=True)
        assert [item.container for item in plan.of(Kind.CREATE)] == ["demo-a-1", "demo-b-1", "demo-c-1"]
        causes = {str(item.container): item.cause for item in plan.of(Kind.REMOVE)}
        assert causes["demo-b-1"] == "a, whose anonymous volumes it has, gets new ones"
    assert not up(stack, found, "b", renew_volumes=True).of(Kind.REMOVE), "of what it needs nothing is made anew"


def test_anonymous_volumes_stay_while_others_have_them() -> None:
    stack = project(
        service("a"),
        service("b", edge("a"), volumes_from=(VolumesFrom("a"),)),
        service("c", edge("b"), volumes_from=(VolumesFrom("demo-b-1", is_container=True),)),
    )
    for names, kept in (("a", {"demo-a-1"}), ("a b", {"demo-a-1", "demo-b-1"}), ("a b c", set[str]()), ("c", set[str]())):
        services = Selection(tuple(map(ServiceName, names.split())))
        for plan in (
            plan_remove(Remove(services, stop=True, volumes=True), seen(stack), stack),
            plan_down(Down(stack, services, volumes=True), seen(stack), stack),
        ):
            assert {item.container for item in plan.of(Kind.REMOVE) if not item.anonymous} == kept


def test_down_with_volumes_removes_them_last_but_not_external_ones() -> None:
    plan = down(STACK, seen(STACK), volumes=True)
    assert plan.operations[-1].id == "remove volume data"
    assert len(plan.operations[-1].after) == 4
    assert all(item.anonymous for item in plan.of(Kind.REMOVE))
    data = VolumeName("data")
    external = replace(STACK, volumes={data: replace(STACK.volumes[data], external=True)})
    assert not down(external, seen(external), volumes=True).of(Kind.REMOVE_VOLUME)


def test_down_keeps_orphans_and_their_networks_unless_told_otherwise() -> None:
    before = project(*STACK.services.values(), service("old", networks=["back"]))
    plan = down(STACK, seen(before))
    assert subjects(plan, Kind.REMOVE_NETWORK) == ["front"]
    assert list(plan.orphans) == ["demo-old-1"]
    plan = down(STACK, seen(before), remove_orphans=True)
    assert subjects(plan, Kind.REMOVE_NETWORK) == ["back", "front"]
    assert "remove old" in labels(plan)
    assert not plan.orphans


def layered(layers: int) -> Project:
    """25 services a layer, each of which needs each of the layer below."""
    names = [[f"s{layer:02}-{number:02}" for number in range(25)] for layer in range(layers)]
    return project(*(service(name, *(names[row - 1] if row else [])) for row in range(layers) for name in names[row]))


def test_a_plan_for_a_thousand_services_is_as_much_work_as_they_have_edges() -> None:
    large, small = layered(40), layered(20)
    assert up(large, ObservedProject()).changed == 1000
    assert grows_like(lambda: up(large, ObservedProject()), lambda: up(small, ObservedProject()), 39 / 19)
    all_here, half_here = seen(large), seen(small)
    assert len(up(large, all_here, recreate=Recreate.ALWAYS).operations) == 4000
    larger, smaller = (
        partial(up, stack, here, recreate=Recreate.ALWAYS) for stack, here in ((large, all_here), (small, half_here))
    )
    assert grows_like(larger, smaller, 39 / 19)


def test_a_plan_for_a_thousand_containers_of_ten_services_is_as_much_work_as_there_are_containers() -> None:
    names = [f"s{number}" for number in range(10)]

    def stack(replicas: int) -> tuple[Project, ObservedProject]:
        made = project(*(service(name, *names[:number], replicas=replicas) for number, name in enumerate(names)))
        return made, seen(made, scale={name: tuple(range(1, replicas + 1)) for name in names})

    (large, all_here), (small, half_here) = stack(100), stack(50)
    assert up(large, ObservedProject()).changed == 1000
    assert grows_like(lambda: up(large, ObservedProject()), lambda: up(small, ObservedProject()), 2)
    assert up(large, all_here).empty
    assert grows_like(lambda: up(large, all_here), lambda: up(small, half_here), 2)


def test_the_linear_order_respects_every_edge() -> None:
    plan = up(changed(STACK, "db", image="x"), seen(STACK))
    order = [item.id for item in linear(reversed(plan.operations))]
    assert all(order.index(need) < order.index(item.id) for item in plan.operations for need in item.after)


@pytest.mark.parametrize(
    "fields",
    [
        {"depends_on": {}},
        {"profiles": ("debug",)},
    ],
)
def test_when_a_service_starts_is_no_part_of_its_hash(fields: dict[str, object]) -> None:
    assert up(changed(STACK, "web", **fields), seen(STACK)).empty


def hash_of(item: Service, stack: Project = STACK) -> str:
    return config_hash(stack, item, "id")


def test_the_hash_sees_content_and_not_compose_paths() -> None:
    db = STACK.services[ServiceName("db")]
    moved = replace(db, volumes=tuple(replace(item, place="elsewhere") for item in db.volumes))
    assert hash_of(moved) == hash_of(db)
    assert hash_of(replace(db, environment={"A": "1"})) != hash_of(db)
    assert config_hash(STACK, db, "other") != hash_of(db)
    assert hash_of(replace(db, environment={"place": "a"})) != hash_of(
        replace(db, environment={"place": "b"})
    )
    assert hash_of(replace(db, stop_grace_s=10)) == hash_of(replace(db, stop_grace_s=10.0))
    renamed = replace(STACK.volumes[VolumeName("data")], full_name="elsewhere")
    assert hash_of(db, replace(STACK, volumes={VolumeName("data"): renamed})) != hash_of(db)


# Shared namespaces


OF_DB = Namespace(Sharing.SERVICE, "db")


def in_network_of_db(command: str = "x", whose: Namespace = OF_DB, called: str | None = None) -> Project:
    web = service("web", edge("db"), namespaces=replace(Namespaces(), network=whose))
    return project(service("db", command=(command,), container_name=called), replace(web, networks={}))


def with_shared_hash(stack: Project, observed: ObservedProject) -> ObservedProject:
    """As `seen`, with the hash that a container has which was made when `observed` was there."""
    (web,) = observed.replicas(ServiceName("web"))
    shared = shared_identities(web.definition, observed)
    record = replace(web.record, config_hash=config_hash(stack, web.definition, web.record.definition.image, shared))
    changed = replace(web, record=record)
    by_service = {**observed._by_service, ServiceName("web"): (changed,)}
    return replace(observed, containers={**observed.containers, web.container: changed}, _by_service=by_service)


@pytest.mark.parametrize(
    ("whose", "called"),
    [(OF_DB, None), (Namespace(Sharing.CONTAINER, "demo-db-1"), None), (Namespace(Sharing.CONTAINER, "vpn"), "vpn")],
)
def test_who_is_in_a_namespace_is_replaced_with_whose_it_is_and_the_plan_says_why(
    whose: Namespace, called: str | None
) -> None:
    stack = in_network_of_db("x", whose, called)
    first = {item.service: item for item in up(stack, ObservedProject()).of(Kind.CREATE)}
    assert first[ServiceName("db")].id in first[ServiceName("web")].after
    observed = with_shared_hash(stack, seen(stack))
    assert labels(up(stack, observed)) == []
    plan = up(in_network_of_db("y", whose, called), observed)
    causes = {item.cause for item in plan.operations if item.service == "web" and item.kind is not Kind.START}
    assert causes == {"db, whose network namespace it is in, is replaced"}
    created = {item.service: item for item in plan.of(Kind.CREATE)}
    assert created[ServiceName("db")].id in created[ServiceName("web")].after


def test_two_that_name_each_others_containers_do_not_wait_for_each_other() -> None:
    there = [
        replace(service(name), networks={}, namespaces=replace(Namespaces(), network=Namespace(Sharing.CONTAINER, other)))
        for name, other in (("a", "demo-b-1"), ("b", "demo-a-1"), ("c", "demo-c-1"))
    ]
    assert all(not item.after for item in up(project(*there), ObservedProject()).of(Kind.CREATE))


def test_who_is_in_a_namespace_of_what_was_replaced_meanwhile_is_replaced() -> None:
    stack = in_network_of_db()
    observed = with_shared_hash(stack, seen(stack))
    (db,) = observed.replicas(ServiceName("db"))
    newer = replace(db, record=replace(db.record, created_at=7.0))
    by_service = {**observed._by_service, ServiceName("db"): (newer,)}
    later = replace(observed, containers={**observed.containers, db.container: newer}, _by_service=by_service)
    (create,) = up(stack, later).of(Kind.CREATE)
    assert (create.service, create.cause) == ("web", "config hash changed: network namespace of another container")
