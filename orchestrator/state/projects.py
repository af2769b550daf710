"""The records of all projects of a data directory: who uses what they share (volumes, images)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from glob import glob

from orchestrator.contracts.site import Site
from orchestrator.errors import OperationError, PystackError
from orchestrator.model.names import ProjectName
from orchestrator.state.directory import site_of
from orchestrator.state.reading import Reading


def readings(data_root: str, besides: str = "") -> Iterator[tuple[Site, Reading | PystackError]]:
    """The records of all projects but `besides`, or why they cannot be read."""
    for path in sorted(glob(os.path.join(data_root, "projects", "*/"))):
        name = os.path.basename(path.rstrip("/"))
        if name == besides:
            continue
        site = site_of(data_root, "/", ProjectName(name))
        try:
            yield site, Reading(site)
        except PystackError as error:
            yield site, error


def sound_readings(data_root: str) -> Iterator[tuple[Site, Reading]]:
    """The records of all projects. Raises OperationError for one's that cannot be read, or are damaged: then nobody knows
    what it uses, and nothing that it may use may be removed."""
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
        yield site, reading
