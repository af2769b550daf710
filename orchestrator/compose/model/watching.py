"""``develop.watch`` of a service. That paths exist is asked by who watches them: the stack runs without."""

from __future__ import annotations

from orchestrator.compose.model.reader import Reader, at
from orchestrator.compose.text.tree import Node
from orchestrator.model.hooks import Hook
from orchestrator.model.watch import WatchAction, WatchRule


def watch_rules(read: Reader, node: Node, path: str) -> tuple[WatchRule, ...]:
    """What is missing in a rule is a finding of the table, or of `service_rules`."""
    watch = at(node, "develop", "watch")
    found = []
    for number, item in enumerate(watch.elements() if watch is not None else ()):
        place = f"{path}.develop.watch[{number}]"
        read.mark(item, place)
        for key, value in item.items():
            read.mark(value, f"{place}.{key}")
        action = read.text(item, "action")
        if action not in {known.value for known in WatchAction}:
            continue
        found.append(
            WatchRule(
                read.text(item, "path") or "",
                WatchAction(action),
                read.text(item, "target") or "",
                read.texts(item, "ignore"),
                read.texts(item, "include"),
                read.flag(item, place, "initial_sync") or read.flag(item, place, "x-initialSync"),
                _exec(read, item, place),
                place,
            )
        )
    return tuple(found)


def _exec(read: Reader, rule: Node, place: str) -> Hook | None:
    item = rule.get("exec")
    if item is None or read.text(rule, "action") != WatchAction.SYNC_EXEC.value:
        return None
    path = f"{place}.exec"
    return Hook(
        read.command(item, path, "command") or (),
        read.text(item, "user"),
        read.text(item, "working_dir"),
        read.pairs(item, path, "environment", keep_null=False),
        read.flag(item, path, "privileged"),
        path,
    )
