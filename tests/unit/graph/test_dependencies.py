"""Order, reachability and cycles."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InputError
from orchestrator.graph.dependencies import DependencyGraph
from orchestrator.model.names import ServiceName
from orchestrator.model.project import Place, Project
from orchestrator.testing.build import edge, project, service
from orchestrator.values import replace
from tests.counting import grows_like

DB, WEB, BOTTOM, TOP = (ServiceName(name) for name in ("db", "web", "s00-00", "s39-00"))


def graph(**needs: str) -> DependencyGraph:
    """``web="db cache"``: web needs both."""
    return DependencyGraph.of(project(*(service(name, *text.split()) for name, text in needs.items())))


def test_dependencies_start_first_and_ties_break_by_name() -> None:
    found = graph(web="db cache", cache="", db="", admin="db")
    assert found.start_order() == ("cache", "db", "admin", "web")
    assert found.stop_order() == ("web", "admin", "db", "cache")


def test_a_selection_brings_what_it_needs_unless_told_not_to() -> None:
    found = graph(web="api", api="db", db="", other="")
    assert found.closure([WEB]) == ("db", "api", "web")
    assert found.closure([WEB], no_deps=True) == ("web",)
    assert found.closure() == ("db", "api", "other", "web")


def test_dependents_are_found_through_others() -> None:
    found = graph(web="api", api="db", db="", other="")
    assert found.dependents(DB) == ("api",)
    assert found.dependents_closure([DB]) == ("api", "web")


def test_an_unknown_name_is_an_input_error_that_lists_the_services() -> None:
    with pytest.raises(InputError, match="no such service: dbb") as caught:
        graph(db="").closure([ServiceName("dbb")])
    assert caught.value.hint == "the services are: db"


def test_an_optional_dependency_that_is_not_there_has_no_edge() -> None:
    found = DependencyGraph.of(project(service("web", edge("debug", required=False))))
    assert found.dependencies(WEB) == ()


def test_a_required_dependency_that_is_not_there_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r'services\.web\.depends_on\.db: "db" is not a service'):
        DependencyGraph.of(project(service("web", "db")))


def test_restart_edges_are_followed_through_each_other_only() -> None:
    stack = project(
        service("db"),
        service("api", edge("db", restart=True)),
        service("web", edge("api", restart=True)),
        service("cron", "api"),
    )
    assert DependencyGraph.of(stack).restart_closure([DB]) == {"api": "db", "web": "api"}


@pytest.mark.parametrize(
    ("needs", "text"),
    [
        ({"a": "b", "b": "a"}, "a -> b -> a"),
        ({"a": "a"}, "a -> a"),
        ({"z": "b", "b": "c", "c": "b"}, "b -> c -> b"),
        ({"d": "e", "e": "d", "b": "c", "c": "b", "a": "b d"}, "b -> c -> b"),
        ({"a": "b c", "b": "d", "c": "d", "d": "a"}, "a -> b -> d -> a"),
        ({"a": "b", "b": "c", "c": "d a", "d": "c"}, "a -> b -> c -> a"),
    ],
)
def test_a_cycle_is_named_from_its_first_service(needs: dict[str, str], text: str) -> None:
    with pytest.raises(InputError) as caught:
        graph(**needs)
    assert caught.value.message == f"dependency cycle: {text}"


def test_a_cycle_points_at_the_line_of_its_first_edge() -> None:
    stack = project(service("a", "b"), service("b", "a"))
    placed = replace(stack, places={"services.a.depends_on": Place("compose.yaml", 4, 5)})
    with pytest.raises(InputError) as caught:
        DependencyGraph.of(placed)
    assert str(caught.value) == "compose.yaml:4:5: services.a.depends_on.b: dependency cycle: a -> b -> a"


def layered(layers: int, width: int) -> Project:
    """Each service of a layer needs each of the layer below."""
    names = [[f"s{layer:02}-{number:02}" for number in range(width)] for layer in range(layers)]
    return project(*(service(name, *(names[row - 1] if row else [])) for row in range(layers) for name in names[row]))


def test_the_closure_of_a_thousand_layered_services_is_as_much_work_as_they_have_edges() -> None:
    def work(layers: int) -> Callable[[], object]:
        stack = layered(layers, 25)
        return lambda: DependencyGraph.of(stack).closure([ServiceName(f"s{layers - 1:02}-00")])

    assert len(DependencyGraph.of(layered(40, 25)).closure([TOP])) == 39 * 25 + 1
    assert grows_like(work(40), work(20), 39 / 19)


def test_a_cycle_in_a_thousand_layered_services_is_no_more_work() -> None:
    def work(layers: int) -> Callable[[], object]:
        stack, top = layered(layers, 25), ServiceName(f"s{layers - 1:02}-00")
        bottom = replace(stack.services[BOTTOM], depends_on={top: edge(top)})
        looped = replace(stack, services={**stack.services, BOTTOM: bottom})

        def find() -> None:
            with pytest.raises(InputError, match=f"dependency cycle: s00-00 -> {top} -> "):
                DependencyGraph.of(looped)

        return find

    assert grows_like(work(40), work(20), 39 / 19)


def test_a_valid_stack_never_loads_networkx() -> None:
    code = (
        "import sys; from orchestrator.graph.dependencies import DependencyGraph; "
        "from orchestrator.testing.build import project, service; "
        "DependencyGraph.of(project(service('web', 'db'), service('db'))).closure(['web']); "
        "sys.exit('networkx' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=40))
def test_any_graph_is_either_ordered_or_has_a_real_cycle(pairs: list[tuple[int, int]]) -> None:
    needs: dict[str, list[str]] = {f"n{number:02}": [] for number in range(13)}
    for source, target in pairs:
        needs[f"n{source:02}"].append(f"n{target:02}")
    stack = project(*(service(name, *targets) for name, targets in needs.items()))
    try:
        order = DependencyGraph.of(stack).start_order()
    except InputError as error:
        cycle = error.message.rpartition(": ")[2].split(" -> ")
        assert cycle[0] == cycle[-1] == min(cycle)
        assert all(target in needs[name] for name, target in itertools.pairwise(cycle))
    else:
        assert sorted(order) == sorted(needs)
        assert all(order.index(target) < order.index(name) for name, targets in needs.items() for target in targets)
