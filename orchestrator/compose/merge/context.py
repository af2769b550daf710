"""What a set of files is loaded with, what was found so far, and the first steps of every document."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.compose.kinds import variables
from orchestrator.compose.schema.attributes import TOP
from orchestrator.compose.text.diagnostics import ComposeError, Diagnostic, Related
from orchestrator.compose.text.tree import Node, place_of
from orchestrator.values import entity, field, frozen, replace

MAX_WAYS = 3
"""So many of the places that name a file are remembered."""


@entity
class Findings:
    """What loading found so far. `unset` maps each variable without a value to where it was first used."""

    errors: list[Diagnostic] = field(default_factory=list)
    warnings: list[Diagnostic] = field(default_factory=list)
    unset: dict[str, tuple[Node, str]] = field(default_factory=dict)
    includes: int = 0
    reached: dict[str, list[Related]] = field(default_factory=dict)
    """The files that another one names (include, extends), each with the places that do."""
    environments: dict[str, Mapping[str, str]] = field(default_factory=dict)
    """What the variables of included files mean, by the paths of these files."""

    def reach(self, file: str, node: Node, how: str) -> None:
        """`node` names `file`: every error in the file will name the place of `node` too."""
        ways = self.reached.setdefault(file, [])
        way = place_of(node, how)
        if way not in ways and len(ways) < MAX_WAYS and way.place.file != file:
            ways.append(way)

    def explained(self, item: Diagnostic) -> Diagnostic:
        """`item` with the places by which its file was reached, the nearest first."""
        if item.file not in self.reached:
            return item
        related = list(item.related)
        files, seen = [item.file], {item.file}
        for file in files:
            for way in self.reached.get(file, ()):
                if way not in related:
                    related.append(way)
                if way.place.file not in seen:
                    seen.add(way.place.file)
                    files.append(way.place.file)
        return replace(item, related=tuple(related))

    def stop(self) -> None:
        """Raise ComposeError if there are errors: those of a file in its order, one for each path at a place."""
        if not self.errors:
            return
        files: dict[str, int] = {}
        once: dict[tuple[str, int, int, str], Diagnostic] = {}
        for item in self.errors:
            files.setdefault(item.file, len(files))
            once.setdefault((item.file, item.line, item.column, item.path), self.explained(item))
        raise ComposeError(sorted(once.values(), key=lambda item: (files[item.file], item.line, item.column)))


@frozen
class Context:
    """What a set of files is loaded with. `folder` is what their relative paths are against; `chain` the files that
    include them; `added` what their includes' files of variables have added to the caller's environment."""

    folder: str
    environment: Mapping[str, str]
    directory: str
    """Names of files are shown relative to it."""
    stdin_text: str | None = None
    interpolate: bool = True
    resolve_paths: bool = True
    validate: bool = True
    chain: tuple[str, ...] = ()
    added: Mapping[str, str] = field(default_factory=dict)


def interpolated(document: Node, context: Context, found: Findings) -> Node:
    def unset(node: Node, path: str, name: str) -> None:
        found.unset.setdefault(name, (node, path))

    environment = context.environment if context.interpolate else None
    return variables.resolve(document, TOP, environment, found.errors, unset)
