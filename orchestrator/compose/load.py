"""Loading a stack: the numbered phases from compose files to a `Project` and to the canonical model.

1. discover: which files, which folder, which environment (`discovery`)
2. read: parse, interpolate, extend, include, merge, validate, expand every file (`merge.layers`)
3. name: ``-p``, COMPOSE_PROJECT_NAME, ``name:``, or the folder's name
4. normalise: the default network, full names, implied dependencies (`model.normalize`)
5. check: references between the parts (`model.rules`)
6. resolve: env_file and label_file (`model.environment`)
7. select: profiles, named services and what they need (`model.choice`, `model.selection`)
8. show: the canonical model, as ``config`` prints it (`kinds.values`)
9. build: what the runtime takes (`model.support`, `model.project`)

A phase reports everything it finds wrong before the next one starts. Nothing here reads the process's environment.

The `Project` is the whole stack, whatever was named. The services that the request is about (named and what they need, else
the active ones) must be right in every respect; of the others, what is wrong from phase 5 on is left for when they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from orchestrator.compose import discovery
from orchestrator.compose.advice.lint import at_start
from orchestrator.compose.discovery import LoadRequest, discover_files
from orchestrator.compose.identity import project_identity, written_name
from orchestrator.compose.kinds import values
from orchestrator.compose.kinds.shapes import JSON
from orchestrator.compose.merge.context import Context, Findings
from orchestrator.compose.merge.layers import load_model
from orchestrator.compose.model import choice, jobs, selection
from orchestrator.compose.model.devices import unmapped_devices
from orchestrator.compose.model.environment import EnvironmentFiles
from orchestrator.compose.model.granted import ignored_owners
from orchestrator.compose.model.log_drivers import ignored_logging
from orchestrator.compose.model.machine_networks import as_modes
from orchestrator.compose.model.mounting import idle_options
from orchestrator.compose.model.namespaces import discarded_ports
from orchestrator.compose.model.normalize import normalize
from orchestrator.compose.model.project import build_project
from orchestrator.compose.model.rules import check_containers, check_jobs, check_parts, check_references
from orchestrator.compose.model.security import idle_capabilities
from orchestrator.compose.model.selection import services_of
from orchestrator.compose.model.support import unsupported
from orchestrator.compose.model.uninterpolated import readable
from orchestrator.compose.schema.attributes import TOP
from orchestrator.compose.schema.attributes_service import SERVICE
from orchestrator.compose.text.diagnostics import UNSET, ComposeError, Diagnostic, unset_text
from orchestrator.compose.text.tree import Node, diagnostic, plain
from orchestrator.model.project import Project
from orchestrator.values import frozen, replace

__all__ = [
    "ComposeError",
    "ConfigOptions",
    "Diagnostic",
    "LoadRequest",
    "Loaded",
    "discover_files",
    "load",
    "load_canonical",
    "project_identity",
]


@frozen
class Loaded:
    """A loaded stack, whole. `canonical` is what ``config --format json`` prints: the services that were asked for. The
    warnings are about these. `reaches`: a file named another one (include, extends)."""

    project: Project
    warnings: tuple[Diagnostic, ...]
    canonical: dict[str, JSON]
    reaches: bool = False


@frozen
class ConfigOptions:
    """The phases that ``config`` may leave out (``--no-interpolate`` and so on). `models`: show the top-level models,
    which Docker Compose does in YAML and not in JSON."""

    interpolate: bool = True
    normalize: bool = True
    resolve_paths: bool = True
    resolve_environment: bool = True
    check_consistency: bool = True
    models: bool = False


DEFAULT_OPTIONS = ConfigOptions()


@frozen
class Model:
    """What the phases up to 7 made. `complete` holds all services and resources, `tree` those that take part. `read`: as
    `complete`, with the files of the services read that take part (to be shown: also of those that are active).
    `enabled`: those of no profile, or of an active one."""

    name: str
    tree: Node
    complete: Node
    read: Node
    found: Findings
    files: tuple[str, ...]
    working_dir: str
    environment: Mapping[str, str]
    enabled: frozenset[str]
    profiles: tuple[str, ...]
    options: ConfigOptions


def load(request: LoadRequest) -> Loaded:
    """The whole stack, ready for the runtime: the same whatever services are named. Raises ComposeError, also for what the
    runtime does not support yet, in the services that are asked for."""
    model = _load(request, DEFAULT_OPTIONS, with_jobs=True)
    canonical = canonical_of(model)
    model = replace(
        model,
        tree=as_modes(model.tree, model.name, model.found.errors),
        read=as_modes(model.read, model.name, []),
    )
    asked = set(services_of(model.tree))
    check_jobs(model.complete, jobs.jobs_of(model.tree), asked | model.enabled, model.found.errors)
    if asked - model.enabled:
        check_references(model.complete, asked - model.enabled, asked, model.found.errors)
    refused, ignored = unsupported(model.tree)
    wrong = {item.path for item in model.found.errors}
    model.found.errors.extend(item for item in refused if item.path not in wrong)
    model.found.warnings.extend([*ignored, *ignored_owners(model.tree), *ignored_logging(model.tree)])
    model.found.warnings.extend([*discarded_ports(model.tree), *idle_options(model.tree)])
    model.found.warnings.extend(at_start(model.tree))
    model.found.warnings.extend([*idle_capabilities(model.tree), *unmapped_devices(model.tree)])
    whole, errors = _whole(model, request), model.found.errors
    included = model.found.environments
    project = build_project(
        whole, model.tree, model.name, model.working_dir, model.environment, errors, model.profiles, included
    )
    model.found.stop()
    project = replace(
        project,
        compose_files=model.files,
        inactive=frozenset(name for name in project.services if name not in model.enabled),
    )
    if project.providers:
        known = {name: _plain_config(canonical["services"].get(name, {})) for name in project.providers}
        providers = {name: replace(item, config=known[name]) for name, item in project.providers.items()}
        project = replace(project, providers=providers)
    return Loaded(project, tuple(model.found.warnings), canonical, bool(model.found.reached))


def _plain_config(service: JSON) -> str:
    """A service of the canonical model as a program reads it: with its dollar signs as they are."""
    return json.dumps(service).replace("$$", "$")


def _whole(model: Model, request: LoadRequest) -> Node:
    """The complete model with the files of every service and job read; what is wrong with those of services that were not
    asked for is nobody's concern yet."""
    others = set(services_of(model.read)) - set(services_of(model.tree))
    reader = EnvironmentFiles(model.environment, request.directory, model.working_dir, [])
    whole = _with_files(model.read, others, reader, variables=True) if others else model.read
    section = whole.get("jobs")
    if section is None or not isinstance(whole.value, dict):
        return whole
    asked = jobs.jobs_of(model.tree)
    told = EnvironmentFiles(model.environment, request.directory, model.working_dir, model.found.errors)
    read = {
        name: (told if name in asked else reader).resolve(job, f"jobs.{name}", variables=True)
        for name, job in jobs.jobs_of(whole).items()
    }
    return whole.new({**whole.value, "jobs": section.new(read)})


