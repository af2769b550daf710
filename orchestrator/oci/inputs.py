"""What a container is compiled from, and what is worked out of it once (`Context`) for all rows of the mapping. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.contracts.images import Image
from orchestrator.contracts.network import Endpoint
from orchestrator.contracts.runtime import LogPolicy
from orchestrator.contracts.site import IdMap, Site
from orchestrator.errors import InputError
from orchestrator.model.names import ContainerId, Instance
from orchestrator.model.service import Service
from orchestrator.oci.devices import HostParts
from orchestrator.oci.namespaces import HOST_IDS
from orchestrator.oci.users import User, resolve_user
from orchestrator.values import field, frozen

LABEL_MAX = 63
"""One label of a DNS name."""
KERNEL_HOSTNAME_MAX = 64


@frozen
class SandboxInputs:
    """`instance`: which container of the service it is; None: the first replica. `volume_paths`: mount target -> host
    directory, for each named and anonymous volume, also those of the image's config. `mounted_images`: those of the
    service's image mounts, by reference. `resolv_search`, `resolv_options`: of
    the host's resolv.conf. `machine`: ``os.uname().machine``. `host_cpus`: how many processors the host has (paths to
    hide). `kernel`: the version that runs. `parts`: what the service's devices are on this machine. `shares`: as
    in `SandboxSpec`. `host_name`, `host_files`: of whom it shares the network with, the machine or another container; of
    the machine also its files."""

    site: Site
    container: ContainerId
    service: Service
    image: Image
    endpoints: tuple[Endpoint, ...] = ()
    volume_paths: Mapping[str, str] = field(default_factory=dict)
    mounted_images: Mapping[str, Image] = field(default_factory=dict)
    resolv_search: tuple[str, ...] = ()
    resolv_options: tuple[str, ...] = ()
    machine: str = "x86_64"
    host_cpus: int = 1
    instance: Instance | None = None
    shares: Mapping[str, ContainerId] = field(default_factory=dict)
    host_name: str = ""
    host_files: Mapping[str, bytes] = field(default_factory=dict)
    log: LogPolicy = LogPolicy()
    kernel: tuple[int, int] = (5, 19)
    parts: HostParts = HostParts()


@frozen
class Context:
    """The inputs, with the user and the host name that follow from them."""

    inputs: SandboxInputs
    user: User
    hostname: str

    @classmethod
    def of(cls, inputs: SandboxInputs) -> Context:
        """Raises InputError for an unknown user and for a host name that is too long."""
        return cls(inputs, _resolve_user(inputs), _hostname(inputs))

    @property
    def service(self) -> Service:
        return self.inputs.service

    @property
    def image(self) -> Image:
        return self.inputs.image

    @property
    def ids(self) -> IdMap:
        """The host's ids of the container's ids."""
        return ids_for(self.inputs)

    @property
    def instance(self) -> Instance:
        return self.inputs.instance or Instance(self.service.name)


def ids_for(inputs: SandboxInputs) -> IdMap:
    return HOST_IDS if inputs.service.namespaces.host_user else inputs.site.ids


def _resolve_user(inputs: SandboxInputs) -> User:
    text = inputs.service.user if inputs.service.user is not None else inputs.image.config.user
    place = f"{inputs.service.place}.user"
    try:
        user = resolve_user(text, inputs.image.passwd, inputs.image.group)
    except ValueError as exc:
        raise InputError(
            f'{exc} in the image "{inputs.image.reference}"',
            hint="use a name from the image's /etc/passwd and /etc/group, or numbers: user: 1000:1000",
            place=place,
        ) from exc
    if (highest := max(user.uid, *user.groups)) >= (count := ids_for(inputs).count):
        raise InputError(
            f"id {highest} is outside the {count} ids a container has",
            hint=f"use ids below {count}",
            place=place,
        )
    return user


def _hostname(inputs: SandboxInputs) -> str:
    hostname = inputs.service.hostname
    if hostname is not None and len(hostname.encode("utf-8", "surrogateescape")) > KERNEL_HOSTNAME_MAX:
        place = f"{inputs.service.place}.hostname"
        raise InputError(f"longer than the {KERNEL_HOSTNAME_MAX} bytes the kernel takes", place=place)
    return hostname or inputs.host_name or default_hostname(inputs.container)


def default_hostname(container: ContainerId) -> str:
    return container[:LABEL_MAX].rstrip("-")
