"""What the format implies, written out: the default network, full names, implied dependencies, variables of the
environment.

Source: compose-spec, and the measured behaviour of Docker Compose v5.6.1.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.compose.kinds import expand, long_forms, merging, once, short_forms
from orchestrator.compose.kinds.values import go_text
from orchestrator.compose.schema.attributes_service import CONTAINER, PRE_START
from orchestrator.compose.text.tree import Node

NAMED = ("networks", "volumes", "configs", "secrets")
INHERITED = frozenset(row.name for row in CONTAINER) - {"volumes"}
_NAMESPACES = ("network_mode", "ipc", "pid", "uts", "cgroup")


def normalize(model: Node, project: str, environment: Mapping[str, str] | None) -> Node:
    """`model` with everything implied written out. `environment` None: but for what that has."""
    assert isinstance(model.value, dict)
    top = dict(model.value)
    services = top.get("services")
    uses_default = False
    if services is not None and isinstance(services.value, dict):
        out = {}
        for name, service in services.value.items():
            if isinstance(service.value, dict):
                service = _service(service, environment)
                uses_default = uses_default or _on_default(service)
            out[name] = service
        top["services"] = services.new(out)
    jobs = top.get("jobs")
    if jobs is not None and isinstance(jobs.value, dict):
        top["jobs"] = jobs.new({name: _service(job, environment) for name, job in jobs.value.items()})
        uses_default = uses_default or any(_on_default(job) for job in top["jobs"].value.values())  # type: ignore[union-attr]
    networks = top.get("networks") or model.new({})
    if uses_default and isinstance(networks.value, dict) and "default" not in networks.value:
        networks = networks.new({**networks.value, "default": model.new({})})
    if networks.value:
        top["networks"] = networks
    for section in NAMED:
        if section in top:
            top[section] = _named(top[section], project)
    return model.new(top)


def _on_default(service: Node) -> bool:
    networks = service.get("networks")
    return networks is not None and isinstance(networks.value, dict) and "default" in networks.value


def _named(section: Node, project: str) -> Node:
    """Every entry with its full name: ``PROJECT_KEY``, or the key itself for what someone else made."""
    if not isinstance(section.value, dict):
        return section
    out = {}
    for key, item in section.value.items():
        entry = item if isinstance(item.value, dict) else item.new({})
        assert isinstance(entry.value, dict)
        name = entry.value.get("name")
        if name is None or name.value is None:
            external = entry.value.get("external")
            full = key if external is not None and external.value is True else f"{project}_{key}"
            entry = entry.new({**entry.value, "name": entry.new(full)})
        out[key] = entry
    return section.new(out)


def _service(service: Node, environment: Mapping[str, str] | None) -> Node:
    assert isinstance(service.value, dict)
    out = dict(service.value)
    policy = out.get("pull_policy")
    if policy is not None and policy.value == "if_not_present":
        out["pull_policy"] = policy.new("missing")
    build = out.get("build")
    if build is not None and isinstance(build.value, dict):
        out["build"] = _build(build, environment)
    variables = out.get("environment")
    if variables is not None:
        out["environment"] = from_environment(variables, environment, keep_missing=True)
    if _needs_default(out):
        networks = service.new({"default": service.new(None)})
        networks.key_line, networks.key_column = service.key_line, service.key_column
        out["networks"] = networks
    implied = _implied(out)
    if implied:
        depends_on = out.get("depends_on")
        base = dict(depends_on.value) if depends_on is not None and isinstance(depends_on.value, dict) else {}
        for name, item in implied.items():
            base.setdefault(name, item)
        out["depends_on"] = depends_on.new(base) if depends_on is not None else service.new(base)
    volumes = out.get("volumes")
    if volumes is not None and isinstance(volumes.value, list):
        out["volumes"] = volumes.new([_clean_target(item) for item in volumes.value])
    hooks = out.get("pre_start")
    if hooks is not None and isinstance(hooks.value, list):
        out["pre_start"] = hooks.new([_hook(item, out, environment) for item in hooks.value])
    return service.new(out)


def _hook(hook: Node, service: dict[str, Node], environment: Mapping[str, str] | None) -> Node:
    """A pre_start container takes from its service whatever it does not say itself, but not the mounts."""
    inherited = hook.new({key: item for key, item in service.items() if key in INHERITED})
    merged = once.unique(merging.merge(inherited, hook, PRE_START, "", []), PRE_START)
    assert isinstance(merged.value, dict)
    out = dict(merged.value)
    if "environment" in out:
        out["environment"] = from_environment(out["environment"], environment, keep_missing=True)
    if "volumes" in out and isinstance(out["volumes"].value, list):
        out["volumes"] = out["volumes"].new([_clean_target(item) for item in out["volumes"].value])
    return hook.new(out)


def _needs_default(service: dict[str, Node]) -> bool:
    networks = service.get("networks")
    if networks is not None and networks.value:
        return False
    return not _given(service, "network_mode") and not _given(service, "provider")


def _given(service: dict[str, Node], key: str) -> bool:
    return key in service and service[key].value is not None


def _build(build: Node, environment: Mapping[str, str] | None) -> Node:
    assert isinstance(build.value, dict)
    out = dict(build.value)
    if not _given(out, "dockerfile") and not _given(out, "dockerfile_inline"):
        out["dockerfile"] = build.new("Dockerfile")
    if "args" in out:
        out["args"] = from_environment(out["args"], environment, keep_missing=False)
    return build.new(out)


def from_environment(node: Node, environment: Mapping[str, str] | None, *, keep_missing: bool) -> Node:
    """Keys without a value take it from `environment`; where it has none they stay null, or go. None: all stay."""
    pairs = long_forms.pairs(node)
    if not isinstance(pairs.value, dict):
        return node
    out = {}
    for key, item in pairs.value.items():
        if item.value is not None or environment is None:
            out[key] = item
        elif key in environment:
            out[key] = item.new(environment[key])
        elif keep_missing:
            out[key] = item
    return node.new(out)


def _clean_target(mount: Node) -> Node:
    target = mount.get("target")
    if target is None or not isinstance(target.value, str) or not isinstance(mount.value, dict):
        return mount
    clean = short_forms.clean_path(target.value)
    return mount if clean == target.value else mount.new({**mount.value, "target": target.new(clean)})


def _implied(service: dict[str, Node]) -> dict[str, Node]:
    """Dependencies that links, shared namespaces and volumes_from imply."""
    out: dict[str, Node] = {}

    def add(node: Node, name: str, restart: bool) -> None:
        fields: dict[str, str | bool] = {"condition": "service_started", "required": True}
        if restart:
            fields["restart"] = True
        item = expand.made(node, fields)
        if restart and isinstance(item.value, dict):  # What nobody has written does not follow a crash.
            item.value["x-pystack"] = expand.made(node, {"cascade": "ignore"})
        item.key_line, item.key_column = node.line, node.column
        out.setdefault(name, item)

    for link in service["links"].elements() if "links" in service else ():
        parts = go_text(link.value).split(":")
        add(link, parts[0] if len(parts) == 2 else go_text(link.value), True)
    for namespace in _NAMESPACES:
        node = service.get(namespace)
        text = node.text() if node is not None else None
        if node is not None and text is not None and text.startswith("service:"):
            add(node, text.removeprefix("service:"), True)
    for source in service["volumes_from"].elements() if "volumes_from" in service else ():
        text = go_text(source.value)
        if not text.startswith("container:"):
            add(source, text.split(":")[0], False)
    return out
