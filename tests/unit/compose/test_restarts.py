"""``deploy.restart_policy`` and ``x-pystack.restart``, as they are read."""

from __future__ import annotations

import pytest

from orchestrator.model.restart import Backoff, Budget, RestartKind, RestartPolicy
from tests.unit.compose.stacks import Stack

ALWAYS, FAILURE = RestartKind.ALWAYS, RestartKind.ON_FAILURE


def restart(stack: Stack, attributes: str, top: str = "") -> RestartPolicy:
    text = f"services: {{a: {{image: host, {attributes}}}}}\n{top}"
    return next(iter(stack.load(text).project.services.values())).restart


@pytest.mark.parametrize(
    ("written", "policy"),
    [
        ("{}", RestartPolicy(ALWAYS)),
        ("{condition: none}", RestartPolicy()),
        ("{condition: any, max_attempts: 3}", RestartPolicy(ALWAYS, 3)),
        ("{condition: unless-stopped}", RestartPolicy(RestartKind.UNLESS_STOPPED)),
        ("{condition: on-failure, delay: 5s}", RestartPolicy(FAILURE, backoff=Backoff(5, 1, 5))),
        ("{delay: 0s, max_attempts: 0}", RestartPolicy(ALWAYS, backoff=Backoff(0, 1, 0))),
        ("{max_attempts: 3, window: 2m}", RestartPolicy(ALWAYS, 3, 120)),
    ],
)
def test_deploy_wins_over_restart(stack: Stack, written: str, policy: RestartPolicy) -> None:
    assert restart(stack, f"restart: 'no', deploy: {{restart_policy: {written}}}") == policy
    assert restart(stack, f"restart: on-failure:7, deploy: {{restart_policy: {written}}}") == policy


def test_the_back_off_is_a_services_or_the_stacks(stack: Stack) -> None:
    full = "{first: 1s, factor: 1.5, cap: 20s, jitter: 0.2, reset_after: 1m, budget: {restarts: 5, within: 10m}}"
    expected = RestartPolicy(ALWAYS, backoff=Backoff(1, 1.5, 20, 0.2, 60), budget=Budget(5, 600))
    assert restart(stack, f"restart: always, x-pystack: {{restart: {full}}}") == expected
    assert restart(stack, "restart: always", f"x-pystack: {{restart: {full}}}") == expected
    own = "restart: always, x-pystack: {restart: {reset_after: healthy}}"
    assert restart(stack, own, f"x-pystack: {{restart: {full}}}") == RestartPolicy(
        ALWAYS, backoff=Backoff(healthy_resets=True)
    )
    assert restart(stack, "restart: always, x-pystack: {restart: {first: 2m}}").backoff == Backoff(120, 2, 120)


@pytest.mark.parametrize(
    ("attributes", "at", "complaint"),
    [
        ("deploy: {restart_policy: {condition: often}}", "often", '"often" is not one of none, on-failure, any'),
        ("deploy: {restart_policy: {delay: -1s}}", "-1s", "must not be negative"),
        ("deploy: {restart_policy: {window: x}}", "x}", "is not a duration"),
        ("x-pystack: {restart: {factor: 0.5}}", "0.5", "must be from 1 to 100"),
        ("x-pystack: {restart: {jitter: 2}}", "2", "must be from 0 to 1"),
        ("x-pystack: {restart: {first: 5s, cap: 1s}}", "1s", "is less than the first delay"),
        ("x-pystack: {restart: {reset_after: wealthy}}", "wealthy", "is not a duration"),
        ("x-pystack: {restart: {budget: {restarts: 3}}}", "budget", '"within" is missing from a budget'),
        ("x-pystack: {restart: {budget: {restarts: 0, within: 3s}}}", "0,", "must be from 1 to 1000"),
        ("x-pystack: {restart: {budget: {restarts: 1, within: 0s}}}", "0s", "must be longer than nothing"),
        ("x-pystack: {restart: {delay: 3s}}", "delay", '"delay" is not an attribute of restart'),
    ],
)
def test_what_is_wrong_with_it_is_told_where_it_stands(stack: Stack, attributes: str, at: str, complaint: str) -> None:
    stack.refuses(attributes, at, complaint)
