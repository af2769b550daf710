"""Short forms for the stacks of tests and simulations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.model.health import HealthCheck
from orchestrator.model.names import NetworkName, ProjectName, ServiceName, VolumeName
from orchestrator.model.network import Attachment, Network
from orchestrator.model.project import Project
from orchestrator.model.restart import RestartKind, RestartPolicy
from orchestrator.model.service import Cascade, Condition, Dependency, Service
from orchestrator.model.volume import Mount, MountKind, Volume

STARTED = Condition.STARTED
HEALTHY = Condition.HEALTHY
COMPLETED = Condition.COMPLETED


def edge(
    to: str,
    condition: Condition = STARTED,
    *,
    required: bool = True,
    restart: bool = False,
    cascade: Cascade | None = None,
) -> Dependency:
    """One ``depends_on`` entry."""
    return Dependency(ServiceName(to), condition, required, restart, cascade)


def check(
    interval_s: float = 1.0,
    *,
    retries: int = 3,
    start_period_s: float = 0.0,
    start_interval_s: float = 5.0,
    timeout_s: float = 5.0,
) -> HealthCheck:
    """A health check that asks the fake runtime."""
    return HealthCheck(("probe",), interval_s, timeout_s, retries, start_period_s, start_interval_s)


def policy(text: str) -> RestartPolicy:
    """``no``, ``always``, ``on-failure:3``, ``unless-stopped``."""
    kind, _, attempts = text.partition(":")
    return RestartPolicy(RestartKind(kind), int(attempts) if attempts else None)


def service(
    name: str,
    *needs: str | Dependency,
    restart: str = "no",
    networks: Iterable[str] = ("default",),
    volumes: Iterable[str] = (),
    image: str = "host",
    **fields: Any,
) -> Service:
    """A service; `needs` are names (started) or `edge`s, `volumes` are ``NAME:/target``; `fields` are Service's own."""
    dependencies = [need if isinstance(need, Dependency) else edge(need) for need in needs]
    mounts = [text.partition(":") for text in volumes]
    return Service(
        name=ServiceName(name),
        image=image,
        depends_on={dependency.service: dependency for dependency in dependencies},
        restart=policy(restart),
        networks={NetworkName(key): Attachment(NetworkName(key)) for key in networks},
        volumes=tuple(Mount(MountKind.VOLUME, target, source) for source, _, target in mounts),
        **fields,
    )


def project(*services: Service, name: str = "demo", networks: Mapping[str, Network] | None = None) -> Project:
    """A project of these services with all the networks and volumes they use."""
    given = networks or {}
    keys = sorted({key for item in services for key in item.networks})
    sources = sorted({mount.source for item in services for mount in item.volumes if mount.source is not None})
    return Project(
        name=ProjectName(name),
        working_dir="/srv/demo",
        services={item.name: item for item in services},
        networks={key: given.get(key, Network(key, f"{name}_{key}")) for key in keys},
        volumes={VolumeName(key): Volume(VolumeName(key), f"{name}_{key}") for key in sources},
    )