def load_canonical(
    request: LoadRequest, options: ConfigOptions = DEFAULT_OPTIONS
) -> tuple[dict[str, JSON], tuple[Diagnostic, ...]]:
    """(the canonical model, warnings), whether or not the runtime supports all of it. Raises ComposeError."""
    model = _load(request, options)
    canonical = canonical_of(model)
    model.found.stop()
    return canonical, tuple(model.found.warnings)


def load_model_for(request: LoadRequest, options: ConfigOptions) -> Model:
    """The model before it is shown, for `queries` and `lint`. Raises ComposeError."""
    model = _load(request, options)
    model.found.stop()
    return model


def _load(request: LoadRequest, options: ConfigOptions, *, with_jobs: bool = False) -> Model:
    """`with_jobs`: a job may be named like a service; what it depends on takes part then."""
    findings = Findings()
    try:
        return _phases(request, options, findings, with_jobs)
    except ComposeError as exc:
        raise ComposeError(map(findings.explained, exc.diagnostics)) from None


def _phases(request: LoadRequest, options: ConfigOptions, findings: Findings, with_jobs: bool) -> Model:
    found = discovery.discover(request)
    findings.warnings.extend(found.warnings)
    environment = dict(found.environment)
    name = discovery.given_name(request, environment) or written_name(request, found, interpolate=options.interpolate)
    environment.setdefault("COMPOSE_PROJECT_NAME", name)
    context = Context(
        found.working_dir,
        environment,
        request.directory,
        request.stdin_text,
        interpolate=options.interpolate,
        resolve_paths=options.resolve_paths,
    )
    tree = load_model(found.files, context, findings)
    if options.normalize:
        tree = normalize(tree, name, environment if options.interpolate else None)
    profiles = request.profiles or _split(environment.get("COMPOSE_PROFILES", ""))
    complete = read = tree
    enabled: set[str] = set()
    if options.interpolate:
        check_parts(tree, findings.errors)
        jobs.check_names(tree, findings.errors)
        services = selection.standings(tree)
        enabled = choice.enabled(services, profiles)
        if options.check_consistency:
            check_references(tree, enabled, enabled, findings.errors)
        called = jobs.called(tree, request.services) if with_jobs else {}
        chosen, missing = _chosen(tree, services, profiles, request.services, called)
        if missing:
            # A name that is none may be that of a job or service which could not be read: then that is what is wrong.
            told = [item for item in missing if item.dependent] if findings.errors else missing
            raise ComposeError([*findings.errors, *selection.explained(tree, told)])
        reader = EnvironmentFiles(environment, request.directory, found.working_dir, findings.errors, findings.warnings)
        # As Docker Compose has it: `config NAME` wants the files of all that are active, `up NAME` those of NAME alone.
        read = _with_files(tree, chosen if with_jobs else enabled | chosen, reader, variables=options.resolve_environment)
        part = selection.select(read, chosen, named=bool(request.services))
        tree = selection.without_jobs(selection.without_unused(part), profiles, called)
        if options.check_consistency:
            check_containers(tree, findings.errors)
    for variable, (node, path) in findings.unset.items():
        findings.warnings.append(diagnostic(node, path, unset_text(variable), code=UNSET))
    return Model(
        name=name,
        tree=tree,
        complete=complete,
        read=read,
        found=findings,
        files=found.files,
        working_dir=found.working_dir,
        environment=environment,
        enabled=frozenset(enabled),
        profiles=profiles,
        options=options,
    )


