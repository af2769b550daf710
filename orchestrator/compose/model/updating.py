"""``deploy.update_config`` and ``deploy.rollback_config``."""

from __future__ import annotations

from orchestrator.compose.kinds.values import cast_float, cast_int, go_text
from orchestrator.compose.model.reader import Reader, at
from orchestrator.compose.text.diagnostics import did_you_mean
from orchestrator.compose.text.tree import Node
from orchestrator.model.updating import FailureAction, Order, UpdateRules

_DEFAULTS = UpdateRules()


def update_rules(read: Reader, node: Node, path: str, key: str) -> UpdateRules | None:
    """Those at ``deploy.KEY``; None without any."""
    item = at(node, "deploy", key)
    if item is None or not isinstance(item.value, dict):
        return None
    path = f"{path}.deploy.{key}"
    read.mark(item, path)
    for name, value in item.value.items():
        read.mark(value, f"{path}.{name}")
    order = item.get("order")
    return UpdateRules(
        order=Order(go_text(order.value)) if order is not None and order.value else _DEFAULTS.order,
        parallelism=_parallelism(read, item, path),
        delay_s=read.seconds(item, path, "delay", _DEFAULTS.delay_s),
        monitor_s=read.seconds(item, path, "monitor", _DEFAULTS.monitor_s),
        on_failure=_on_failure(read, item, path, can_roll_back=key == "update_config"),
        max_failure_ratio=_ratio(read, item, path),
    )


def _parallelism(read: Reader, node: Node, path: str) -> int:
    item = node.get("parallelism")
    if item is None or item.value is None:
        return _DEFAULTS.parallelism
    place = f"{path}.parallelism"
    number = read.attempt(item, place, lambda each: cast_int(go_text(each.value)), _DEFAULTS.parallelism)
    if number < 0:
        read.error(item, place, "must not be negative", hint="0 means all at once")
    return number


def _ratio(read: Reader, node: Node, path: str) -> float:
    item = node.get("max_failure_ratio")
    if item is None or item.value is None:
        return _DEFAULTS.max_failure_ratio
    place = f"{path}.max_failure_ratio"
    ratio = read.attempt(item, place, lambda each: cast_float(go_text(each.value)), _DEFAULTS.max_failure_ratio)
    if not 0 <= ratio <= 1:
        read.error(item, place, "must be a number from 0 to 1", hint="0.3: three of ten may fail")
    return ratio


def _on_failure(read: Reader, node: Node, path: str, *, can_roll_back: bool) -> FailureAction:
    item = node.get("failure_action")
    text = go_text(item.value) if item is not None and item.value is not None else ""
    if item is None or not text:
        return _DEFAULTS.on_failure
    known = [action.value for action in FailureAction if can_roll_back or action is not FailureAction.ROLLBACK]
    if text in known:
        return FailureAction(text)
    read.error(item, f"{path}.failure_action", f'"{text}" is not one of {", ".join(known)}{did_you_mean(text, known)}')
    return _DEFAULTS.on_failure
