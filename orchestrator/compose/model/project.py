"""The model as the runtime takes it: `orchestrator.model.Project`, with the place of everything it may complain about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orchestrator.compose.kinds.shapes import check
from orchestrator.compose.kinds.values import byte_size, cast_float, cast_int, duration_ns, go_text
from orchestrator.compose.model import project_parts
from orchestrator.compose.model.reader import Reader, at
from orchestrator.compose.model.selection import services_of
from orchestrator.compose.schema.attributes import X_PYSTACK
from orchestrator.compose.text.diagnostics import Diagnostic, did_you_mean
from orchestrator.compose.text.tree import Node, place_of
from orchestrator.errors import InputError
from orchestrator.model.health import HealthCheck, OnUnhealthy
from orchestrator.model.limits import Limits
from orchestrator.model.names import NetworkName, ProjectName, ServiceName, VolumeName
from orchestrator.model.project import Project
from orchestrator.model.restart import RestartKind, RestartPolicy
from orchestrator.model.service import Condition, Dependency, Service
from orchestrator.units import NS_PER_SECOND, parse_signal, signal_name

MAX_REPLICAS = 10_000
"""Of one service: more is a slip of the keyboard, and no machine holds it."""
SIGNALS = range(1, 65)

MIN_PROBE_NS = 1_000_000
"""moby refuses shorter intervals and time-outs than a millisecond; 0 stands for the default."""


def build_project(model: Node, asked: Node, name: str, working_dir: str, found: list[Diagnostic]) -> Project:
    """The services, networks and volumes of a normalised model as a Project. What it cannot hold of those that are in
    `asked` too, the part of `model` that is asked for, is added to `found` (the result is then of no use)."""
    read = Reader(model, found)
    unhealthy = _on_unhealthy(read, model, "x-pystack", OnUnhealthy.RESTART)

    def each(section: str) -> Iterator[tuple[str, Node]]:
        wanted = asked.get(section)
        for key, node in read.section(section):
            read.found = found if wanted is not None and wanted.get(key) is not None else []
            yield key, node
        read.found = found

    return Project(
        name=ProjectName(name),
        working_dir=working_dir,
        services={ServiceName(key): _service(read, key, node, unhealthy) for key, node in each("services")},
        networks={NetworkName(key): project_parts.network(read, key, node) for key, node in each("networks")},
        volumes={VolumeName(key): project_parts.volume(read, key, node) for key, node in each("volumes")},
        places=read.places,
    )


def _service(read: Reader, name: str, node: Node, unhealthy: OnUnhealthy) -> Service:
    path = f"services.{name}"
    read.mark(node, path, key=True)
    for key, item in node.items():
        read.mark(item, f"{path}.{key}")
        for number, element in enumerate(item.elements()):
            read.mark(element, f"{path}.{key}[{number}]")
    image = read.text(node, "image") or ""
    return Service(
        name=ServiceName(name),
        image=image,
        command=read.command(node, path, "command"),
        entrypoint=read.command(node, path, "entrypoint"),
        environment=read.pairs(node, path, "environment", keep_null=False),
        working_dir=read.text(node, "working_dir"),
        user=read.text(node, "user"),
        hostname=read.text(node, "hostname"),
        depends_on=_dependencies(read, node, path),
        healthcheck=_healthcheck(read, node, path),
        on_unhealthy=_on_unhealthy(read, node, f"{path}.x-pystack", unhealthy),
        restart=_restart(read, node, path),
        ports=project_parts.ports(read, node, path),
        expose=tuple(go_text(item.value) for item in read.each(node, "expose")),
        volumes=project_parts.mounts(read, node, path),
        networks=project_parts.attachments(read, node, path),
        stop_signal=_stop_signal(read, node, path),
        stop_grace_s=read.seconds(node, path, "stop_grace_period", 10.0),
        profiles=tuple(go_text(item.value) for item in read.each(node, "profiles")),
        limits=_limits(read, node, path),
        read_only=read.flag(node, path, "read_only"),
        init=read.flag(node, path, "init"),
        labels=read.pairs(node, path, "labels", keep_null=True),
        replicas=_replicas(read, node, path),
        container_name=read.text(node, "container_name"),
    )


def _dependencies(read: Reader, node: Node, path: str) -> Mapping[ServiceName, Dependency]:
    item = node.get("depends_on")
    out: dict[ServiceName, Dependency] = {}
    known = services_of(read.model)
    for name, entry in item.items() if item is not None else ():
        if name not in known:
            continue
        read.mark(entry, f"{path}.depends_on.{name}", key=True)
        condition, required, restart = (entry.get(key) for key in ("condition", "required", "restart"))
        out[ServiceName(name)] = Dependency(
            ServiceName(name),
            Condition(condition.value) if condition is not None else Condition.STARTED,
            required is None or required.value is not False,
            restart is not None and restart.value is True,
        )
    return out


def _healthcheck(read: Reader, node: Node, path: str) -> HealthCheck | None:
    item = node.get("healthcheck")
    if item is None or not isinstance(item.value, dict):
        return None
    path = f"{path}.healthcheck"
    for key, value in item.value.items():
        read.mark(value, f"{path}.{key}")
    test, disabled = _health_test(read, item)
    start_interval = item.get("start_interval")
    if start_interval is not None and item.get("start_period") is None:
        message = "healthcheck.start_interval requires healthcheck.start_period to be set"
        hint = "it is the interval during start_period; add one, or use interval"
        read.error(start_interval, f"{path}.start_interval", message, hint)
    defaults = HealthCheck()
    retries = item.get("retries")
    count = int(retries.value) if retries is not None and isinstance(retries.value, int | float) else 0
    if retries is not None and count < 0:
        read.error(retries, f"{path}.retries", "must not be negative")
    return HealthCheck(
        test=test,
        interval_s=_probe_seconds(read, item, path, "interval", defaults.interval_s),
        timeout_s=_probe_seconds(read, item, path, "timeout", defaults.timeout_s),
        retries=count or defaults.retries,
        start_period_s=_probe_seconds(read, item, path, "start_period", defaults.start_period_s),
        start_interval_s=_probe_seconds(read, item, path, "start_interval", defaults.start_interval_s),
        disabled=disabled or read.flag(item, path, "disable"),
    )


def _health_test(read: Reader, node: Node) -> tuple[tuple[str, ...] | None, bool]:
    """(argv or None, disabled)."""
    test = node.get("test")
    if test is None or test.value is None:
        return None, False
    if isinstance(test.value, str):
        return ("/bin/sh", "-c", test.value), False
    words = [go_text(item.value) for item in test.elements()]
    match words:
        case ["NONE", *_]:
            return None, True
        case ["CMD-SHELL", *rest]:
            return ("/bin/sh", "-c", " ".join(rest)), False
        case ["CMD", *rest] if rest:
            return tuple(rest), False
        case _:
            return None, False


def _probe_seconds(read: Reader, node: Node, path: str, key: str, default: float) -> float:
    item = node.get(key)
    if item is None:
        return default
    value = read.attempt(item, f"{path}.{key}", duration_ns, None)
    if value is None or value == 0:
        return default
    if value < MIN_PROBE_NS:
        read.error(item, f"{path}.{key}", "must be at least 1ms (0 stands for the default)")
    return value / NS_PER_SECOND


def _restart(read: Reader, node: Node, path: str) -> RestartPolicy:
    item = node.get("restart")
    text = item.text() if item is not None else None
    if item is None or not text:
        return _deploy_restart(read, node, f"{path}.deploy.restart_policy.condition")
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


def _deploy_restart(read: Reader, node: Node, path: str) -> RestartPolicy:
    """``deploy.restart_policy``, which counts where ``restart`` is not given."""
    policy = at(node, "deploy", "restart_policy")
    if policy is None or not isinstance(policy.value, dict):
        return RestartPolicy()
    condition, attempts = policy.get("condition"), policy.get("max_attempts")
    limit = int(go_text(attempts.value)) if attempts is not None and attempts.value else None
    match go_text(condition.value) if condition is not None else "any":
        case "none":
            return RestartPolicy()
        case "on-failure":
            return RestartPolicy(RestartKind.ON_FAILURE, limit)
        case "any" | "":
            return RestartPolicy(RestartKind.ALWAYS)
        case other:
            assert condition is not None
            read.error(condition, path, f'"{other}" is not one of none, on-failure, any')
            return RestartPolicy()


def _stop_signal(read: Reader, node: Node, path: str) -> str | None:
    """The signal's name, however it is written; its number for the two that have none."""
    item = node.get("stop_signal")
    text = go_text(item.value) if item is not None else ""
    if item is None or not text:
        return None
    try:
        number = parse_signal(text)
    except InputError as exc:
        prefix = "SIG" if text.upper().startswith("SIG") else ""
        known = (prefix + signal_name(number).removeprefix("SIG") for number in SIGNALS)
        near = did_you_mean(text, known) if text[:1].isalpha() else ""
        read.error(item, f"{path}.stop_signal", f"{exc.message}{near}", exc.hint)
        return None
    name = signal_name(number)
    return name if name.startswith("SIG") else str(number)


