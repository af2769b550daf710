"""Reading values of a model for the runtime: text, lists, flags, durations; what cannot be read is a finding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

from orchestrator.compose.kinds import long_forms
from orchestrator.compose.kinds.values import cast_bool, command_words, duration_ns, go_text
from orchestrator.compose.text.diagnostics import Diagnostic, Related
from orchestrator.compose.text.tree import Node, diagnostic
from orchestrator.model.project import Place
from orchestrator.units import NS_PER_SECOND

T = TypeVar("T")


class Reader:
    """Reads the nodes of `model`. Findings are added to `found`; `places` collects where what was read is written.
    `environment`: what the stack was loaded with, `included`: what its included files were, by their paths; `working_dir`:
    its folder."""

    def __init__(
        self,
        model: Node,
        found: list[Diagnostic],
        environment: Mapping[str, str] = MappingProxyType({}),
        working_dir: str = "/",
        included: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    ) -> None:
        self._included = included
        self.model = model
        self.found = found
        self.environment = environment
        self.working_dir = working_dir
        self.places: dict[str, Place] = {}

    def section(self, name: str) -> list[tuple[str, Node]]:
        node = self.model.get(name)
        return node.items() if node is not None else []

    def mark(self, node: Node, path: str, *, key: bool = False) -> None:
        line, column = (node.key_line, node.key_column) if key and node.key_line else (node.line, node.column)
        self.places.setdefault(path, Place(node.source.name, line, column))

    def error(
        self, node: Node, path: str, message: str, hint: str | None = None, related: tuple[Related, ...] = ()
    ) -> None:
        self.found.append(diagnostic(node, path, message, hint=hint, related=related))

    def attempt(self, node: Node, path: str, read: Callable[[Node], T], default: T) -> T:
        """`read(node)`, or `default` with the ValueError reported."""
        try:
            return read(node)
        except ValueError as exc:
            self.error(node, path, str(exc), getattr(exc, "hint", None))
            return default

    def variable(self, name: str, node: Node) -> str | None:
        """Its value in the file that `node` is from; None when it is not set."""
        return self._included.get(node.source.path, self.environment).get(name)

    def text(self, node: Node, key: str) -> str | None:
        item = node.get(key)
        return None if item is None else go_text(item.value) or None

    def each(self, node: Node, key: str) -> list[Node]:
        item = node.get(key)
        if item is None:
            return []
        return [item] if isinstance(item.value, str) else item.elements()

    def texts(self, node: Node, key: str) -> tuple[str, ...]:
        return tuple(go_text(item.value) for item in self.each(node, key))

    def flag(self, node: Node, path: str, key: str) -> bool:
        item = node.get(key)
        if item is None or item.value is None:
            return False
        if isinstance(item.value, str):
            return self.attempt(item, f"{path}.{key}", lambda n: cast_bool(go_text(n.value)), False)
        return bool(item.value)

    def command(self, node: Node, path: str, key: str) -> tuple[str, ...] | None:
        item = node.get(key)
        if item is None or item.value is None:
            return None
        words = command_words(item, f"{path}.{key}", self.found)
        if words is not None and any("\0" in word for word in words):
            self.error(item, f"{path}.{key}", "holds a NUL byte")
        return None if words is None else tuple(words)

    def pairs(self, node: Node, path: str, key: str, *, keep_null: bool) -> dict[str, str]:
        item = node.get(key)
        if item is None:
            return {}
        out = {}
        for name, value in long_forms.pairs(item).items():
            if value.value is None and not keep_null:
                continue
            text = go_text(value.value)
            if "\0" in text or "\0" in name:
                self.error(value, f"{path}.{key}.{name}", "holds a NUL byte")
            if not name:
                self.error(value, f"{path}.{key}", f'"={text}" has no name before its "="')
            out[name] = text
        return out

    def seconds(self, node: Node, path: str, key: str, default: float) -> float:
        item = node.get(key)
        if item is None:
            return default
        value = self.attempt(item, f"{path}.{key}", duration_ns, None)
        if value is not None and value < 0:
            self.error(item, f"{path}.{key}", "must not be negative")
        return default if value is None else value / NS_PER_SECOND


def at(node: Node, *keys: str) -> Node | None:
    """What stands below `node` at `keys`, or None."""
    found: Node | None = node
    for key in keys:
        found = found.get(key) if found is not None else None
    return found
