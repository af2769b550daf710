"""Who may talk to whom, who says so, and what a flow says about it."""

from __future__ import annotations

from orchestrator.model.names import NetworkName, ServiceName
from orchestrator.model.namespaces import Namespace, Namespaces, Sharing
from orchestrator.model.network import Attachment, Link, Network, PortMapping
from orchestrator.model.project import Project
from orchestrator.model.service import Condition, Service
from orchestrator.plan.edges import (
    HOST,
    OUTSIDE,
    Edge,
    Flow,
    Use,
    declared_edges,
    networks_of,
    reached_from,
    unused_edges,
    used_edges,
)
from orchestrator.testing.build import edge, project, service
from orchestrator.values import replace

WEB, API, DB, MIGRATE, SIDE = map(ServiceName, ("web", "api", "db", "migrate", "side"))
FRONT, BACK = NetworkName("front"), NetworkName("back")
WHOSE = {"10.0.0.2": WEB, "10.0.0.3": API, "10.0.1.3": API, "10.0.1.4": DB}
GATEWAYS = ("10.0.0.1", "10.0.1.1")


def on(made: Service, *networks: NetworkName) -> Service:
    return replace(made, networks={key: Attachment(key) for key in networks})


def stack(back: Network | None = None) -> Project:
    """`side` is in the network of `web`, and needs `api`."""
    side = service("side", edge("api"), namespaces=replace(Namespaces(), network=Namespace(Sharing.SERVICE, "web")))
    made = project(
        on(service("web", edge("db"), ports=(PortMapping(80, (8080, 8080)),)), FRONT),
        on(service("api", edge("migrate", Condition.COMPLETED), links=(Link("store", "db"),)), FRONT, BACK),
        on(service("db"), BACK),
        on(service("migrate", edge("db")), BACK),
        replace(side, networks={}),
    )
    return replace(made, networks={FRONT: Network(FRONT, "x_front"), BACK: back or Network(BACK, "x_back")})


def use(source: str, target: str, *, port: int = 80, count: int = 0, now: int = 0, declared: str = "") -> Use:
    return Use(source, target, "tcp", port, count, now, declared)


def test_services_reach_who_shares_a_network_or_a_namespace() -> None:
    made = stack()
    assert reached_from(made, made.services[WEB]) == {API: (FRONT,), SIDE: ()}
    assert reached_from(made, made.services[SIDE]) == {WEB: (), API: (FRONT,)}
    assert reached_from(made, made.services[API]) == {WEB: (FRONT,), DB: (BACK,), MIGRATE: (BACK,), SIDE: (FRONT,)}
    assert networks_of(made, made.services[SIDE]) == (FRONT,)


def test_containers_of_a_network_that_keeps_them_apart_do_not_reach_each_other() -> None:
    made = stack(Network(BACK, "x_back", options=(("com.docker.network.bridge.enable_icc", "false"),)))
    assert reached_from(made, made.services[DB]) == {}


def test_edges_are_what_depends_on_and_links_say_with_the_networks_that_they_need() -> None:
    assert declared_edges(stack()) == (
        Edge(WEB, DB, ("depends_on",)),
        Edge(API, MIGRATE, ("depends_on",), (BACK,), order=True),
        Edge(API, DB, ("links",), (BACK,)),
        Edge(MIGRATE, DB, ("depends_on",), (BACK,)),
        Edge(SIDE, API, ("depends_on",), (FRONT,)),
    )


def test_flows_are_those_of_services_and_tell_what_nobody_declared() -> None:
    flows = [
        Flow("10.0.1.3", "10.0.1.4", "tcp", 5432, count=2),
        Flow("10.0.1.3", "10.0.1.4", "tcp", 5432, now=1),
        Flow("10.0.0.3", "10.0.0.2", "tcp", 80, count=7),
        Flow("10.0.0.2", "10.0.0.3", "tcp", 80, count=1),
        Flow("203.0.113.9", "10.0.0.2", "tcp", 80, now=4),
        Flow("10.0.0.1", "10.0.0.2", "tcp", 81, now=1),
        Flow("10.0.0.2", "198.51.100.1", "tcp", 443, now=1),
        Flow("10.0.0.2", "10.0.0.1", "udp", 53, now=9),
        Flow("198.51.100.1", "203.0.113.9", "tcp", 22, now=1),
    ]
    made = stack()
    uses = used_edges(made, flows, WHOSE, GATEWAYS)
    assert uses == (
        use(WEB, OUTSIDE, port=443, now=1),
        use(WEB, API, count=1, declared="depends_on"),
        use(API, DB, port=5432, count=2, now=1, declared="links"),
        use(API, WEB, count=7),
        use(HOST, WEB, port=81, now=1),
        use(OUTSIDE, WEB, now=4, declared="ports"),
    )
    assert [use.between_services for use in uses] == [False, True, True, True, False, False]
    assert [(one.source, one.target) for one in unused_edges(made, uses)] == [(WEB, DB), (MIGRATE, DB)]
