"""The model as the runtime takes it: `orchestrator.model.Project`, with the place of everything it may complain about."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from orchestrator.compose import expand
from orchestrator.compose.attributes import X_PYSTACK
from orchestrator.compose.diagnostics import Diagnostic
from orchestrator.compose.selection import services_of
from orchestrator.compose.shapes import check
from orchestrator.compose.tree import Node, diagnostic
from orchestrator.compose.values import byte_size, cast_bool, cast_float, command_words, duration_ns, go_text
from orchestrator.model.health import HealthCheck, OnUnhealthy
from orchestrator.model.limits import Limits
from orchestrator.model.names import NetworkName, ProjectName, ServiceName, VolumeName
from orchestrator.model.network import Attachment, Network, PortMapping
from orchestrator.model.project import Place, Project
from orchestrator.model.restart import RestartKind, RestartPolicy
from orchestrator.model.service import Condition, Dependency, Service
from orchestrator.model.volume import Mount, MountKind, Volume
from orchestrator.units import NS_PER_SECOND, parse_bytes

T = TypeVar("T")

MIN_PROBE_NS = 1_000_000
"""moby refuses shorter intervals and time-outs than a millisecond; 0 stands for the default."""


def build_project(
    model: Node,
    name: str,
    working_dir: str,
    files: tuple[str, ...],
    profiles: tuple[str, ...],
    found: list[Diagnostic],
) -> Project:
    """The Project of a normalised model. What it cannot hold is added to `found` (the result is then of no use)."""
    maker = _Maker(model, found)
    services = {ServiceName(key): maker.service(key, node) for key, node in services_of(model).items()}
    return Project(
        name=ProjectName(name),
        working_dir=working_dir,
        services=services,
        networks={NetworkName(key): maker.network(key, node) for key, node in maker.section("networks")},
        volumes={VolumeName(key): maker.volume(key, node) for key, node in maker.section("volumes")},
        compose_files=files,
        profiles=profiles,
        places=maker.places,
    )


class _Maker:
    def __init__(self, model: Node, found: list[Diagnostic]) -> None:
        self.model = model
        self.found = found
        self.places: dict[str, Place] = {}
        self.on_unhealthy = self._on_unhealthy(model, "x-pystack", OnUnhealthy.RESTART)

    def section(self, name: str) -> list[tuple[str, Node]]:
        node = self.model.get(name)
        return node.items() if node is not None else []

    def mark(self, node: Node, path: str, *, key: bool = False) -> None:
        line, column = (node.key_line, node.key_column) if key and node.key_line else (node.line, node.column)
        self.places.setdefault(path, Place(node.source.name, line, column))

    def error(self, node: Node, path: str, message: str, hint: str | None = None) -> None:
        self.found.append(diagnostic(node, path, message, hint=hint))

    def attempt(self, node: Node, path: str, read: Callable[[Node], T], default: T) -> T:
        """`read(node)`, or `default` with the ValueError reported."""
        try:
            return read(node)
        except ValueError as exc:
            self.error(node, path, str(exc), getattr(exc, "hint", None))
            return default

    # Services

    def service(self, name: str, node: Node) -> Service:
        path = f"services.{name}"
        self.mark(node, path, key=True)
        for key, item in node.items():
            self.mark(item, f"{path}.{key}")
            for number, element in enumerate(item.elements()):
                self.mark(element, f"{path}.{key}[{number}]")
        image = self.text(node, "image") or ""
        return Service(
            name=ServiceName(name),
            image=image,
            command=self.command(node, path, "command"),
            entrypoint=self.command(node, path, "entrypoint"),
            environment=self.pairs(node, path, "environment", keep_null=False),
            working_dir=self.text(node, "working_dir"),
            user=self.text(node, "user"),
            hostname=self.text(node, "hostname"),
            depends_on=self.dependencies(node, path),
            healthcheck=self.healthcheck(node, path),
            on_unhealthy=self._on_unhealthy(node, f"{path}.x-pystack", self.on_unhealthy),
            restart=self.restart(node, path),
            ports=self.ports(node, path),
            expose=tuple(go_text(item.value) for item in self.list(node, "expose")),
            volumes=self.mounts(node, path),
            networks=self.attachments(node, path),
            stop_signal=self.stop_signal(node, path),
            stop_grace_s=self.seconds(node, path, "stop_grace_period", 10.0),
            profiles=tuple(go_text(item.value) for item in self.list(node, "profiles")),
            limits=self.limits(node, path),
            read_only=self.flag(node, path, "read_only"),
            init=self.flag(node, path, "init"),
            labels=self.pairs(node, path, "labels", keep_null=True),
        )

    def text(self, node: Node, key: str) -> str | None:
        item = node.get(key)
        return None if item is None else go_text(item.value) or None

    def list(self, node: Node, key: str) -> list[Node]:
        item = node.get(key)
        if item is None:
            return []
        return [item] if isinstance(item.value, str) else item.elements()

    def flag(self, node: Node, path: str, key: str) -> bool:
        item = node.get(key)
        if item is None or item.value is None:
            return False
        if isinstance(item.value, str):
            return self.attempt(item, f"{path}.{key}", lambda n: cast_bool(go_text(n.value)), False)
        return bool(item.value)

    def command(self, node: Node, path: str, key: str) -> tuple[str, ...] | None:
        item = node.get(key)
        if item is None or item.value is None:
            return None
        words = command_words(item, f"{path}.{key}", self.found)
        return None if words is None else tuple(words)

    def pairs(self, node: Node, path: str, key: str, *, keep_null: bool) -> dict[str, str]:
        item = node.get(key)
        if item is None:
            return {}
        out = {}
        for name, value in expand.pairs(item).items():
            if value.value is None and not keep_null:
                continue
            text = go_text(value.value)
            if "\0" in text or "\0" in name:
                self.error(value, f"{path}.{key}.{name}", "holds a NUL byte")
            out[name] = text
        return out

    def seconds(self, node: Node, path: str, key: str, default: float) -> float:
        item = node.get(key)
        if item is None:
            return default
        value = self.attempt(item, f"{path}.{key}", duration_ns, None)
        if value is not None and value < 0:
            self.error(item, f"{path}.{key}", "must not be negative")
        return default if value is None else value / NS_PER_SECOND

    def dependencies(self, node: Node, path: str) -> Mapping[ServiceName, Dependency]:
        item = node.get("depends_on")
        out: dict[ServiceName, Dependency] = {}
        known = services_of(self.model)
        for name, entry in item.items() if item is not None else ():
            if name not in known:
                continue
            self.mark(entry, f"{path}.depends_on.{name}", key=True)
            condition, required, restart = (entry.get(key) for key in ("condition", "required", "restart"))
            out[ServiceName(name)] = Dependency(
                ServiceName(name),
                Condition(condition.value) if condition is not None else Condition.STARTED,
                required is None or required.value is not False,
                restart is not None and restart.value is True,
            )
        return out

    def healthcheck(self, node: Node, path: str) -> HealthCheck | None:
        item = node.get("healthcheck")
        if item is None or not isinstance(item.value, dict):
            return None
        path = f"{path}.healthcheck"
        for key, value in item.value.items():
            self.mark(value, f"{path}.{key}")
        test, disabled = self.health_test(item)
        defaults = HealthCheck()
        retries = item.get("retries")
        count = int(retries.value) if retries is not None and isinstance(retries.value, int | float) else 0
        if retries is not None and count < 0:
            self.error(retries, f"{path}.retries", "must not be negative")
        return HealthCheck(
            test=test,
            interval_s=self.probe_seconds(item, path, "interval", defaults.interval_s),
            timeout_s=self.probe_seconds(item, path, "timeout", defaults.timeout_s),
            retries=count or defaults.retries,
            start_period_s=self.probe_seconds(item, path, "start_period", defaults.start_period_s),
            start_interval_s=self.probe_seconds(item, path, "start_interval", defaults.start_interval_s),
            disabled=disabled or self.flag(item, path, "disable"),
        )

    def health_test(self, node: Node) -> tuple[tuple[str, ...] | None, bool]:
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

    def probe_seconds(self, node: Node, path: str, key: str, default: float) -> float:
        item = node.get(key)
        if item is None:
            return default
        value = self.attempt(item, f"{path}.{key}", duration_ns, None)
        if value is None or value == 0:
            return default
        if value < MIN_PROBE_NS:
            self.error(item, f"{path}.{key}", "must be at least 1ms (0 stands for the default)")
        return value / NS_PER_SECOND

    def restart(self, node: Node, path: str) -> RestartPolicy:
        item = node.get("restart")
        text = item.text() if item is not None else None
        if item is None or not text:
            return self.deploy_restart(node, f"{path}.deploy.restart_policy.condition")
        kind, colon, attempts = text.partition(":")
        if kind == "on-failure" and colon:
            if not attempts.isdecimal() or not attempts.isascii():
                self.error(item, f"{path}.restart", f'"{attempts}" is not a number of attempts (write on-failure:3)')
                return RestartPolicy()
            return RestartPolicy(RestartKind.ON_FAILURE, int(attempts) or None)
        if colon or kind not in {policy.value for policy in RestartKind}:
            message = f'"{text}" is not one of no, always, on-failure, on-failure:3, unless-stopped'
            self.error(item, f"{path}.restart", message)
            return RestartPolicy()
        return RestartPolicy(RestartKind(kind))

    def deploy_restart(self, node: Node, path: str) -> RestartPolicy:
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
                self.error(condition, path, f'"{other}" is not one of none, on-failure, any')
                return RestartPolicy()

    def ports(self, node: Node, path: str) -> tuple[PortMapping, ...]:
        out = []
        for number, item in enumerate(self.list(node, "ports")):
            place = f"{path}.ports[{number}]"
            out.append(self.attempt(item, place, lambda n, place=place: self.port(n, place), None))  # type: ignore[misc]
        return tuple(port for port in out if port is not None)

    def port(self, node: Node, place: str) -> PortMapping | None:
        target = node.get("target")
        if target is None or not isinstance(target.value, int) or not 1 <= target.value <= 65535:
            raise ValueError("target must be a port from 1 to 65535")
        published = self.text(node, "published")
        host_range = None
        if published and published != "0":
            first, dash, last = published.partition("-")
            if not all(re.fullmatch(r"[0-9]{1,5}", part) for part in (first, last if dash else first)):
                raise ValueError(f'published "{published}" is not a port or a range of ports')
            host_range = (int(first), int(last if dash else first))
            if not 1 <= host_range[0] <= host_range[1] <= 65535:
                raise ValueError(f'published "{published}" is not a port or a range of ports')
        protocol = (self.text(node, "protocol") or "tcp").lower()
        if protocol not in ("tcp", "udp"):
            raise ValueError(f"{protocol} ports are not supported yet")
        host_ip = self.text(node, "host_ip")
        if host_ip is not None and ":" in host_ip:
            raise ValueError("publishing on an IPv6 address is not supported yet")
        return PortMapping(target.value, host_range, host_ip, protocol, place)

    def mounts(self, node: Node, path: str) -> tuple[Mount, ...]:
        out = []
        for number, item in enumerate(self.list(node, "volumes")):
            place = f"{path}.volumes[{number}]"
            mount = self.attempt(item, place, lambda n, place=place: self.mount(n, place), None)  # type: ignore[misc]
            if mount is not None:
                out.append(mount)
        for number, item in enumerate(self.list(node, "tmpfs")):
            place = f"{path}.tmpfs[{number}]"
            self.mark(item, place)
            mount = self.attempt(item, place, lambda n, place=place: tmpfs_mount(go_text(n.value), place), None)  # type: ignore[misc]
            if mount is not None:
                out.append(mount)
        return tuple(out)

    def mount(self, node: Node, place: str) -> Mount:
        kind, target, source = (self.text(node, key) for key in ("type", "target", "source"))
        if not target or not target.startswith("/"):
            raise ValueError(f'the target "{target or ""}" is not an absolute path')
        read_only = self.flag(node, place, "read_only")
        if kind == "tmpfs":
            options = node.get("tmpfs")
            size = options.get("size") if options is not None else None
            mode = options.get("mode") if options is not None else None
            bits = None
            if mode is not None and mode.value is not None:
                bits = int(go_text(mode.value), 8) if isinstance(mode.value, str) else int(go_text(mode.value))
            limit = byte_size(size) if size is not None and size.value is not None else None
            return Mount(
                MountKind.TMPFS, target, None, read_only, tmpfs_size_bytes=limit or None, tmpfs_mode=bits, place=place
            )
        if kind == "bind":
            if not source:
                raise ValueError("a bind mount needs a source")
            options = node.get("bind")
            create = options.get("create_host_path") if options is not None else None
            return Mount(
                MountKind.BIND,
                target,
                source,
                read_only,
                create_host_path=create is None or create.value is not False,
                place=place,
            )
        if kind == "volume":
            options = node.get("volume")
            nocopy = options.get("nocopy") if options is not None else None
            return Mount(
                MountKind.VOLUME, target, source, read_only, nocopy=nocopy is not None and nocopy.value is True, place=place
            )
        raise ValueError(f"mounts of type {kind} are not supported yet")

    def attachments(self, node: Node, path: str) -> dict[NetworkName, Attachment]:
        item = node.get("networks")
        out = {}
        for name, entry in item.items() if item is not None else ():
            self.mark(entry, f"{path}.networks.{name}", key=True)
            aliases = tuple(go_text(alias.value) for alias in self.list(entry, "aliases"))
            out[NetworkName(name)] = Attachment(NetworkName(name), aliases, self.text(entry, "ipv4_address"))
        return out

    def stop_signal(self, node: Node, path: str) -> str | None:
        item = node.get("stop_signal")
        text = go_text(item.value).upper() if item is not None else ""
        if item is None or not text:
            return None
        if text.isdecimal():
            return text
        name = text if text.startswith("SIG") else f"SIG{text}"
        if not re.fullmatch(r"SIG(?:[A-Z]+[0-9]?|RTM(?:IN|AX)(?:[-+][0-9]+)?|STKFLT)", name):
            self.error(item, f"{path}.stop_signal", f'"{go_text(item.value)}" is not a signal (write SIGTERM or SIGINT)')
        return name

    def limits(self, node: Node, path: str) -> Limits:
        deploy = at(node, "deploy", "resources", "limits")
        cpus, memory, pids = (
            node.get(key) or (deploy.get(other) if deploy is not None else None)
            for key, other in (("cpus", "cpus"), ("mem_limit", "memory"), ("pids_limit", "pids"))
        )
        cpu_count = 0.0
        if cpus is not None:
            cpu_count = self.attempt(cpus, f"{path}.cpus", lambda n: cast_float(go_text(n.value)), 0.0)
            if cpu_count < 0:
                self.error(cpus, f"{path}.cpus", "must not be negative")
        size = self.attempt(memory, f"{path}.mem_limit", byte_size, 0) if memory is not None else 0
        count = int(go_text(pids.value)) if pids is not None and isinstance(pids.value, int | float) else 0
        return Limits(cpu_count or None, size if size > 0 else None, count or None)

    def _on_unhealthy(self, node: Node, path: str, default: OnUnhealthy) -> OnUnhealthy:
        own = node.get("x-pystack")
        if own is None:
            return default
        before = len(self.found)
        check(own, X_PYSTACK, path, self.found)
        value = own.get("on_unhealthy")
        return OnUnhealthy(value.value) if value is not None and len(self.found) == before else default

    # Networks and volumes

    def network(self, key: str, node: Node) -> Network:
        path = f"networks.{key}"
        if node.key_line:
            self.mark(node, path, key=True)
        driver = node.get("driver")
        if driver is not None and driver.value not in ("bridge", "", None):
            self.error(driver, f"{path}.driver", f'the network driver "{go_text(driver.value)}" is not supported yet')
        subnet, gateway = self.subnet(node, path)
        return Network(
            NetworkName(key),
            self.text(node, "name") or key,
            self.flag(node, path, "internal"),
            subnet,
            gateway,
            tuple(self.pairs(node, path, "labels", keep_null=True).items()),
        )

    def subnet(self, node: Node, path: str) -> tuple[str | None, str | None]:
        ipam = node.get("ipam")
        if ipam is None:
            return None, None
        driver = ipam.get("driver")
        if driver is not None and driver.value not in ("default", "", None):
            self.error(driver, f"{path}.ipam.driver", f'the IPAM driver "{go_text(driver.value)}" is not supported yet')
        subnet = gateway = None
        for number, entry in enumerate(self.list(ipam, "config")):
            place = f"{path}.ipam.config[{number}]"
            self.mark(entry, place)
            text = self.text(entry, "subnet")
            if text is not None and ":" in text:
                self.error(entry, place, "IPv6 subnets are not supported yet")
            elif subnet is not None:
                self.error(entry, place, "more than one subnet is not supported yet")
            else:
                subnet, gateway = text, self.text(entry, "gateway")
        return subnet, gateway

    def volume(self, key: str, node: Node) -> Volume:
        path = f"volumes.{key}"
        self.mark(node, path, key=True)
        driver = node.get("driver")
        if driver is not None and driver.value not in ("local", "", None):
            self.error(driver, f"{path}.driver", f'the volume driver "{go_text(driver.value)}" is not supported yet')
        external = node.get("external")
        return Volume(
            VolumeName(key),
            self.text(node, "name") or key,
            external is not None and external.value is True,
            tuple(self.pairs(node, path, "labels", keep_null=True).items()),
        )


def at(node: Node, *keys: str) -> Node | None:
    """What stands below `node` at `keys`, or None."""
    found: Node | None = node
    for key in keys:
        found = found.get(key) if found is not None else None
    return found


def tmpfs_mount(text: str, place: str) -> Mount:
    """``TARGET[:OPTIONS]``, options as ``mount -o`` has them: ``size=64m,mode=1777,ro``. Raises ValueError."""
    target, _, options = text.partition(":")
    if not target.startswith("/"):
        raise ValueError(f'the target "{target}" is not an absolute path')
    size = mode = None
    read_only = False
    for option in options.split(",") if options else ():
        name, _, value = option.partition("=")
        if name == "size":
            if value.endswith("%"):
                raise ValueError("a tmpfs size in per cent is not supported yet")
            size = parse_bytes(value)
        elif name == "mode":
            mode = int(value, 8)
        elif name in ("ro", "rw"):
            read_only = name == "ro"
        elif name not in ("noexec", "nosuid", "nodev", "exec", "suid", "dev"):
            raise ValueError(f'the tmpfs option "{option}" is not supported yet')
    return Mount(MountKind.TMPFS, target, None, read_only, tmpfs_size_bytes=size, tmpfs_mode=mode, place=place)
