"""Files to one merged model: parse, interpolate, include, extends, reset, merge, unique, validate, expand.

Every document of every file goes through these steps, and the next one is put over the result. An included file is a
model of its own (its own folder, its own variables), put under the file that includes it; a file named by ``extends`` only
lends a service. Errors are collected; a document that is broken does not hide what is wrong with the next.
"""

from __future__ import annotations

import os.path
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from orchestrator.compose import defaults, expand, merge, paths, variables
from orchestrator.compose.attributes import TOP
from orchestrator.compose.attributes_service import SERVICE
from orchestrator.compose.diagnostics import ComposeError, Diagnostic, did_you_mean
from orchestrator.compose.discovery import read_env_file
from orchestrator.compose.files import Source, read_source, shown_name, stdin_source
from orchestrator.compose.reset import collect_resets, remove
from orchestrator.compose.shapes import check, prune
from orchestrator.compose.tree import Node, Path, diagnostic, parse
from orchestrator.compose.values import go_text

MAX_INCLUDES = 500
MAX_INCLUDE_DEPTH = 30
MAX_EXTENDS = 60


@dataclass(slots=True)
class Findings:
    """What loading found so far. `unset` maps each variable without a value to where it was first used."""

    errors: list[Diagnostic] = field(default_factory=list)
    warnings: list[Diagnostic] = field(default_factory=list)
    unset: dict[str, tuple[Node, str]] = field(default_factory=dict)
    includes: int = 0

    def stop(self) -> None:
        """Raise ComposeError if there are errors: those of a file in its order, one for each path at a place."""
        if not self.errors:
            return
        files: dict[str, int] = {}
        once: dict[tuple[str, int, int, str], Diagnostic] = {}
        for item in self.errors:
            files.setdefault(item.file, len(files))
            once.setdefault((item.file, item.line, item.column, item.path), item)
        raise ComposeError(sorted(once.values(), key=lambda item: (files[item.file], item.line, item.column)))


@dataclass(frozen=True, slots=True)
class Context:
    """What a set of files is loaded with. `folder` is what their relative paths are against; `chain` the files that
    include them."""

    folder: str
    environment: Mapping[str, str]
    directory: str
    """Names of files are shown relative to it."""
    stdin_text: str | None = None
    interpolate: bool = True
    resolve_paths: bool = True
    validate: bool = True
    chain: tuple[str, ...] = ()


def load_model(files: tuple[str, ...], context: Context, found: Findings) -> Node:
    """The merged model of `files`. Raises ComposeError when nothing sensible can be made of them."""
    model: Node | None = None
    for path in files:
        try:
            source = _source(path, context)
            documents = parse(source)
        except ComposeError as exc:
            found.errors.extend(exc.diagnostics)
            continue
        for document in documents:
            if not isinstance(document.value, dict):
                found.errors.append(diagnostic(document, "", "the top level must be a mapping (services:, volumes:, ...)"))
                continue
            model = _layer(model, document, source, context, found)
    if model is None or not model.value:
        if not found.errors:
            name = shown_name(files[0], context.directory)
            found.errors.append(Diagnostic(name, 0, 0, "", "the file is empty", "a stack needs services:"))
        raise ComposeError(found.errors)
    model = defaults.with_defaults(model, TOP)
    if context.resolve_paths:
        model = paths.resolve(model, TOP, context.folder, context.environment.get("HOME"))
    return _resolve_bare_environment(model, context.environment)


def _source(path: str, context: Context) -> Source:
    if path == "-":
        return stdin_source(context.stdin_text or "")
    return read_source(path, context.directory)


def _layer(model: Node | None, document: Node, source: Source, context: Context, found: Findings) -> Node | None:
    """`document` put over `model`."""
    resets, document = collect_resets(document)
    document = _interpolate(document, context, found)
    document = _null_sections(document)
    document = _include(document, source, resets, context, found)
    document = _Extends(source, context, found, resets).apply(document)
    if model is not None and resets:
        model = remove(model, resets)
    errors_before = len(found.errors)
    merged = document
    if model is not None:
        merged = merge.merge(model, document, TOP, "", found.errors)
    merged = merge.unique(merged, TOP)
    if context.validate:
        check(merged, TOP, "", found.errors)
        if "version" in (merged.value if isinstance(merged.value, dict) else {}):
            merged = _drop_version(merged, found)
    if len(found.errors) > errors_before:
        merged = prune(merged, TOP) or document.new({})
    merged = expand.expand(merged, TOP, "", found.errors, lenient=not context.interpolate)
    return merge.unique(merged, TOP)


def _drop_version(model: Node, found: Findings) -> Node:
    assert isinstance(model.value, dict)
    version = model.value["version"]
    message = "the attribute `version` is obsolete and has no effect"
    found.warnings.append(diagnostic(version, "version", message, hint="remove it", key=True, code="obsolete-version"))
    return model.new({key: item for key, item in model.value.items() if key != "version"})


def _interpolate(document: Node, context: Context, found: Findings) -> Node:
    def unset(node: Node, path: str, name: str) -> None:
        found.unset.setdefault(name, (node, path))

    environment = context.environment if context.interpolate else None
    return variables.resolve(document, TOP, environment, found.errors, unset)


_SECTIONS = ("volumes", "networks", "secrets", "configs", "models")


def _null_sections(document: Node) -> Node:
    """An empty section (``volumes:``) is an empty mapping."""
    assert isinstance(document.value, dict)
    empty = [key for key in _SECTIONS if key in document.value and document.value[key].value is None]
    return document.new({**document.value, **{key: document.value[key].new({}) for key in empty}}) if empty else document


