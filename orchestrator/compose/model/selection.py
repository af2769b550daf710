"""Profiles, named services and what they need: which services and resources of a model take part."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.compose.kinds.values import go_text
from orchestrator.compose.schema.attributes import RESOURCES
from orchestrator.compose.text.diagnostics import ComposeError, Diagnostic, did_you_mean
from orchestrator.compose.text.tree import Node


def services_of(model: Node) -> dict[str, Node]:
    services = model.get("services")
    return services.value if services is not None and isinstance(services.value, dict) else {}


def profiles_of(service: Node) -> tuple[str, ...]:
    node = service.get("profiles")
    return tuple(go_text(item.value) for item in node.elements()) if node is not None else ()


def enabled(model: Node, profiles: Iterable[str]) -> set[str]:
    """The services without profiles, and those with an active one; ``*`` activates all."""
    active = set(profiles)
    out = set()
    for name, service in services_of(model).items():
        if _is_active(service, active):
            out.add(name)
    return out


def with_named(model: Node, profiles: Iterable[str], named: Iterable[str]) -> set[str]:
    """As `enabled`, with the profiles of the `named` services active too. Raises ComposeError for an unknown name."""
    services = services_of(model)
    active = set(profiles)
    errors = []
    for name in named:
        if name not in services:
            errors.append(Diagnostic("", 0, 0, "", f'"{name}" is not a service{did_you_mean(name, services)}'))
            continue
        active.update(profiles_of(services[name]))
    if errors:
        raise ComposeError(errors)
    return enabled(model, active)


def needed(model: Node, chosen: set[str], named: Iterable[str]) -> set[str]:
    """Of the `chosen` services the `named` ones and what they depend on; all of them when none is named."""
    wanted = [name for name in named if name in chosen]
    if not wanted:
        return chosen
    services = services_of(model)
    out: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in out:
            continue
        out.add(name)
        depends_on = services[name].get("depends_on")
        if depends_on is not None:
            wanted.extend(key for key, _ in depends_on.items() if key in chosen)
    return out


def select(model: Node, chosen: set[str]) -> Node:
    """`model` with only the `chosen` services. Their optional dependencies on others stay."""
    services = model.get("services")
    if services is None or not isinstance(services.value, dict) or not isinstance(model.value, dict):
        return model
    out = {}
    for name, service in services.value.items():
        if name in chosen:
            out[name] = service
    return model.new({**model.value, "services": services.new(out)})


def without_jobs(model: Node, profiles: Iterable[str]) -> Node:
    """`model` without the jobs whose profiles are not active."""
    jobs = model.get("jobs")
    if jobs is None or not isinstance(jobs.value, dict) or not isinstance(model.value, dict):
        return model
    active = set(profiles)
    kept = {name: job for name, job in jobs.value.items() if _is_active(job, active)}
    return model.new({**model.value, "jobs": jobs.new(kept)})


def _is_active(node: Node, active: set[str]) -> bool:
    own = profiles_of(node)
    return not own or "*" in active or "" in own or bool(active & set(own))


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
