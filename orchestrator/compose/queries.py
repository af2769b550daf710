"""What ``config`` prints instead of the model: names, profiles, images, hashes, variables, the environment.

Source: ``docker compose config --help`` of v5.6.1, measured; sorted where Docker Compose leaves the order open.
"""

from __future__ import annotations

from orchestrator.compose import discovery
from orchestrator.compose.advice.hashes import service_hash
from orchestrator.compose.advice.lint import BY_NAME, Stack, advise
from orchestrator.compose.discovery import LoadRequest
from orchestrator.compose.kinds.shapes import JSON
from orchestrator.compose.load import DEFAULT_OPTIONS, ConfigOptions, Model, canonical_of, load_model_for
from orchestrator.compose.model.selection import profiles_of, services_of
from orchestrator.compose.text.diagnostics import ComposeError, Diagnostic, did_you_mean
from orchestrator.compose.text.interpolate import Variable, variables
from orchestrator.compose.text.tree import Node
from orchestrator.values import replace

PARTS = ("services", "volumes", "networks", "models", "configs", "secrets", "jobs")


def names(request: LoadRequest, part: str, options: ConfigOptions = DEFAULT_OPTIONS) -> list[str]:
    """The names of one of `PARTS`, sorted; of models, what they are made from. Raises ComposeError."""
    assert part in PARTS
    model = load_model_for(request, options)
    section = model.tree.get(part)
    if part == "models":
        sources = [item.get("model") for _, item in section.items()] if section is not None else []
        return sorted(str(source.value) for source in sources if source is not None)
    return sorted(key for key, _ in section.items()) if section is not None else []


def profiles(request: LoadRequest, options: ConfigOptions = DEFAULT_OPTIONS) -> list[str]:
    """All profiles that some service names, sorted, active or not. Raises ComposeError."""
    model = load_model_for(request, options)
    return sorted({name for service in services_of(model.complete).values() for name in profiles_of(service)})


def images(request: LoadRequest, options: ConfigOptions = DEFAULT_OPTIONS) -> list[str]:
    """The image of each service and job, sorted by image; ``PROJECT-SERVICE`` where one is built without a name.

    Raises ComposeError.
    """
    model = load_model_for(request, options)
    jobs = model.tree.get("jobs")
    out = []
    for name, service in [*services_of(model.tree).items(), *(jobs.items() if jobs is not None else ())]:
        image = service.get("image")
        if image is not None and image.value:
            out.append(str(image.value))
        elif service.get("build") is not None:
            out.append(f"{model.name}-{name}")
    return sorted(out)


def hashes(request: LoadRequest, wanted: str = "*", options: ConfigOptions = DEFAULT_OPTIONS) -> dict[str, str]:
    """The configuration hash of each service (``*``), or of those in a comma-separated list. Raises ComposeError."""
    canonical = canonical_of(load_model_for(request, options))
    services: dict[str, dict[str, JSON]] = canonical["services"]
    chosen = sorted(services) if wanted == "*" else [name.strip() for name in wanted.split(",")]
    missing = [name for name in chosen if name not in services]
    if missing:
        raise ComposeError(
            Diagnostic("", 0, 0, "", f"no such service: {name}{did_you_mean(name, services)}") for name in missing
        )
    return {name: service_hash(services[name]) for name in chosen}


def config_variables(request: LoadRequest) -> list[Variable]:
    """Every variable that the files use, by name: its last default, and whether it is required somewhere.

    Raises ComposeError.
    """
    model = load_model_for(request, ConfigOptions(interpolate=False))
    found: dict[str, Variable] = {}
    for key, item in model.tree.items():
        if key != "name":
            _collect(item, found)
    return [found[name] for name in sorted(found)]


def _collect(node: Node, found: dict[str, Variable]) -> None:
    value = node.value
    if isinstance(value, str):
        for variable in variables(value) if "$" in value else ():
            earlier = found.get(variable.name)
            if earlier is not None:
                variable = Variable(
                    variable.name,
                    variable.default or earlier.default,
                    variable.alternate or earlier.alternate,
                    variable.required or earlier.required,
                )
            found[variable.name] = variable
    elif isinstance(value, dict):
        for item in value.values():
            _collect(item, found)
    elif isinstance(value, list):
        for item in value:
            _collect(item, found)


def environment(request: LoadRequest) -> dict[str, str]:
    """What interpolation sees, sorted: the process, .env and COMPOSE_PROJECT_NAME. Raises ComposeError."""
    model: Model = load_model_for(request, DEFAULT_OPTIONS)
    found = discovery.discover(request)
    return dict(sorted({**found.environment, "COMPOSE_PROJECT_NAME": model.name, **request.environment}.items()))


def lint(request: LoadRequest) -> list[Diagnostic]:
    """The errors of a stack that does not load, or the advice about one that does; each with its code (errors: none)."""
    try:
        model = load_model_for(request, DEFAULT_OPTIONS)
        raw = load_model_for(request, ConfigOptions(interpolate=False))
    except ComposeError as exc:
        return list(exc.diagnostics)
    found = advise(Stack(model.complete, raw.complete, model.profiles))
    for warning in model.found.warnings:
        if warning.code in BY_NAME:
            found.append(replace(warning, code=BY_NAME[warning.code].code))
    return sorted(found, key=lambda item: (item.file, item.line, item.column, item.code))
