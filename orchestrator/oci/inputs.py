"""What a container is compiled from, and what is worked out of it once (`Context`) for all rows of the mapping. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.contracts.images import Image
from orchestrator.contracts.network import Endpoint
from orchestrator.contracts.runtime import LogPolicy
from orchestrator.contracts.site import MOST_ID, IdMap, Site
from orchestrator.errors import InputError
from orchestrator.model.names import ContainerId, Instance
from orchestrator.model.service import Service
from orchestrator.oci.devices import HostParts
from orchestrator.oci.namespaces import HOST_IDS
from orchestrator.oci.users import User, find_group, resolve_user
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
    hide). `block_devices`: major and minor number of those that the service names, by path. `selinux`: whether the host
    has it in use. `kernel`: the version that runs. `parts`: what the service's devices are on this machine. `shares`: as
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
    block_devices: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    selinux: bool = False
    kernel: tuple[int, int] = (5, 19)
    parts: HostParts = HostParts()


@frozen
class Context:
    """The inputs, with the user and the host name that follow from them."""

    inputs: SandboxInputs
    user: User
    hostname: str
    added_groups: tuple[int, ...] = ()
    """Beside those that the user has anyway: ``group_add``, and of devices."""

    @classmethod
    def of(cls, inputs: SandboxInputs) -> Context:
        """Raises InputError for an unknown user or group and for a host name that is too long."""
        user, added = _resolve_user(inputs), _added_groups(inputs)
        for highest, key in ((max(user.uid, *user.groups), "user"), (max(added, default=0), "group_add")):
            if highest > MOST_ID:
                message = f"id {highest} is above {MOST_ID}, the highest that a container has"
                raise InputError(message, hint="use a lower one", place=f"{inputs.service.place}.{key}")
        return cls(inputs, user, _hostname(inputs), added)

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
    try:
        return resolve_user(text, inputs.image.passwd, inputs.image.group)
    except ValueError as exc:
        raise InputError(
            f'{exc} in the image "{inputs.image.reference}"',
            hint="use a name from the image's /etc/passwd and /etc/group, or numbers: user: 1000:1000",
            place=f"{inputs.service.place}.user",
        ) from exc


def _added_groups(inputs: SandboxInputs) -> tuple[int, ...]:
    groups = []
    for number, text in enumerate(inputs.service.group_add):
        try:
            groups.append(find_group(text, inputs.image.group))
        except ValueError as exc:
            raise InputError(
                f'{exc} in the image "{inputs.image.reference}"',
                hint="use a name from the image's /etc/group, or a number",
                place=f"{inputs.service.place}.group_add[{number}]",
            ) from exc
    return tuple(dict.fromkeys((*groups, *inputs.parts.groups)))


def _hostname(inputs: SandboxInputs) -> str:
    hostname = inputs.service.hostname
    domain = inputs.service.domainname or ""
    if len(domain.encode("utf-8", "surrogateescape")) > KERNEL_HOSTNAME_MAX:
        place = f"{inputs.service.place}.domainname"
        raise InputError(f"longer than the {KERNEL_HOSTNAME_MAX} bytes the kernel takes", place=place)
    if hostname is not None and len(hostname.encode("utf-8", "surrogateescape")) > KERNEL_HOSTNAME_MAX:
        place = f"{inputs.service.place}.hostname"
        raise InputError(f"longer than the {KERNEL_HOSTNAME_MAX} bytes the kernel takes", place=place)
    return hostname or inputs.host_name or default_hostname(inputs.container)


def default_hostname(container: ContainerId) -> str:
    return container[:LABEL_MAX].rstrip("-")
