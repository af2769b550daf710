"""``env_file`` and ``label_file`` read into ``environment`` and ``labels``, which win over them."""

from __future__ import annotations

import os.path
from collections.abc import Callable, Mapping

from orchestrator.compose.kinds import long_forms
from orchestrator.compose.kinds.values import go_text
from orchestrator.compose.text import dotenv
from orchestrator.compose.text.diagnostics import Diagnostic, unset_in_file
from orchestrator.compose.text.files import MAX_ENV_BYTES, FileError, read_text, shown_name
from orchestrator.compose.text.tree import Node, diagnostic, place_of


class EnvironmentFiles:
    """Reads each file once. `errors` and `warnings` collect what is wrong with them, and what may be."""

    def __init__(
        self,
        environment: Mapping[str, str],
        directory: str,
        working_dir: str,
        errors: list[Diagnostic],
        warnings: list[Diagnostic] | None = None,
    ) -> None:
        self.working_dir = working_dir
        self.environment = environment
        self.directory = directory
        self.errors = errors
        self._warnings = [] if warnings is None else warnings
        self._told: set[Diagnostic] = set()
        self._texts: dict[str, str | FileError] = {}

    def resolve(self, service: Node, path: str, *, variables: bool) -> Node:
        """`service` with its env_file read, and gone (if `variables`), and its label_file read."""
        assert isinstance(service.value, dict)
        if "env_file" not in service.value and "label_file" not in service.value:
            return service
        out = dict(service.value)
        if "env_file" in out and variables:
            out = self._environment(out, path)
        if "label_file" in out:
            out = self._labels(out, path)
        return service.new(out)

    def _text(self, file: str) -> str | FileError:
        if file not in self._texts:
            try:
                self._texts[file] = read_text(os.path.join(self.working_dir, file), MAX_ENV_BYTES)
            except FileError as exc:
                self._texts[file] = exc
        return self._texts[file]

    def _environment(self, service: dict[str, Node], path: str) -> dict[str, Node]:
        files = service.pop("env_file")
        own = service.get("environment")
        own_pairs = long_forms.pairs(own) if own is not None else None
        mine = dict(own_pairs.items()) if own_pairs is not None else {}

        def lookup(name: str) -> str | None:
            if name in self.environment:
                return self.environment[name]
            item = mine.get(name)
            return go_text(item.value) if item is not None and item.value is not None else None

        read: dict[str, Node] = {}
        for number, entry in enumerate(files.elements()):
            for key, value in self._file(entry, f"{path}.env_file[{number}]", lookup, read).items():
                item = entry.new(value)
                item.key_line, item.key_column = entry.line, entry.column
                read[key] = item
        holder = own if own is not None else files
        merged = {**read, **mine}
        if merged:
            service["environment"] = holder.new(merged)
        return service

    def _file(self, entry: Node, path: str, lookup: Callable[[str], str | None], known: dict[str, Node]) -> dict[str, str]:
        node = entry.get("path") or entry
        file = go_text(node.value)
        required = entry.get("required")
        text = self._text(file)
        if isinstance(text, FileError):
            if text.missing and required is not None and required.value is False:
                return {}
            shown = shown_name(file, self.directory)
            self.errors.append(diagnostic(node, path, f"the file {shown} {text}", hint=text.hint))
            return {}
        kind = entry.get("format")
        if kind is not None and kind.value == "raw":
            return self._parsed(node, text, lambda: dotenv.parse_raw(text, lookup))
        if kind is not None and kind.value:
            self.errors.append(
                diagnostic(kind, path, f'"{go_text(kind.value)}" is not a format of env files (only raw is)')
            )
            return {}
        before = {key: go_text(item.value) for key, item in known.items()}

        def unset(variable: str, line: int) -> None:
            warning = unset_in_file(variable, shown_name(file, self.directory), text, line)
            if warning not in self._told:  # Several services may have the file.
                self._told.add(warning)
                self._warnings.append(warning)

        return self._parsed(node, text, lambda: dotenv.parse(text, lookup, before, unset))

    def _parsed(self, node: Node, text: str, parse: Callable[[], dict[str, str]]) -> dict[str, str]:
        """What `parse` makes of `text`, the content of the file that `node` names."""
        try:
            return parse()
        except dotenv.DotenvError as exc:
            lines = text.split("\n")
            quoted = lines[exc.line - 1] if exc.line <= len(lines) else None
            name = shown_name(go_text(node.value), self.directory)
            related = (place_of(node, "named here"),)
            self.errors.append(Diagnostic(name, exc.line, 1, "", str(exc), exc.hint, quoted, related=related))
            return {}

    def _labels(self, service: dict[str, Node], path: str) -> dict[str, Node]:
        files = service["label_file"]
        read: dict[str, Node] = {}
        for number, node in enumerate(files.elements()):
            file = go_text(node.value)
            text = self._text(file)
            if isinstance(text, FileError):
                shown = shown_name(file, self.directory)
                message = f"the file {shown} {text}"
                self.errors.append(diagnostic(node, f"{path}.label_file[{number}]", message, hint=text.hint))
                continue
            for key, value in self._parsed(node, text, lambda text=text: dotenv.parse(text, lambda name: None)).items():  # type: ignore[misc]
                read[key] = node.new(value)
        labels = service.get("labels")
        pairs = long_forms.pairs(labels) if labels is not None else None
        if read:
            service["labels"] = (labels or files).new({**read, **dict(pairs.items() if pairs is not None else ())})
        return service
