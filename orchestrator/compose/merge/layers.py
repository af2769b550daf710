"""Files to one merged model: parse, interpolate, include, extends, reset, merge, unique, validate, expand.

Every document of every file goes through these steps, and the next one is put over the result. An included file is a
model of its own (its own folder, its own variables), put under the file that includes it; a file named by ``extends`` only
lends a service. Errors are collected; a document that is broken does not hide what is wrong with the next.
"""

from __future__ import annotations

import os.path
from collections.abc import Mapping

from orchestrator.compose.discovery import read_env_file
from orchestrator.compose.kinds import defaults, expand, merging, once, paths
from orchestrator.compose.kinds.checking import MAX_FOUND, check, prune
from orchestrator.compose.kinds.values import go_text
from orchestrator.compose.merge.context import Context, Findings, interpolated
from orchestrator.compose.merge.extends import Extends
from orchestrator.compose.merge.reset import collect_resets, remove
from orchestrator.compose.schema.attributes import RESOURCES, TOP
from orchestrator.compose.text.diagnostics import ComposeError, Diagnostic
from orchestrator.compose.text.files import Source, read_source, shown_name, stdin_source
from orchestrator.compose.text.tree import Node, Path, diagnostic, parse
from orchestrator.values import replace

MAX_INCLUDES = 500
MAX_INCLUDE_DEPTH = 30


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
    # Without interpolation what the caller's environment has is left to be looked up; nobody reads an include's file again.
    return _resolve_bare_environment(model, context.environment if context.interpolate else context.added)


def _source(path: str, context: Context) -> Source:
    if path == "-":
        return stdin_source(context.stdin_text or "")
    return read_source(path, context.directory)


def _layer(model: Node | None, document: Node, source: Source, context: Context, found: Findings) -> Node | None:
    """`document` put over `model`."""
    resets, document = collect_resets(document)
    document = interpolated(document, context, found)
    document = _include(document, source, resets, context, found)
    document = Extends(source, context, found, resets).apply(document)
    if model is not None and resets:
        model = remove(model, resets)
    errors_before = len(found.errors)
    merged = document
    if model is not None:
        merged = merging.merge(model, document, TOP, "", found.errors)
    merged = once.unique(merged, TOP)
    if context.validate:
        check(merged, TOP, "", found.errors)
        merged = _without_the_obsolete(merged, found)
    if len(found.errors) >= MAX_FOUND:
        found.stop()
    if len(found.errors) > errors_before:
        merged = prune(merged, TOP) or document.new({})
    merged = expand.expand(merged, TOP, "", found.errors, lenient=not context.interpolate)
    return once.unique(merged, TOP)


def _without_the_obsolete(model: Node, found: Findings) -> Node:
    """`model` without ``version``. Warns of it, and of the ``external.name`` that `expand` rewrites."""
    assert isinstance(model.value, dict)
    for section in ("networks", "volumes", "configs", "secrets"):
        for key, item in model.value[section].items() if section in model.value else ():
            external = item.get("external")
            name = external.get("name") if external is not None else None
            if name is not None:
                path, hint = f"{section}.{key}.external.name", "write external: true, and name: beside it"
                message = "external.name is deprecated"
                found.warnings.append(diagnostic(name, path, message, hint=hint, key=True, code="external-name"))
    version = model.value.get("version")
    if version is None:
        return model
    message = "the attribute `version` is obsolete and has no effect"
    found.warnings.append(diagnostic(version, "version", message, hint="remove it", key=True, code="obsolete-version"))
    return model.new({key: item for key, item in model.value.items() if key != "version"})


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
        own = merging.merge(imported, own, TOP, "", found.errors)
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
        found.reach(shown_name(file, context.directory), item, "included here")
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
        added={key: environment[key] for key in environment if key in context.added or key not in context.environment},
        resolve_paths=True,
        chain=(*context.chain, source.path),
        stdin_text=None,
    )
    found.environments.update({file: environment for _, file in files})
    own = Findings(
        warnings=found.warnings,
        unset=found.unset,
        includes=found.includes,
        reached=found.reached,
        environments=found.environments,
    )
    try:
        model = load_model(tuple(file for _, file in files), inner, own)
    except ComposeError as exc:
        found.errors.extend(exc.diagnostics)
        return None
    finally:
        found.includes = own.includes
    found.errors.extend(own.errors)
    assert isinstance(model.value, dict)
    return model.new({key: item for key, item in model.value.items() if key in ("services", "jobs", *RESOURCES)})


def _include_environment(entry: Node, path: str, folder: str, context: Context, found: Findings) -> dict[str, str]:
    named = _texts(entry.get("env_file"))
    files = [paths.absolute(context.folder, go_text(item.value), None) for item in named if item.value != "/dev/null"]
    if not named:
        default = os.path.join(folder, ".env")
        files = [default] if os.path.isfile(default) else []
    known: dict[str, str] = {}
    for file in files:
        found.reach(shown_name(file, context.directory), entry, "included here")
        try:
            known.update(read_env_file(file, context.directory, context.environment, known))
        except ComposeError as exc:
            found.errors.extend(exc.diagnostics)
    return {**known, **context.environment}
