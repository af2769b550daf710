"""``x-pystack.chaos`` of a stack: its script of faults on purpose (docs/chaos.md)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from orchestrator.compose.kinds.checking import check
from orchestrator.compose.model.reader import Reader
from orchestrator.compose.schema.attributes import CHAOS_STEP
from orchestrator.compose.text.diagnostics import Diagnostic, nearest
from orchestrator.compose.text.tree import Node
from orchestrator.model.chaos import OUTSIDE, ChaosStep, Injection, parse_injection
from orchestrator.model.names import ProjectName, ServiceName, container_id
from orchestrator.model.service import Service
from orchestrator.units import parse_duration
from orchestrator.values import replace


def script(read: Reader, model: Node, project: str, services: Mapping[ServiceName, Service]) -> tuple[ChaosStep, ...]:
    """What is wrong with it is added to `read.found`, and left out."""
    own = model.get("x-pystack")
    node = own.get("chaos") if own is not None and isinstance(own.value, dict) else None
    if node is None or not isinstance(node.value, list):
        return ()
    known = set(services) | {
        service.container_name or container_id(ProjectName(project), name, number)
        for name, service in services.items()
        for number in range(1, service.replicas + 1)
    }
    found = []
    for number, item in enumerate(node.elements()):
        place = f"x-pystack.chaos[{number}]"
        read.mark(item, place)
        wrong: list[Diagnostic] = []
        check(item, CHAOS_STEP, place, wrong)  # What is of another shape has been told with the rest of x-pystack.
        if not wrong and (step := _step(read, item, place, known)) is not None:
            found.append(step)
    return tuple(found)


def _step(read: Reader, item: Node, place: str, known: Collection[str]) -> ChaosStep | None:
    written = item.get("do")
    assert written is not None, "the shape requires it"
    wanted = read.attempt(written, f"{place}.do", lambda node: parse_injection(str(node.value)), None)
    if wanted is None:
        return None
    for name in filter(None, (wanted.on, wanted.to)):
        if name not in known and name != OUTSIDE:
            near = nearest(name, known, read.found)
            read.error(written, f"{place}.do", f'"{name}" is no service of this stack{near}')
    at, every, lasting = (item.get(key) for key in ("at", "every", "for"))
    if (at is None) == (every is None):
        read.error(item, place, "a fault has a time: either at, or every")
    if lasting is not None:
        wanted = _lasting(read, lasting, written, place, wanted)
    at_s, every_s = (_time(read, node, f"{place}.{key}") for node, key in ((at, "at"), (every, "every")))
    if every is not None and every_s < 1:
        read.error(every, f"{place}.every", "every so often means every second at most")
    return ChaosStep(wanted, at_s or every_s, every_s, place)


def _lasting(read: Reader, node: Node, written: Node, place: str, wanted: Injection) -> Injection:
    if not wanted.kind.lasts:
        read.error(node, f"{place}.for", f"{wanted.kind.value} is over at once")
    elif "--for" in str(written.value):
        read.error(node, f"{place}.for", "its time is in do: already")
    return replace(wanted, for_s=_time(read, node, f"{place}.for"))


def _time(read: Reader, node: Node | None, path: str) -> float:
    if node is None:
        return 0.0
    seconds = read.attempt(node, path, lambda each: parse_duration(str(each.value)), 0.0)
    if seconds < 0:
        read.error(node, path, "is a negative duration")
    return seconds
