"""What takes part is what takes part in Docker Compose, in the model that is shown and in the project that is run."""

from __future__ import annotations

from orchestrator.compose.load import ComposeError, load, load_canonical
from orchestrator.compose.model.choice import select
from tests.differential.choices import PROFILED, WITHOUT_APP, choice_stacks
from tests.differential.oracle import Stack, request, written


def test_the_project_is_run_by_the_rule_by_which_the_model_is_shown() -> None:
    compared = 0
    for name, stack in choice_stacks().items():
        if stack.files["compose.yaml"] not in (PROFILED, WITHOUT_APP):
            continue
        with written(stack) as folder:
            asked = request(stack, folder)
            try:
                shown, _ = load_canonical(asked)
            except ComposeError:
                continue
            assert set(select(load(asked).project, stack.services)) == set(shown["services"]), name
            compared += 1
    assert compared > 60


def test_the_project_does_not_depend_on_what_was_named() -> None:
    for profiles in ((), ("front",), ("back",), ("*",)):
        projects = []
        for named in ((), ("web",), ("tool",), ("web", "chain", "db")):
            stack = Stack({"compose.yaml": WITHOUT_APP}, services=named, profiles=profiles)
            with written(stack) as folder:
                loaded = load(request(stack, folder)).project
            projects.append((loaded.services, loaded.networks, loaded.volumes, loaded.inactive, loaded.profiles))
        assert all(project == projects[0] for project in projects)
