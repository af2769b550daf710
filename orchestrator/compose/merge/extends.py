"""``extends``: a service that starts from another one, of this file or of another."""

from __future__ import annotations

import os.path

from orchestrator.compose.kinds import expand, merging, paths
from orchestrator.compose.kinds.checking import check
from orchestrator.compose.kinds.values import go_text
from orchestrator.compose.merge.context import Context, Findings, interpolated
from orchestrator.compose.merge.reset import collect_resets, remove
from orchestrator.compose.schema.attributes_service import SERVICE
from orchestrator.compose.text.diagnostics import ComposeError, did_you_mean
from orchestrator.compose.text.files import Source, read_source, shown_name
from orchestrator.compose.text.tree import Node, Path, diagnostic, parse, place_of

MAX_EXTENDS = 60


class Extends:
    """``extends`` of the services of one document. Each service is resolved once; a service that extends itself, over
    whatever detour, is an error."""

    def __init__(self, source: Source, context: Context, found: Findings, resets: list[Path]) -> None:
        self.source = source
        self.context = context
        self.found = found
        self.resets = resets
        self._files: dict[str, dict[str, Node] | None] = {}
        self._file_resets: dict[str, list[Path]] = {}
        self._done: dict[tuple[str, str], Node | None] = {}
        self._documents: dict[str, dict[str, Node]] = {}

    def apply(self, document: Node) -> Node:
        services = document.get("services")
        if services is None or not isinstance(services.value, dict):
            return document
        if not any(isinstance(s.value, dict) and "extends" in s.value for s in services.value.values()):
            return document
        self._documents[self.source.path] = services.value
        out = {}
        for name, service in services.value.items():
            out[name] = self._service(self.source.path, name, services.value, ()) or service
        assert isinstance(document.value, dict)
        return document.new({**document.value, "services": services.new(out)})

    def _service(self, file: str, name: str, services: dict[str, Node], chain: tuple[tuple[str, str], ...]) -> Node | None:
        key = (file, name)
        if key in self._done:
            return self._done[key]
        service = services[name]
        if not isinstance(service.value, dict) or "extends" not in service.value:
            self._done[key] = service
            return service
        resolved = self._extend(file, name, service, services, (*chain, key))
        self._done[key] = resolved
        return resolved

    def _extend(
        self, file: str, name: str, service: Node, services: dict[str, Node], chain: tuple[tuple[str, str], ...]
    ) -> Node:
        assert isinstance(service.value, dict)
        path = f"services.{name}.extends"
        own = service.kept({key: item for key, item in service.value.items() if key != "extends"})
        node = service.value["extends"]
        named = node if isinstance(node.value, str) else node.get("service")
        if named is None or not isinstance(named.value, str):
            shape = SERVICE.at("extends")
            assert shape is not None
            check(node, shape, path, self.found.errors)
            return own
        other_file, others = file, services
        file_node = node.get("file")
        if file_node is not None and file_node.value:
            other_file = paths.absolute(self._folder(file), go_text(file_node.value), None)
            if paths.is_remote(go_text(file_node.value)):
                self._error(file_node, path, "a service cannot be extended from a URL", "copy the file beside this one")
                return own
            if other_file != self.source.path:
                self.found.reach(shown_name(other_file, self.context.directory), file_node, "extended here")
            loaded = services if other_file == self.source.path and file == other_file else self._load(other_file)
            if loaded is None:
                return own
            others = loaded
        if named.value not in others:
            near = did_you_mean(named.value, others)
            where = "" if other_file == file else f" of {shown_name(other_file, self.context.directory)}"
            self._error(named, path, f'"{named.value}" is not a service{where}{near}')
            return own
        key = (other_file, str(named.value))
        if key in chain:
            names = [shown for _, shown in (*chain[chain.index(key) :], key)]
            related = tuple(place_of(*step) for step in self._steps(chain[chain.index(key) : -1]))
            message = f"the services extend each other: {' -> '.join(names)}"
            self.found.errors.append(diagnostic(named, path, message, related=related))
            return own
        if len(chain) >= MAX_EXTENDS:
            message = f"more than {MAX_EXTENDS} services extend each other in a row"
            raise ComposeError([*self.found.errors, diagnostic(named, path, message)])
        base = self._service(other_file, str(named.value), others, chain)
        if base is None or base.value is None:
            return service
        if not isinstance(base.value, dict):
            return own
        base = self._prepared(base, name, file)
        # At the place of the service that extends: the base's own place may be in another file.
        return service.new(merging.merge(base, own, SERVICE, f"services.{name}", self.found.errors).value)

    def _error(self, node: Node, path: str, message: str, hint: str | None = None) -> None:
        self.found.errors.append(diagnostic(node, path, message, hint=hint))

    def _steps(self, chain: tuple[tuple[str, str], ...]) -> list[tuple[Node, str]]:
        """Where each service of `chain` says what it extends."""
        out = []
        for file, name in chain:
            services = self._documents.get(file) or self._files.get(file) or {}
            node = services[name].get("extends") if name in services else None
            if node is not None:
                out.append((node, f"services.{name}.extends"))
        return out

    def _folder(self, file: str) -> str:
        return self.context.folder if file == self.source.path else os.path.dirname(file)

    def _prepared(self, base: Node, name: str, file: str) -> Node:
        """The base without what the extending service, in `file`, resets or overrides."""
        known = self.resets if file == self.source.path else self._file_resets.get(file, [])
        resets = [reset for reset in known if reset[:2] == ("services", name)]
        if not resets:
            return base
        holder = base.new({"services": base.new({name: base})})
        removed = remove(holder, resets).get("services")
        assert removed is not None
        return removed.get(name) or base

    def _load(self, file: str) -> dict[str, Node] | None:
        """The services of another file, with its paths made absolute; None when it cannot be used."""
        if file in self._files:
            return self._files[file]
        self._files[file] = None
        services: dict[str, Node] = {}
        try:
            documents = parse(read_source(file, self.context.directory))
        except ComposeError as exc:
            self.found.errors.extend(exc.diagnostics)
            return None
        for document in documents:
            if not isinstance(document.value, dict):
                continue
            resets, resolved = collect_resets(document)
            self._file_resets.setdefault(file, []).extend(resets)
            resolved = interpolated(resolved, self.context, self.found)
            own = resolved.get("services")
            if own is None or not isinstance(own.value, dict):
                continue
            before = len(self.found.errors)
            for key, service in own.value.items():
                shape = SERVICE if isinstance(service.value, dict) else None
                longer = expand.expand(service, shape, f"services.{key}", [], lenient=True)
                services[key] = paths.resolve(longer, shape, os.path.dirname(file), self.context.environment.get("HOME"))
            if len(self.found.errors) > before:
                return None
        self._files[file] = services
        return services
