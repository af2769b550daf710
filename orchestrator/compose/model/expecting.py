"""``x-pystack.expect`` of a stack: what `pystack simulate` judges it by (docs/simulate.md)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from orchestrator.compose.kinds.checking import check
from orchestrator.compose.kinds.values import go_text
from orchestrator.compose.model.reader import Reader
from orchestrator.compose.schema.attributes import EXPECT
from orchestrator.compose.text.diagnostics import Diagnostic, nearest
from orchestrator.compose.text.tree import Node
from orchestrator.model.expect import EVENTUALLY, NEVER, Claim, Expect, parse_claim
from orchestrator.units import parse_duration

_PATH = "x-pystack.expect"


def expectation(read: Reader, model: Node, services: Collection[str]) -> Expect | None:
    """None: nothing is said. What is wrong with it is added to `read.found`, and left out."""
    own = model.get("x-pystack")
    node = own.get("expect") if own is not None and isinstance(own.value, dict) else None
    wrong: list[Diagnostic] = []
    if node is None or not isinstance(node.value, dict):
        return None
    check(node, EXPECT, _PATH, wrong)  # What is of another shape has been told with the rest of x-pystack.
    if wrong:
        return None
    within, most = node.get("ready_within"), node.get("restarts_at_most")
    for key, item in node.items():
        read.mark(item, f"{_PATH}.{key}")
    return Expect(
        None if within is None else read.attempt(within, f"{_PATH}.ready_within", _seconds, None),
        _claims(read, node, "never", NEVER, services),
        _claims(read, node, "eventually", EVENTUALLY, services),
        None if most is None else read.attempt(most, f"{_PATH}.restarts_at_most", _count, None),
    )


def _claims(read: Reader, node: Node, key: str, words: Mapping[str, str], services: Collection[str]) -> tuple[Claim, ...]:
    found = []
    for number, item in enumerate(read.each(node, key)):
        path = f"{_PATH}.{key}[{number}]"
        read.mark(item, path)
        claim = read.attempt(item, path, lambda each: parse_claim(go_text(each.value), words), None)
        if claim is None:
            continue
        if claim.service and claim.service not in services:
            near = nearest(claim.service, services, read.found)
            read.error(item, path, f'"{claim.service}" is no service of this stack{near}')
        found.append(Claim(claim.word, claim.service, path))
    return tuple(found)


def _count(node: Node) -> int:
    number = int(go_text(node.value))
    if number < 0:
        raise ValueError("is a negative number")
    return number


def _seconds(node: Node) -> float:
    seconds = parse_duration(go_text(node.value))
    if seconds < 0:
        raise ValueError("is a negative duration")
    return seconds
