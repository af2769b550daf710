"""Images: looking for one, making one, and what one gives to a container."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from orchestrator.model.build import BuildSpec, PullPolicy
from orchestrator.model.health import HealthCheck
from orchestrator.values import field, frozen


@frozen
class ImageConfig:
    """The parts of the OCI image config (image-spec, config.md) that a container takes over, or a build on it.

    `healthcheck`: its `disabled` is the image's ``NONE``; None says nothing. `exposed_ports`: ``80/tcp``,
    ``8000-8010/udp``. `shell`: what ``CMD-SHELL`` checks run in; empty: ``/bin/sh -c``. `on_build`: instructions for a
    Dockerfile that starts from the image.
    """

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    working_dir: str = "/"
    user: str = ""
    stop_signal: str | None = None
    healthcheck: HealthCheck | None = None
    volumes: tuple[str, ...] = ()
    exposed_ports: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    shell: tuple[str, ...] = ()
    on_build: tuple[str, ...] = ()


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


@frozen
class ImageRequest:
    """Which image: `reference` as the stack has it (``host``, ``rootfs:DIR``, ``redis:7``; docs/images.md), for a service
    with a build and without an image its name. `base_dir`: absolute, the project's directory, where relative ones start.
    `platform`: as the stack has it, "" for this machine's. `build`: how it can be built. `environ`: of whoever asks: where
    registries' settings and credentials are (HOME, DOCKER_CONFIG, ...), and which directory places are told from (PWD)."""

    reference: str
    base_dir: str
    platform: str = ""
    pull_policy: PullPolicy = PullPolicy("missing")
    build: BuildSpec | None = None
    environ: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)


@frozen
class Known:
    """The image is there, whole, and can be mounted now. `due`: why `Images.obtain` would look for a newer one all the same
    (the pull policy says so), a sentence without a full stop; "" when it would not."""

    image: Image
    due: str = ""


@frozen
class Missing:
    """`Images.obtain` can make it; until then nobody knows its identity. `reason`: a sentence without a full stop."""

    reference: str
    reason: str


@frozen
class Transfer:
    """How far one part of a long work is. `part`: a layer's short digest, ``context``, a build step (``web 3/7``).
    `action`: waiting, pulling, unpacking, packing, pushing, building, cached, shared, done or failed. `total_bytes` None:
    nobody knows. `text`: a line of what a build step wrote."""

    part: str
    action: str
    done_bytes: int = 0
    total_bytes: int | None = None
    text: str = ""


Progress = Callable[[str | Transfer], None]
"""Called with a sentence or a `Transfer`, in the task that called `Images.obtain`. Must not raise."""


BuildImage = Callable[[ImageRequest, Progress], Awaitable[None]]
"""Builds the request's `build`, and names the image as the request has it. Raises InputError, OperationError, HostError."""


class Images(Protocol):
    """The images of a machine. Adapters of any number of projects, in any number of processes, share one store."""

    async def inspect(self, request: ImageRequest) -> Known | Missing:
        """Look: no network, and nothing is changed, made or locked. This is what plans use, and it is on the path of every
        ``up``, so it is quick.

        Raises InputError for a reference that is malformed or of a kind not supported yet, OperationError for what does
        not exist and cannot be made either, HostError when the machine cannot provide it.
        """
        ...

    async def obtain(self, request: ImageRequest, progress: Progress) -> Image:
        """Make it, unless it is there and nothing is due: the same image that `inspect` knows afterwards. Any number may be
        obtained at once, also the same one; it is made once. Cancelling leaves nothing half-made. Raises as `inspect`.
        """
        ...
