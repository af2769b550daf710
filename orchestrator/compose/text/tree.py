"""YAML text to trees whose every key and value knows its file, line and column.

The C parser's events are read directly (PyYAML's own constructors speak YAML 1.1, which is wrong here): scalars resolve
as `scalars` says, duplicate and non-string keys are errors, aliases share the anchored value instead of copying it, and
merge keys (``<<``) are folded in. Size, number of nodes (aliases counted as if copied) and depth are bounded, so an
alias bomb costs nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, TypeAlias

import yaml
from yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from orchestrator.compose.text.diagnostics import ComposeError, Diagnostic, Related
from orchestrator.compose.text.files import Source
from orchestrator.compose.text.scalars import construct, resolve_plain
from orchestrator.model.project import Place

MAX_NODES = 250_000
"""Values written in one file."""
MAX_EXPANDED = 450_000
"""Values of one file where an alias counts as often as it is used."""
MAX_DEPTH = 100
MAX_KEY_LENGTH = 1024

_Loader: Any = getattr(yaml, "CLoader", yaml.Loader)

Path: TypeAlias = "tuple[str | int, ...]"
Value: TypeAlias = "bool | int | float | str | list[Node] | dict[str, Node] | None"


class Node:
    """A value and where it is written. Nodes are shared (aliases, merges): a phase makes new ones, and never changes one.

    `key_line` is 0 unless the node is a mapping's value. `tag` is ``!reset``, ``!override`` or empty.
    """

    __slots__ = ("column", "key_column", "key_line", "line", "source", "tag", "value")

    def __init__(
        self,
        value: Value,
        source: Source,
        line: int,
        column: int,
        key_line: int = 0,
        key_column: int = 0,
        tag: str = "",
    ) -> None:
        self.value = value
        self.source = source
        self.line = line
        self.column = column
        self.key_line = key_line
        self.key_column = key_column
        self.tag = tag

    def __repr__(self) -> str:
        return f"Node({self.value!r}, {self.source.name}:{self.line}:{self.column})"

    def new(self, value: Value) -> Node:
        """Another value at the same place."""
        return Node(value, self.source, self.line, self.column, self.key_line, self.key_column)

    def kept(self, value: Value) -> Node:
        """Another value at the same place, under the same key and tag."""
        return Node(value, self.source, self.line, self.column, self.key_line, self.key_column, self.tag)

    def under(self, other: Node) -> Node:
        """This value under the key of `other`."""
        return Node(self.value, self.source, self.line, self.column, other.key_line, other.key_column, self.tag)

    def get(self, key: str) -> Node | None:
        """The value under `key`; None when this is not a mapping or has no such key."""
        return self.value.get(key) if isinstance(self.value, dict) else None

    def items(self) -> list[tuple[str, Node]]:
        """The entries of a mapping; nothing for anything else."""
        return list(self.value.items()) if isinstance(self.value, dict) else []

    def elements(self) -> list[Node]:
        """The elements of a list; nothing for anything else."""
        return self.value if isinstance(self.value, list) else []

    def text(self) -> str | None:
        """The value if it is a string."""
        return self.value if isinstance(self.value, str) else None


def plain(node: Node) -> Any:
    """The bare value, without places and with sorted keys: JSON-ready."""
    value = node.value
    if isinstance(value, dict):
        return {key: plain(item) for key, item in sorted(value.items())}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, str) else value


def token_length(line: str, column: int) -> int:
    """How many characters the token at `column` (from 1) spans: what a caret underlines."""
    rest = line[column - 1 : column + 200]
    match = _TOKEN.match(rest)
    return max(1, len(match[0].rstrip()) if match else 1)


_TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"\\]|\\.)*"|[^\s\[{](?:(?!:(?:\s|$)|\s#|[,\]}])[^\n])*""")


def diagnostic_at(
    source: Source,
    line: int,
    column: int,
    path: str,
    message: str,
    *,
    hint: str | None = None,
    code: str = "",
    related: tuple[Related, ...] = (),
) -> Diagnostic:
    text = source.line(line)
    length = token_length(text, column) if text is not None else 1
    return Diagnostic(source.name, line, column, path, message, hint, text, length, code, related)


def diagnostic(
    node: Node,
    path: str,
    message: str,
    *,
    hint: str | None = None,
    key: bool = False,
    code: str = "",
    related: tuple[Related, ...] = (),
) -> Diagnostic:
    """A finding about `node`, or about its key. `related`: further places that take part."""
    line, column = _position(node, key)
    return diagnostic_at(node.source, line, column, path, message, hint=hint, code=code, related=related)


def place_of(node: Node, note: str, *, key: bool = False) -> Related:
    """Where `node`, or its key, is written, with a note on it."""
    return Related(Place(node.source.name, *_position(node, key)), note)


def _position(node: Node, key: bool) -> tuple[int, int]:
    return (node.key_line, node.key_column) if key and node.key_line else (node.line, node.column)