def _resolve_bare_environment(model: Node, environment: Mapping[str, str]) -> Node:
    """``environment: [KEY]`` takes the value from the environment of the file that says so."""
    services = model.get("services")
    if services is None or not isinstance(services.value, dict) or not isinstance(model.value, dict):
        return model
    out: dict[str, Node] = {}
    for name, service in services.value.items():
        variables_ = service.get("environment")
        if variables_ is None or not isinstance(variables_.value, list) or not isinstance(service.value, dict):
            out[name] = service
            continue
        items = []
        for item in variables_.value:
            key = go_text(item.value)
            items.append(item.new(f"{key}={environment[key]}") if key in environment else item)
        out[name] = service.new({**service.value, "environment": variables_.new(items)})
    return model.new({**model.value, "services": services.new(out)})


# include


def _include(document: Node, source: Source, resets: list[Path], context: Context, found: Findings) -> Node:
    assert isinstance(document.value, dict)
    includes = document.value.get("include")
    if includes is None or includes.value is None:
        return (
            document
            if includes is None
            else document.new({key: item for key, item in document.value.items() if key != "include"})
        )
    own = document.new({key: item for key, item in document.value.items() if key != "include"})
    shape = TOP.at("include")
    before = len(found.errors)
    assert shape is not None
    check(includes, shape, "include", found.errors)
    if len(found.errors) > before:
        return own
    for number, entry in enumerate(expand.expand(includes, shape, "include", found.errors, lenient=True).elements()):
        imported = _included(entry, f"include[{number}]", source, context, found)
        if imported is None:
            continue
        if resets:
            imported = remove(imported, resets)
        own = merge.merge(imported, own, TOP, "", found.errors)
    return own


def _texts(node: Node | None) -> list[Node]:
    if node is None:
        return []
    return [node] if isinstance(node.value, str) else node.elements()


def _included(entry: Node, path: str, source: Source, context: Context, found: Findings) -> Node | None:
    """The model of one ``include`` entry, without its name; None when it failed (which is then in `found`)."""
    found.includes += 1
    if found.includes > MAX_INCLUDES:
        raise ComposeError([*found.errors, diagnostic(entry, path, f"more than {MAX_INCLUDES} files are included")])
    files = [(item, paths.absolute(context.folder, go_text(item.value), None)) for item in _texts(entry.get("path"))]
    if not files:
        found.errors.append(diagnostic(entry, path, "names no file"))
        return None
    for item, file in files:
        if paths.is_remote(go_text(item.value)):
            found.errors.append(
                diagnostic(item, path, "files cannot be included from a URL", hint="copy it beside this file")
            )
            return None
        if file in (*context.chain, source.path):
            chain = " -> ".join(shown_name(name, context.directory) for name in (*context.chain, source.path, file))
            found.errors.append(diagnostic(item, path, f"the files include each other: {chain}"))
            return None
    if len(context.chain) >= MAX_INCLUDE_DEPTH:
        message = f"files are included more than {MAX_INCLUDE_DEPTH} levels deep"
        raise ComposeError([*found.errors, diagnostic(entry, path, message)])
    named = entry.get("project_directory")
    if named is not None and named.value:
        folder = paths.absolute(context.folder, go_text(named.value), None)
    else:
        folder = os.path.dirname(files[0][1])
    environment = _include_environment(entry, path, folder, context, found)
    inner = replace(
        context,
        folder=folder,
        environment=environment,
        resolve_paths=True,
        chain=(*context.chain, source.path),
        stdin_text=None,
    )
    own = Findings(warnings=found.warnings, unset=found.unset, includes=found.includes)
    try:
        model = load_model(tuple(file for _, file in files), inner, own)
    except ComposeError as exc:
        found.errors.extend(_noted(item, entry) for item in exc.diagnostics)
        return None
    finally:
        found.includes = own.includes
    found.errors.extend(_noted(item, entry) for item in own.errors)
    assert isinstance(model.value, dict)
    return model.new({key: item for key, item in model.value.items() if key in ("services", "jobs", *_SECTIONS)})


def _noted(finding: Diagnostic, entry: Node) -> Diagnostic:
    place = f"{entry.source.name}:{entry.line}:{entry.column}: included here"
    return replace(finding, related=(*finding.related, place))


def _include_environment(entry: Node, path: str, folder: str, context: Context, found: Findings) -> dict[str, str]:
    named = _texts(entry.get("env_file"))
    files = [paths.absolute(context.folder, go_text(item.value), None) for item in named if item.value != "/dev/null"]
    if not named:
        default = os.path.join(folder, ".env")
        files = [default] if os.path.isfile(default) else []
    known: dict[str, str] = {}
    for file in files:
        try:
            known.update(read_env_file(file, context.directory, context.environment, known))
        except ComposeError as exc:
            found.errors.extend(_noted(item, entry) for item in exc.diagnostics)
    return {**known, **context.environment}


# extends


class _Extends:
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
        own = Node(
            {key: item for key, item in service.value.items() if key != "extends"},
            service.source,
            service.line,
            service.column,
            service.key_line,
            service.key_column,
            service.tag,
        )
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
            self._error(named, path, f"the services extend each other: {' -> '.join(names)}")
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
        return merge.merge(base, own, SERVICE, f"services.{name}", self.found.errors).under(service)

    def _error(self, node: Node, path: str, message: str, hint: str | None = None) -> None:
        self.found.errors.append(diagnostic(node, path, message, hint=hint))

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
            resolved = _null_sections(_interpolate(resolved, self.context, self.found))
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
