"""What a build took from outside of its contexts: whether it can be known to come to the same again without looking."""

from __future__ import annotations

from orchestrator.images.spec.digest import Digest
from orchestrator.values import entity, field


@entity
class Basis:
    """`images`: what was asked for in the store, as the Dockerfile names it, and what that meant. `elsewhere`: something
    else was taken that may be another one next time: from an address, an archive, this machine's system, a directory."""

    images: dict[str, Digest] = field(default_factory=dict)
    elsewhere: bool = False
