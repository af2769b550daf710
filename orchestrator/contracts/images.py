"""What an image gives to a container."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from orchestrator.model.health import HealthCheck
from orchestrator.values import field, frozen


@frozen
class ImageConfig:
    """The parts of the OCI image config (image-spec, config.md) that a container takes over."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    working_dir: str = "/"
    user: str = ""
    stop_signal: str | None = None
    healthcheck: HealthCheck | None = None
    volumes: tuple[str, ...] = ()


@frozen
class ImageMount:
    """A host directory or file that the image needs bound at `target` (the host image's ``/usr``), always read-only."""

    source: str
    target: str


@frozen
class Image:
    """A resolved image. `identity` changes when the content does: it is part of the service's config hash.

    `lowers`: absolute directories, topmost first, for overlayfs. `passwd` and `group`: the files' bytes, read safely
    (regular file, at most 1 MiB), for resolving user names. `no_new_privileges`: set for the host image.
    """

    reference: str
    identity: str
    lowers: tuple[str, ...]
    config: ImageConfig = ImageConfig()
    mounts: tuple[ImageMount, ...] = ()
    passwd: bytes = b""
    group: bytes = b""
    no_new_privileges: bool = False


class Images(Protocol):
    async def resolve(self, reference: str) -> Image:
        """The image `reference` names (``host``, ``rootfs:DIR``), ready to be mounted.

        Raises InputError for a reference that is malformed or of a kind not supported yet, OperationError when it
        does not exist, HostError when the machine cannot provide it.
        """
        ...
