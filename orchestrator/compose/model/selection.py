"""The services and resources of a model that take part, by the rule of `choice`, and findings about the choice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestrator.compose.kinds.values import go_text
from orchestrator.compose.model.choice import INACTIVE_HINT, Missing, Standing, inactive_message
from orchestrator.compose.schema.attributes import RESOURCES
from orchestrator.compose.text.diagnostics import Diagnostic, did_you_mean, nearest, services_hint
from orchestrator.compose.text.tree import Node, diagnostic, place_of


def services_of(model: Node) -> dict[str, Node]:
    services = model.get("services")
    return services.value if services is not None and isinstance(services.value, dict) else {}


def profiles_of(service: Node) -> tuple[str, ...]:
    node = service.get("profiles")
    return tuple(go_text(item.value) for item in node.elements()) if node is not None else ()


def standings(model: Node) -> dict[str, Standing]:
    """What `choice` looks at in every service."""
    out = {}
    for name, service in services_of(model).items():
        depends_on = service.get("depends_on")
        needs = {}
        for key, entry in depends_on.items() if depends_on is not None else ():
            required = entry.get("required")
            needs[key] = required is None or required.value is not False
        out[name] = Standing(profiles_of(service), needs)
    return out


def explained(model: Node, missing: Iterable[Missing]) -> list[Diagnostic]:
    """What is wrong with a choice, at the places where it is asked for."""
    services = services_of(model)
    out = []
    for item in missing:
        if not item.dependent:
            message = f"no such service: {item.name}{did_you_mean(item.name, services)}"
            out.append(Diagnostic("", 0, 0, "", message, services_hint(services)))
            continue
        entry = (services[item.dependent].get("depends_on") or model).get(item.name)
        assert entry is not None
        out.append(missing_dependency(entry, f"services.{item.dependent}.depends_on", item.name, services, out))
    return out


def missing_dependency(
    entry: Node, path: str, name: str, services: Mapping[str, Node], found: list[Diagnostic]
) -> Diagnostic:
    """The finding about `entry` of a ``depends_on`` at `path`: `name` is no service, or none that takes part."""
    if name not in services:
        return diagnostic(entry, path, f'"{name}" is not a service{nearest(name, services, found)}', key=True)
    profiles = services[name].get("profiles")
    related = (place_of(profiles, f"services.{name}.profiles", key=True),) if profiles is not None else ()
    message = inactive_message(name, profiles_of(services[name]))
    return diagnostic(entry, path, message, hint=INACTIVE_HINT, key=True, related=related)


def select(model: Node, chosen: set[str], *, named: bool) -> Node:
    """`model` with only the `chosen` services. Their optional dependencies on others stay unless the choice was `named`,
    as in Docker Compose."""
    services = model.get("services")
    if services is None or not isinstance(services.value, dict) or not isinstance(model.value, dict):
        return model
    out = {}
    for name, service in services.value.items():
        if name in chosen:
            out[name] = _without_others(service, chosen) if named else service
    return model.new({**model.value, "services": services.new(out)})


def _without_others(service: Node, chosen: set[str]) -> Node:
    depends_on = service.get("depends_on")
    if depends_on is None or not isinstance(depends_on.value, dict) or not isinstance(service.value, dict):
        return service
    kept = {key: entry for key, entry in depends_on.value.items() if key in chosen}
    if len(kept) == len(depends_on.value):
        return service
    out = {key: item for key, item in service.value.items() if key != "depends_on"}
    return service.new({**out, "depends_on": depends_on.new(kept)} if kept else out)


def without_jobs(model: Node, profiles: Iterable[str], called: Iterable[str] = ()) -> Node:
    """`model` without the jobs whose profiles are not active, but with those that are `called` by name."""
    jobs = model.get("jobs")
    if jobs is None or not isinstance(jobs.value, dict) or not isinstance(model.value, dict):
        return model
    active = set(profiles)
    named = set(called)
    kept = {
        name: job for name, job in jobs.value.items() if name in named or Standing(profiles_of(job), {}).active(active)
    }
    return model.new({**model.value, "jobs": jobs.new(kept)})


def without_unused(model: Node) -> Node:
    """`model` without the networks, volumes, configs, secrets and models that no service uses (jobs and hooks do not
    count: Docker Compose does not count them)."""
    assert isinstance(model.value, dict)
    used: dict[str, set[str]] = {section: set() for section in RESOURCES}
    for service in services_of(model).values():
        _note_used(service, used)
    top = dict(model.value)
    for section in RESOURCES:
        node = top.get(section)
        if node is None or not isinstance(node.value, dict):
            continue
        kept = {key: item for key, item in node.value.items() if key in used[section]}
        if kept:
            top[section] = node.new(kept)
        else:
            del top[section]
    return model.new(top)


def _note_used(service: Node, used: dict[str, set[str]]) -> None:
    for section in ("networks", "models"):
        node = service.get(section)
        if node is not None:
            used[section].update(key for key, _ in node.items())
            used[section].update(go_text(item.value) for item in node.elements())
    for mount in _elements(service, "volumes"):
        kind, source = mount.get("type"), mount.get("source")
        if kind is not None and kind.value == "volume" and source is not None:
            used["volumes"].add(go_text(source.value))
    for section in ("configs", "secrets"):
        for item in _elements(service, section):
            source = item.get("source")
            used[section].add(go_text(source.value) if source is not None else go_text(item.value))
    build = service.get("build")
    for item in _elements(build, "secrets") if build is not None else ():
        source = item.get("source")
        if source is not None:
            used["secrets"].add(go_text(source.value))


def _elements(node: Node, key: str) -> list[Node]:
    below = node.get(key)
    return below.elements() if below is not None else []
