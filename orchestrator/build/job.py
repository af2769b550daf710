"""What a RUN comes to: a command and what it needs (`workshop` runs it). Values only."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.contracts.images import Image
from orchestrator.contracts.runtime import GeneratedFile
from orchestrator.model.volume import Mount
from orchestrator.values import field, frozen

HOSTNAME = "buildkitsandbox"
"""What programs find in a RUN of Docker's."""


@frozen
class SecretFile:
    """A file at `target`, owned by these ids of the container."""

    target: str
    content: bytes = field(repr=False)
    uid: int = 0
    gid: int = 0
    mode: int = 0o400


@frozen
class Job:
    """`image` has what lies below it; of its configuration nothing is used. `network`: whether it has one. `hosts`: further
    names and their addresses. `limits`: name (``RLIMIT_NOFILE``) -> soft, hard."""

    image: Image
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    working_dir: str = "/"
    mounts: tuple[Mount, ...] = ()
    secrets: tuple[SecretFile, ...] = ()
    files: tuple[GeneratedFile, ...] = ()
    network: bool = True
    hosts: tuple[tuple[str, str], ...] = ()
    shm_bytes: int | None = None
    limits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
