"""The model as the runtime takes it: `orchestrator.model.Project`, with the place of everything it may complain about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from orchestrator.compose.kinds.checking import check
from orchestrator.compose.kinds.shapes import Shape
from orchestrator.compose.model import (
    chaos,
    counts,
    devices,
    expecting,
    granted,
    health,
    hooks,
    images,
    jobs,
    limits,
    linking,
    log_drivers,
    mounting,
    namespaces,
    networks,
    process,
    project_parts,
    providers,
    security,
    updating,
    watching,
)
from orchestrator.compose.model.host_hooks import host_hooks
from orchestrator.compose.model.reader import Reader, at
from orchestrator.compose.model.resolving import own_name, resolving
from orchestrator.compose.model.selection import services_of
from orchestrator.compose.schema.attributes import DEPENDENCY_X_PYSTACK, TOP_X_PYSTACK, X_PYSTACK
from orchestrator.compose.text.diagnostics import Diagnostic
from orchestrator.compose.text.tree import Node
from orchestrator.model.health import OnUnhealthy
from orchestrator.model.job import Job
from orchestrator.model.names import NetworkName, ProjectName, ServiceName, VolumeName
from orchestrator.model.project import Project
from orchestrator.model.provider import Provider
from orchestrator.model.restart import RestartKind, RestartPolicy
from orchestrator.model.service import Cascade, Condition, Dependency, Service
from orchestrator.values import replace


def build_project(
    model: Node,
    asked: Node,
    name: str,
    working_dir: str,
    environment: Mapping[str, str],
    found: list[Diagnostic],
    profiles: tuple[str, ...] = (),
    included: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
) -> Project:
    """The services, jobs, networks and volumes of a normalised model as a Project. What it cannot hold of those that are in
    `asked` too, the part of `model` that is asked for, is added to `found` (the result is then of no use). `included`: the
    environments of included files, by their paths."""
    read = Reader(model, found, environment, working_dir, included)
    unhealthy = _on_unhealthy(read, model, "x-pystack", OnUnhealthy.RESTART, TOP_X_PYSTACK)

    def each(section: str) -> Iterator[tuple[str, Node]]:
        wanted = asked.get(section)
        for key, node in read.section(section):
            read.found = found if wanted is not None and wanted.get(key) is not None else []
            yield key, node
        read.found = found

    for section in ("secrets", "configs"):
        for key, node in each(section):
            granted.check_granted(read, section, key, node)
    services: dict[ServiceName, Service] = {}
    by_program: dict[ServiceName, Provider] = {}
    for key, node in each("services"):
        if providers.is_provided(node):
            by_program[ServiceName(key)] = providers.provider(read, key, node, profiles)
        else:
            services[ServiceName(key)] = _service(read, name, key, node, unhealthy)
    by_job: dict[ServiceName, Job] = {}
    for key, node in each("jobs"):
        services[ServiceName(key)] = replace(_container(read, name, key, node, f"jobs.{key}", unhealthy), job=True)
        by_job[ServiceName(key)] = jobs.triggers(read, node, f"jobs.{key}", profiles)
    made = {NetworkName(key): networks.network(read, key, node) for key, node in each("networks")}
    of_those = {key: service for key, service in services.items() if _in(asked, key)}
    networks.check_addresses(read, made, of_those)
    project_parts.check_published(read, of_those)
    return Project(
        name=ProjectName(name),
        working_dir=working_dir,
        services=services,
        networks=made | namespaces.implied_networks(name, services, made),
        volumes={VolumeName(key): project_parts.volume(read, key, node) for key, node in each("volumes")},
        places=read.places,
        chaos=chaos.script(read, model, name, services),
        profiles=profiles,
        jobs=by_job,
        providers=by_program,
        host_hooks=host_hooks(read, model),
        observe=_observe(read, model),
        expect=expecting.expectation(read, model, services),
    )


def _observe(read: Reader, model: Node) -> bool:
    own = model.get("x-pystack")
    node = own.get("net") if own is not None else None
    return node is not None and read.flag(node, "x-pystack.net", "observe")


def _in(asked: Node, service: str) -> bool:
    nodes = (asked.get("services"), asked.get("jobs"))
    return any(node is not None and node.get(service) is not None for node in nodes)


def _service(read: Reader, project: str, name: str, node: Node, unhealthy: OnUnhealthy) -> Service:
    path = f"services.{name}"
    service = replace(
        _container(read, project, name, node, path, unhealthy),
        post_start=hooks.hooks(read, node, path, "post_start"),
        pre_stop=hooks.hooks(read, node, path, "pre_stop"),
        watch=watching.watch_rules(read, node, path),
        update=updating.update_rules(read, node, path, "update_config"),
        rollback=updating.update_rules(read, node, path, "rollback_config"),
    )
    if node.get("pre_start") is None:
        return service

    def container(item: Node, place: str) -> Service:
        return _container(read, project, name, item, place, unhealthy)

    return replace(service, pre_start=hooks.init_steps(read, node, service, container))


def _container(read: Reader, project: str, name: str, node: Node, path: str, unhealthy: OnUnhealthy) -> Service:
    """What stands at `path` of a service, or of a container that runs before it."""
    _mark(read, node, path)
    mounts = project_parts.mounts(read, node, path)
    shared = namespaces.namespaces(read, node, path)
    ports = project_parts.ports(read, node, path)
    process.check_runtime(read, node, path)
    service = Service(
        name=ServiceName(name),
        image=images.image_name(read, node, project, name),
        build=images.build_spec(read, node, path),
        platform=read.text(node, "platform") or "",
        pull_policy=images.pull_policy(read, node, path),
        command=read.command(node, path, "command"),
        entrypoint=read.command(node, path, "entrypoint"),
        environment=read.pairs(node, path, "environment", keep_null=False),
        working_dir=read.text(node, "working_dir"),
        user=read.text(node, "user"),
        hostname=own_name(read, node, path, "hostname"),
        depends_on=_dependencies(read, node, path),
        healthcheck=health.health(read, node, path, ports),
        on_unhealthy=_on_unhealthy(read, node, f"{path}.x-pystack", unhealthy),
        restart=_restart(read, read.model, node, path),
        ports=ports if shared.publishes else (),
        expose=read.texts(node, "expose"),
        volumes=mounts,
        files=granted.granted_files(read, node, path, mounts),
        networks=networks.attachments(read, node, path),
        stop_signal=counts.stop_signal(read, node, path),
        stop_grace_s=read.seconds(node, path, "stop_grace_period", 10.0),
        profiles=read.texts(node, "profiles"),
        limits=limits.LimitsReader(read, node, path).limits(),
        read_only=read.flag(node, path, "read_only"),
        init=read.flag(node, path, "init"),
        tty=read.flag(node, path, "tty"),
        stdin_open=read.flag(node, path, "stdin_open"),
        attach=read.text(node, "attach") is None or read.flag(node, path, "attach"),
        labels=read.pairs(node, path, "labels", keep_null=True),
        replicas=counts.replicas(read, node, path),
        container_name=read.text(node, "container_name"),
        namespaces=shared,
        cgroup_parent=namespaces.parent_cgroup(read, node, path),
        ulimits=limits.ulimits(read, node, path),
        oom_score_adj=process.oom_score_adj(read, node, path),
        group_add=process.group_add(read, node, path),
        domainname=own_name(read, node, path, "domainname"),
        resolving=resolving(read, node, path),
        shm_bytes=mounting.shm_bytes(read, node, path),
        volumes_from=mounting.volumes_from(read, node, path),
        storage_bytes=mounting.storage_bytes(read, node, path),
        annotations=read.pairs(node, path, "annotations", keep_null=True),
        cap_add=security.capabilities(read, node, path, "cap_add"),
        cap_drop=security.capabilities(read, node, path, "cap_drop"),
        security=security.security(read, node, path),
        devices=devices.devices(read, node, path),
        logging=log_drivers.logging(read, node, path),
        links=linking.links(read, node, path, shared),
    )
    return security.with_host_user(service) if service.security.privileged else service


def _mark(read: Reader, node: Node, path: str) -> None:
    """Where everything of a service stands."""
    read.mark(node, path, key=True)
    for key, item in node.items():
        read.mark(item, f"{path}.{key}")
        for number, element in enumerate(item.elements()):
            read.mark(element, f"{path}.{key}[{number}]")


def _dependencies(read: Reader, node: Node, path: str) -> Mapping[ServiceName, Dependency]:
    item = node.get("depends_on")
    out: dict[ServiceName, Dependency] = {}
    known = services_of(read.model)
    usual = _cascade(read, read.model, "x-pystack", TOP_X_PYSTACK, None)
    usual = _cascade(read, node, f"{path}.x-pystack", X_PYSTACK, usual)
    for name, entry in item.items() if item is not None else ():
        if name not in known or providers.is_provided(known[name]):  # That is there before any container.
            continue
        place = f"{path}.depends_on.{name}"
        read.mark(entry, place, key=True)
        condition, required, restart = (entry.get(key) for key in ("condition", "required", "restart"))
        if (own := entry.get("x-pystack")) is not None:
            check(own, DEPENDENCY_X_PYSTACK, f"{place}.x-pystack", read.found)
        out[ServiceName(name)] = Dependency(
            ServiceName(name),
            Condition(condition.value) if condition is not None else Condition.STARTED,
            required is None or required.value is not False,
            restart is not None and restart.value is True,
            _cascade(read, entry, f"{place}.x-pystack", DEPENDENCY_X_PYSTACK, usual),
        )
    return out


def _cascade(read: Reader, node: Node, place: str, shape: Shape, default: Cascade | None) -> Cascade | None:
    """What is of another shape is told where the rest of that x-pystack is."""
    value = at(node, "x-pystack", "cascade")
    wrong: list[Diagnostic] = []
    if value is not None and (own := node.get("x-pystack")) is not None:
        check(own, shape, place, wrong)
    return Cascade(value.value) if value is not None and not wrong else default


def _restart(read: Reader, model: Node, node: Node, path: str) -> RestartPolicy:
    """``deploy.restart_policy`` wins over ``restart``, as with Docker Compose."""
    deployed = at(node, "deploy", "restart_policy")
    own, shared = at(node, "x-pystack", "restart"), at(model, "x-pystack", "restart")
    written = _written_restart(read, node, path)
    if deployed is None and own is None and shared is None:
        return written
    from orchestrator.compose.model import restarts  # Few stacks have more than `restart`.

    if deployed is not None and isinstance(deployed.value, dict):
        written = restarts.deploy_policy(read, deployed, f"{path}.deploy.restart_policy")
    if own is not None:
        return restarts.with_backoff(read, own, f"{path}.x-pystack.restart", written)
    return restarts.with_backoff(read, shared, "x-pystack.restart", written) if shared is not None else written


def _written_restart(read: Reader, node: Node, path: str) -> RestartPolicy:
    item = node.get("restart")
    text = item.text() if item is not None else None
    if item is None or not text:
        return RestartPolicy()
    kind, colon, attempts = text.partition(":")
    if kind == "on-failure" and colon:
        if not attempts.isdecimal() or not attempts.isascii():
            read.error(item, f"{path}.restart", f'"{attempts}" is not a number of attempts (write on-failure:3)')
            return RestartPolicy()
        return RestartPolicy(RestartKind.ON_FAILURE, int(attempts) or None)
    if colon or kind not in {policy.value for policy in RestartKind}:
        message = f'"{text}" is not one of no, always, on-failure, on-failure:3, unless-stopped'
        read.error(item, f"{path}.restart", message)
        return RestartPolicy()
    return RestartPolicy(RestartKind(kind))


def _on_unhealthy(
    read: Reader, node: Node, path: str, default: OnUnhealthy, shape: Shape = X_PYSTACK
) -> OnUnhealthy:
    own = node.get("x-pystack")
    if own is None:
        return default
    before = len(read.found)
    check(own, shape, path, read.found)
    value = own.get("on_unhealthy")
    return OnUnhealthy(value.value) if value is not None and len(read.found) == before else default
