"""How the containers of a service are replaced (compose-spec, "deploy.update_config"; semantics and defaults as
``docker service update`` has them)."""

from __future__ import annotations

from enum import Enum

from orchestrator.values import frozen


class Order(Enum):
    STOP_FIRST = "stop-first"
    START_FIRST = "start-first"


class FailureAction(Enum):
    PAUSE = "pause"
    CONTINUE = "continue"
    ROLLBACK = "rollback"


@frozen
class UpdateRules:
    """`parallelism`: replicas at a time; 0: all. `delay_s`: after a replica is done, before the next one in its place.
    `monitor_s`: for so long after that its failure counts. `max_failure_ratio`: of all replicas that are replaced, from 0
    to 1; more is too many."""

    order: Order = Order.STOP_FIRST
    parallelism: int = 1
    delay_s: float = 0.0
    monitor_s: float = 5.0
    on_failure: FailureAction = FailureAction.PAUSE
    max_failure_ratio: float = 0.0