def _replicas(read: Reader, node: Node, path: str) -> int:
    """``scale``, else ``deploy.replicas`` (the rules have seen to it that they agree), else 1."""
    for keys in (("scale",), ("deploy", "replicas")):
        item = at(node, *keys)
        if item is None or item.value is None:
            continue
        place = ".".join((path, *keys))
        if isinstance(item.value, int | float):
            count = int(item.value)
        else:
            count = read.attempt(item, place, lambda n: cast_int(go_text(n.value)), 1)
        if count > MAX_REPLICAS:
            read.error(item, place, f"must be at most {MAX_REPLICAS}")
        elif count > 1:
            _check_fixed_ports(read, node, path, item, place)
        return max(count, 0)
    return 1


def _check_fixed_ports(read: Reader, node: Node, path: str, count: Node, place: str) -> None:
    for number, port in enumerate(read.each(node, "ports")):
        published = read.text(port, "published")
        if published is None or published == "0" or "-" in published:
            continue
        read.error(
            port,
            f"{path}.ports[{number}]",
            f"{go_text(count.value)} containers cannot all have the host port {published}",
            hint=f'write a range ("{published}-..."), or no host port',
            related=(place_of(count, place),),
        )


def _limits(read: Reader, node: Node, path: str) -> Limits:
    deploy = at(node, "deploy", "resources", "limits")
    cpus, memory, pids = (
        node.get(key) or (deploy.get(other) if deploy is not None else None)
        for key, other in (("cpus", "cpus"), ("mem_limit", "memory"), ("pids_limit", "pids"))
    )
    cpu_count = 0.0
    if cpus is not None:
        cpu_count = read.attempt(cpus, f"{path}.cpus", lambda n: cast_float(go_text(n.value)), 0.0)
        if cpu_count < 0:
            read.error(cpus, f"{path}.cpus", "must not be negative")
    size = read.attempt(memory, f"{path}.mem_limit", byte_size, 0) if memory is not None else 0
    count = int(go_text(pids.value)) if pids is not None and isinstance(pids.value, int | float) else 0
    return Limits(cpu_count or None, size if size > 0 else None, count or None)


def _on_unhealthy(read: Reader, node: Node, path: str, default: OnUnhealthy) -> OnUnhealthy:
    own = node.get("x-pystack")
    if own is None:
        return default
    before = len(read.found)
    check(own, X_PYSTACK, path, read.found)
    value = own.get("on_unhealthy")
    return OnUnhealthy(value.value) if value is not None and len(read.found) == before else default
