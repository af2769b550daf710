"""``pystack images``: what the project's containers were made from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from orchestrator.cli.imagework import age, instant, store_of
from orchestrator.cli.render.rows import render_rows
from orchestrator.cli.render.transfer import size_text
from orchestrator.cli.selection import check_named
from orchestrator.errors import InputError
from orchestrator.images.reference import Named, parse_reference
from orchestrator.state.reading import Reading

if TYPE_CHECKING:
    from orchestrator.cli.settings import Settings

_COLUMNS = {
    "ContainerName": "CONTAINER",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Platform": "PLATFORM",
    "ID": "IMAGE ID",
    "Size": "SIZE",
    "CreatedSince": "CREATED",
}


def images(settings: Settings, services: tuple[str, ...], shape: str, quiet: bool) -> int:
    """List the images of the project's containers; Docker Compose's fields."""
    site = settings.site()
    record = Reading(site).record
    containers = record.containers if record is not None else ()
    check_named(settings, services, {item.instance.service for item in containers})
    store = store_of(settings)
    by_id = {image.id: image for image in store.images()}
    rows: list[dict[str, Any]] = []
    for item in sorted(containers, key=lambda item: item.container):
        if services and item.instance.service not in services:
            continue
        image = by_id.get(item.definition.image)  # type: ignore[call-overload]
        repository, tag = _names(item.definition.service.image)
        row: dict[str, Any] = {"ContainerName": item.container, "Repository": repository, "Tag": tag}
        row["ID"] = item.definition.image
        if image is not None:
            platform = image.config.platform
            row |= {
                "Platform": "/".join(filter(None, (platform.os, platform.architecture, platform.variant))),
                "Size": image.bytes,
                "CreatedSince": age(image.created_s),
                "Created": instant(image.created_s),
            }
        rows.append(row)
    if quiet:
        print("\n".join(dict.fromkeys(str(row["ID"]) for row in rows)))
        return 0
    if shape.strip() == "json":
        print(_as_json(rows))
        return 0
    for row in rows:
        row["ID"] = str(row["ID"]).partition(":")[2][:12]
        if "Size" in row:
            row["Size"] = size_text(row["Size"])
    print(render_rows(rows, shape, _COLUMNS))
    return 0


_KEYS = ("ID", "ContainerName", "Repository", "Tag", "Platform", "Size", "Created")


def _as_json(rows: list[dict[str, Any]]) -> str:
    """One array, to the letter as Docker Compose has it."""
    empty = {"Platform": "", "Size": 0}
    kept = [{key: (empty | row)[key] for key in _KEYS if key in empty | row} for row in rows]
    return json.dumps(kept, separators=(",", ":"))


def _names(text: str) -> tuple[str, str]:
    try:
        reference = parse_reference(text)
    except InputError:
        return text, ""
    return (reference.familiar_name, reference.tag) if isinstance(reference, Named) else (text, "")
