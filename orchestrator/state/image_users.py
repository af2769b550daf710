"""Which containers were made from which image, by the records of all projects of a data directory."""

from __future__ import annotations

from orchestrator.errors import OperationError, PystackError
from orchestrator.plan.hashing import identities_in
from orchestrator.state.volume_users import readings


def users_of_images(data_root: str) -> dict[str, tuple[str, ...]]:
    """The containers by the identity of their image (``sha256:HEX``), sorted. Raises OperationError when a project's
    records cannot be read, or are damaged: then nobody knows, and nothing may be removed."""
    found: dict[str, set[str]] = {}
    for site, reading in readings(data_root):
        if isinstance(reading, PystackError):
            raise OperationError(
                f"what project {site.project} uses is not known: {reading}", hint=reading.hint
            ) from reading
        if reading.damaged:
            raise OperationError(
                f"what project {site.project} uses is not known: {', '.join(sorted(set(reading.damaged)))} is damaged",
                hint=f"`pystack -p {site.project} up` or `down` repairs its records",
            )
        for container in reading.record.containers if reading.record is not None else ():
            for identity in identities_in(container.definition.image):
                found.setdefault(identity, set()).add(container.container)
    return {identity: tuple(sorted(containers)) for identity, containers in found.items()}