def _chosen(
    tree: Node,
    services: Mapping[str, choice.Standing],
    profiles: tuple[str, ...],
    named: tuple[str, ...],
    called: Mapping[str, Node],
) -> tuple[set[str], list[choice.Missing]]:
    """As `choice.choose`, with what the jobs that are `called` depend on."""
    if not called:
        return choice.choose(services, profiles, named)
    needed = (need for job in called.values() for need in jobs.needs_of(job, tree))
    wanted = [*(name for name in named if name not in called), *needed]
    return choice.choose(services, profiles, wanted) if wanted else (set(), [])


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _with_files(tree: Node, chosen: set[str], reader: EnvironmentFiles, *, variables: bool) -> Node:
    services = tree.get("services")
    if services is None or not isinstance(tree.value, dict):
        return tree
    out = {
        name: reader.resolve(service, f"services.{name}", variables=variables) if name in chosen else service
        for name, service in services_of(tree).items()
    }
    return tree.new({**tree.value, "services": services.new(out)})


def canonical_of(model: Model) -> dict[str, JSON]:
    """Phase 8. What cannot be shown is added to the model's findings. Without interpolation: the model as it is."""
    if not model.options.interpolate:
        raw: dict[str, JSON] = plain(readable(model.tree))
        return {**raw, "name": model.name} if model.options.normalize else raw
    shown = values.show_object(model.tree, TOP, "", model.found.errors)
    assert isinstance(shown, dict)
    running = services_of(model.tree)
    for name, other in services_of(model.complete).items():
        if name not in running:  # what does not run must be right too
            values.show(other, SERVICE, f"services.{name}", model.found.errors)
    for name, service in shown["services"].items():
        if name in model.enabled and model.options.check_consistency:
            _settle_replicas(service)
    if not model.options.models:
        shown.pop("models", None)
    out: dict[str, JSON] = {**shown, "name": model.name}
    for key, item in model.tree.items():
        if key.startswith("x-"):
            out[key] = plain(item)
    escaped: dict[str, JSON] = _escape(dict(sorted(out.items())))
    return escaped


def _settle_replicas(service: dict[str, JSON]) -> None:
    """``scale`` shows in ``deploy`` too, where there is one. (Docker Compose does it where it checks that they agree.)"""
    if "scale" in service and "deploy" in service:
        service["deploy"]["replicas"] = service["scale"]


def _escape(value: JSON) -> JSON:
    """Dollar signs doubled, so that the output reads back as the same model."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, dict):
        return {key.replace("$", "$$"): _escape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escape(item) for item in value]
    return value
