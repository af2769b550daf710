"""``deploy.update_config`` and ``deploy.rollback_config`` as they are read."""

from __future__ import annotations

import pytest

from orchestrator.model.updating import FailureAction, Order, UpdateRules
from tests.unit.compose.stacks import Stack
from tests.unit.compose.test_replicas import wrong


def rules(stack: Stack, text: str, key: str = "update_config") -> UpdateRules | None:
    loaded = stack.load(f"services: {{a: {{image: host, deploy: {{{key}: {text}}}}}}}")
    assert loaded.warnings == ()
    service = loaded.project.services["a"]  # type: ignore[index]
    return service.update if key == "update_config" else service.rollback


def test_what_is_not_said_is_as_docker_has_it_and_without_the_attribute_there_are_no_rules(stack: Stack) -> None:
    assert rules(stack, "{}") == UpdateRules(Order.STOP_FIRST, 1, 0.0, 5.0, FailureAction.PAUSE, 0.0)
    assert rules(stack, "{parallelism: 2}", "rollback_config") == UpdateRules(parallelism=2)
    loaded = stack.load("services: {a: {image: host, deploy: {replicas: 2}}}")
    service = loaded.project.services["a"]  # type: ignore[index]
    assert (service.update, service.rollback) == (None, None)


def test_all_of_it_is_read(stack: Stack) -> None:
    text = "order: start-first, parallelism: 0, delay: 1m30s, monitor: 0s, failure_action: rollback"
    wanted = UpdateRules(Order.START_FIRST, 0, 90.0, 0.0, FailureAction.ROLLBACK, 0.3)
    assert rules(stack, f"{{{text}, max_failure_ratio: '0.3'}}") == wanted


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("update_config: {parallelism: -1}", "-1 | deploy.update_config.parallelism: must not be negative"),
        ("update_config: {delay: -1s}", "-1s | deploy.update_config.delay: must not be negative"),
        (
            "update_config: {max_failure_ratio: 1.5}",
            "1.5 | deploy.update_config.max_failure_ratio: must be a number from 0 to 1",
        ),
        (
            "update_config: {failure_action: pasue}",
            'pasue | deploy.update_config.failure_action: "pasue" is not one of pause, continue, rollback '
            '(did you mean "pause"?)',
        ),
        (
            "rollback_config: {failure_action: rollback}",
            'rollback | deploy.rollback_config.failure_action: "rollback" is not one of pause, continue',
        ),
    ],
)
def test_what_cannot_be_is_one_error_at_its_place(stack: Stack, text: str, expected: str) -> None:
    assert [message for message, _ in wrong(stack, f"deploy: {{{text}}}")] == [expected]