def parse(source: Source) -> list[Node]:
    """The documents of `source`, empty ones left out. Raises ComposeError."""
    builder = _Builder(source)
    try:
        documents = builder.build(yaml.parse(source.text, Loader=_Loader))
    except yaml.YAMLError as exc:
        raise ComposeError([*builder.errors, _syntax_error(source, exc)]) from None
    if builder.errors:
        raise ComposeError(builder.errors)
    return documents


def _syntax_error(source: Source, exc: yaml.YAMLError) -> Diagnostic:
    mark = getattr(exc, "problem_mark", None) or getattr(exc, "context_mark", None)
    problem = getattr(exc, "problem", None) or getattr(exc, "reason", None) or str(exc)
    context = getattr(exc, "context", None)
    if "nesting depth" in problem:  # Newer libyaml has a limit of its own, which it meets before the events reach ours.
        problem, context = "nested too deeply", None
    message = f"not valid YAML: {problem}" + (f" ({context})" if context else "")
    hint = None
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (0, 0)
    position = getattr(exc, "position", None)
    if mark is None and isinstance(position, int) and position >= 0:
        before = source.text.encode()[:position].decode(errors="replace")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    text = source.line(line)
    if text is not None and "\t" in text[: max(column, 1)]:
        hint = "YAML allows no tabs for indentation: use spaces"
    elif "mapping values are not allowed" in message:
        hint = "is a quote or a line break missing? text with a colon and a space in it must be quoted"
    elif text is not None and text[column - 1 : column] == ":" and text[column : column + 1].strip():
        written = _flow_text(text, column)
        hint = f'in brackets and braces, text that begins or ends with a colon must be quoted: write "{written}"'
    elif text is None and line:
        line = max(1, source.text.rstrip("\n").count("\n") + 1)
        text = source.line(line) or ""
        column = len(text) + 1
    return Diagnostic(source.name, line, column, "", message, hint, text)


def _flow_text(line: str, column: int) -> str:
    """The text in brackets or braces that is at, or just before, `column` (from 1)."""
    start = end = column - 1
    while start and line[start - 1] not in "[{, \t\"'":
        start -= 1
    while end < len(line) and line[end] not in "]}, \t\"'":
        end += 1
    return line[start:end]


class _Frame:
    """A mapping or list that is being read."""

    __slots__ = ("anchor", "count", "key", "merges", "node", "skipped")

    def __init__(self, node: Node, anchor: str | None) -> None:
        self.node = node
        self.anchor = anchor
        self.key: tuple[str, int, int] | None = None
        self.merges: list[Node] = []
        self.count = 1
        self.skipped = False


_MERGE = "<<"


