"""Which containers were made from which image, by the records of all projects of a data directory."""

from __future__ import annotations

from orchestrator.plan.hashing import identities_in
from orchestrator.state.projects import sound_readings


def users_of_images(data_root: str) -> dict[str, tuple[str, ...]]:
    """The containers by the identity of their image (``sha256:HEX``), sorted. Raises OperationError when a project's
    records cannot be read, or are damaged: then nobody knows, and nothing may be removed."""
    found: dict[str, set[str]] = {}
    for _, reading in sound_readings(data_root):
        for container in reading.record.containers if reading.record is not None else ():
            for identity in identities_in(container.definition.image):
                found.setdefault(identity, set()).add(container.container)
    return {identity: tuple(sorted(containers)) for identity, containers in found.items()}
