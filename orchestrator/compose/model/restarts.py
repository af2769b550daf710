"""``deploy.restart_policy`` and ``x-pystack.restart``: restart policies beyond the one word of ``restart``.

Only stacks that have one of them import this.
"""

from __future__ import annotations

from orchestrator.compose.kinds.checking import check
from orchestrator.compose.kinds.values import cast_float, duration_ns, go_text, whole_number
from orchestrator.compose.model.reader import Reader
from orchestrator.compose.schema.attributes import RESTART
from orchestrator.compose.text.diagnostics import Diagnostic
from orchestrator.compose.text.tree import Node
from orchestrator.model.restart import Backoff, Budget, RestartKind, RestartPolicy
from orchestrator.units import NS_PER_SECOND
from orchestrator.values import replace

_KINDS = {
    "none": RestartKind.NO,
    "no": RestartKind.NO,
    "on-failure": RestartKind.ON_FAILURE,
    "any": RestartKind.ALWAYS,
    "always": RestartKind.ALWAYS,
    "": RestartKind.ALWAYS,
    "unless-stopped": RestartKind.UNLESS_STOPPED,
}
"""By `condition`, as Docker Compose has them."""


def deploy_policy(read: Reader, node: Node, place: str) -> RestartPolicy:
    """Of the mapping ``deploy.restart_policy``."""
    condition, attempts, delay = (node.get(key) for key in ("condition", "max_attempts", "delay"))
    text = go_text(condition.value) if condition is not None else ""
    if condition is not None and text not in _KINDS:
        read.error(condition, f"{place}.condition", f'"{text}" is not one of none, on-failure, any, unless-stopped')
        return RestartPolicy()
    limit = read.attempt(attempts, f"{place}.max_attempts", whole_number, 0) if attempts is not None else 0
    policy = RestartPolicy(_KINDS[text], limit or None, _seconds(read, node, "window", place, 0.0))
    if delay is None or delay.value is None:
        return policy
    delay_s = _seconds(read, node, "delay", place, 0.0)
    return replace(policy, backoff=Backoff(delay_s, 1.0, delay_s))


def with_backoff(read: Reader, extension: Node, place: str, policy: RestartPolicy) -> RestartPolicy:
    """`policy` with what the mapping ``x-pystack.restart`` says of its back-off and its budget."""
    wrong: list[Diagnostic] = []
    check(extension, RESTART, place, wrong)  # What is of another shape has been told with the rest of x-pystack.
    if wrong:
        return policy
    usual = policy.backoff
    first_s = _seconds(read, extension, "first", place, usual.first_s)
    backoff = Backoff(
        first_s,
        _number(read, extension, "factor", place, usual.factor, 1.0, 100.0),
        _seconds(read, extension, "cap", place, max(usual.cap_s, first_s)),
        _number(read, extension, "jitter", place, usual.jitter, 0.0, 1.0),
    )
    cap, reset = extension.get("cap"), extension.get("reset_after")
    if cap is not None and backoff.cap_s < first_s:
        read.error(cap, f"{place}.cap", "is less than the first delay")
    if reset is not None and reset.value == "healthy":
        backoff = replace(backoff, healthy_resets=True)
    else:
        backoff = replace(backoff, reset_s=_seconds(read, extension, "reset_after", place, usual.reset_s))
    return replace(policy, backoff=backoff, budget=_budget(read, extension, place))


def _budget(read: Reader, extension: Node, place: str) -> Budget | None:
    node = extension.get("budget")
    if node is None:
        return None
    count = node.get("restarts")
    assert count is not None, "the shape requires it"
    number = read.attempt(count, f"{place}.budget.restarts", whole_number, 1)
    within_s = _seconds(read, node, "within", f"{place}.budget", 0.0)
    if not 1 <= number <= 1000:
        read.error(count, f"{place}.budget.restarts", "must be from 1 to 1000")
    if within_s <= 0 and (within := node.get("within")) is not None:
        read.error(within, f"{place}.budget.within", "must be longer than nothing")
    return Budget(number, within_s)


def _seconds(read: Reader, node: Node, key: str, place: str, default: float) -> float:
    item = node.get(key)
    value = read.attempt(item, f"{place}.{key}", duration_ns, None) if item is not None else None
    if item is not None and value is not None and value < 0:
        read.error(item, f"{place}.{key}", "must not be negative")
    return default if value is None else value / NS_PER_SECOND


def _number(read: Reader, node: Node, key: str, place: str, default: float, least: float, most: float) -> float:
    item = node.get(key)
    if item is None:
        return default
    value = read.attempt(item, f"{place}.{key}", lambda each: cast_float(go_text(each.value)), default)
    if not least <= value <= most:
        read.error(item, f"{place}.{key}", f"must be from {least:g} to {most:g}")
    return value