class _Builder:
    """Events to nodes, without recursion. `errors` collects what does not stop the parser."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.errors: list[Diagnostic] = []
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._open_anchors: set[str] = set()
        self._stack: list[_Frame] = []
        self._root: Node | None = None
        self._total = 0
        self._expanded = 0

    def build(self, events: Iterator[Event]) -> list[Node]:
        documents: list[Node] = []
        stack = self._stack
        for event in events:
            kind = type(event)
            if kind is ScalarEvent:
                self._scalar(event)
            elif kind is MappingStartEvent or kind is SequenceStartEvent:
                self._open(event, {} if kind is MappingStartEvent else [])
            elif kind is MappingEndEvent or kind is SequenceEndEvent:
                self._close(stack.pop())
            elif kind is AliasEvent:
                self._alias(event)
            elif kind is DocumentStartEvent:
                self._root = None
                self._anchors = {}
            elif kind is DocumentEndEvent and self._root is not None:
                documents.append(self._root)
        return documents

    def _fail(self, line: int, column: int, message: str, hint: str | None = None) -> ComposeError:
        return ComposeError([*self.errors, diagnostic_at(self.source, line, column, "", message, hint=hint)])

    def _add(self, line: int, column: int, message: str) -> None:
        if len(self.errors) < 100:
            self.errors.append(diagnostic_at(self.source, line, column, "", message))

    def _count(self, line: int, column: int) -> None:
        self._total += 1
        if self._total > MAX_NODES:
            raise self._too_large(line, column, f"more than {MAX_NODES:,} values")

    def _count_alias(self, number: int, line: int, column: int) -> None:
        self._expanded += number
        if self._total + self._expanded > MAX_EXPANDED:
            raise self._too_large(line, column, f"more than {MAX_EXPANDED:,} values, aliases counted each time")

    def _too_large(self, line: int, column: int, what: str) -> ComposeError:
        return self._fail(line, column, f"too large: {what}", "split the stack into several projects")

    def _scalar(self, event: Any) -> None:
        mark = event.start_mark
        line, column = mark.line + 1, mark.column + 1
        self._count(line, column)
        text: str = event.value
        tag: str | None = event.tag
        stack = self._stack
        frame = stack[-1] if stack else None
        if frame is not None:
            frame.count += 1
        value: Value
        own_tag = ""
        if tag is None or tag == "!" or tag == "tag:yaml.org,2002:str":
            value = resolve_plain(text) if not event.style and tag is None else text
        elif tag in ("!reset", "!override"):
            own_tag = tag  # such a tag makes any scalar text: `!override null` is "null"
            value = text
        else:
            try:
                value = construct(tag, text)
            except ValueError as exc:
                self._add(line, column, str(exc))
                value = text
        if isinstance(value, float) and not math.isfinite(value):
            self._add(line, column, f"{text} is not a number that a stack may hold")
        if frame is not None and frame.key is None and isinstance(frame.node.value, dict):
            self._key(frame, text, value, line, column, not event.style and tag is None)
            return
        node = Node(value, self.source, line, column, tag=own_tag)
        if event.anchor is not None:
            self._anchors[event.anchor] = (node, 1)
        self._put(node)

    def _key(self, frame: _Frame, text: str, value: Value, line: int, column: int, is_plain: bool) -> None:
        if len(text) > MAX_KEY_LENGTH:
            raise self._fail(line, column, f"a key of {len(text):,} characters is too long")
        if isinstance(value, str):
            if value == _MERGE and is_plain:
                frame.key = (_MERGE, -1, column)
                return
            entries = frame.node.value
            assert isinstance(entries, dict)
            if value in entries:
                earlier = entries[value]
                self._add(line, column, f'the key "{value}" is already defined at line {earlier.key_line}')
            frame.key = (str(value), line, column)
        else:
            shown = "null" if value is None else text
            self._add(line, column, f'the key "{shown}" is not a string (put it in quotes)')
            frame.key = (f"{shown}", line, column)

    def _open(self, event: Any, value: dict[str, Node] | list[Node]) -> None:
        mark = event.start_mark
        line, column = mark.line + 1, mark.column + 1
        self._count(line, column)
        if len(self._stack) >= MAX_DEPTH:
            raise self._fail(line, column, f"nested too deeply: more than {MAX_DEPTH} levels")
        frame = self._stack[-1] if self._stack else None
        if frame is not None and frame.key is None and isinstance(frame.node.value, dict):
            raise self._fail(line, column, "a key must be a string, not a list or a mapping")
        tag: str | None = event.tag
        own_tag = tag if tag in ("!reset", "!override") else ""
        node = Node(value, self.source, line, column, tag=own_tag)
        anchor: str | None = event.anchor
        if anchor is not None:
            self._open_anchors.add(anchor)
        self._stack.append(_Frame(node, anchor))

    def _close(self, frame: _Frame) -> None:
        node = frame.node
        if frame.merges:
            self._merge(frame)
        if frame.anchor is not None:
            self._open_anchors.discard(frame.anchor)
            self._anchors[frame.anchor] = (node, frame.count)
        if self._stack:
            self._stack[-1].count += frame.count
        self._put(node)

    def _alias(self, event: Any) -> None:
        mark = event.start_mark
        line, column = mark.line + 1, mark.column + 1
        name: str = event.anchor
        if name in self._open_anchors:
            raise self._fail(line, column, f'the anchor "{name}" contains itself')
        known = self._anchors.get(name)
        if known is None:
            raise self._fail(line, column, f'there is no anchor "&{name}" before this alias')
        node, count = known
        self._count_alias(count, line, column)
        frame = self._stack[-1] if self._stack else None
        if frame is not None:
            frame.count += count
            if frame.key is None and isinstance(frame.node.value, dict):
                text = node.value
                if not isinstance(text, str):
                    raise self._fail(line, column, "a key must be a string")
                self._key(frame, text, text, line, column, False)
                return
        self._put(Node(node.value, node.source, node.line, node.column, tag=node.tag))

    def _put(self, node: Node) -> None:
        if not self._stack:
            self._root = node
            return
        frame = self._stack[-1]
        container = frame.node.value
        if isinstance(container, list):
            container.append(node)
            return
        assert isinstance(container, dict)
        assert frame.key is not None
        key, line, column = frame.key
        frame.key = None
        if line == -1:
            frame.merges.append(node)
            return
        node.key_line, node.key_column = line, column
        container[key] = node

    def _merge(self, frame: _Frame) -> None:
        """Fold the merge keys in: what is written in the mapping itself wins, then the earlier of several."""
        own = frame.node.value
        assert isinstance(own, dict)
        merged: dict[str, Node] = {}
        for value in frame.merges:
            parts = value.value if isinstance(value.value, list) else [value]
            for part in parts:
                if not isinstance(part.value, dict):
                    self._add(part.line, part.column, "a merge key (<<) needs a mapping or a list of mappings")
                    continue
                for key, item in part.value.items():
                    merged.setdefault(key, item)
        for key, item in merged.items():
            own.setdefault(key, item)
