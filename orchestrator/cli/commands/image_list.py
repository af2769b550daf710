"""``pystack image ls``, ``inspect`` and ``history``: the store, looked at."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.cli.imagework import age, familiar, found, instant, is_public, store_of, users_of_images
from orchestrator.cli.instants import parse_instant
from orchestrator.cli.render.rows import render_rows, render_values
from orchestrator.cli.render.transfer import size_text
from orchestrator.errors import InputError, PystackError
from orchestrator.images.reference import parse_named

if TYPE_CHECKING:
    from orchestrator.cli.settings import Settings
    from orchestrator.images.store.store import Store
    from orchestrator.images.store.values import Name, StoredImage

_NONE = "<none>"
_COLUMNS = {"Repository": "REPOSITORY", "Tag": "TAG", "ID": "IMAGE ID", "CreatedSince": "CREATED", "Size": "SIZE"}
_HISTORY_COLUMNS = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}
_BOOLEANS = {"1": True, "true": True, "0": False, "false": False}
_SHORT = 12
_WIDE = 45


def list_images(
    settings: Settings,
    pattern: str | None,
    filters: tuple[str, ...],
    shape: str,
    digests: bool,
    no_trunc: bool,
    quiet: bool,
) -> int:
    """List the images of this machine."""
    store = store_of(settings)
    keep = _Filter(store, pattern, filters)
    names = store.names()
    images = sorted(store.images(), key=lambda image: (-image.created_s, image.id))
    rows = [row for image in images if keep.image(image) for row in _rows(image, names, keep, no_trunc=no_trunc)]
    if quiet:
        ids = dict.fromkeys(row["ID"] for row in rows)
        print("\n".join(ids)) if ids else None
        return 0
    columns = dict(_COLUMNS)
    if digests:
        columns = {"Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", **_COLUMNS}
    if rows or shape.startswith("table"):
        print(render_rows(rows, shape, columns))
    return 0


def _rows(image: StoredImage, names: Mapping[str, Name], keep: _Filter, *, no_trunc: bool) -> Iterator[dict[str, Any]]:
    base = {
        "ID": image.id if no_trunc else image.id.partition(":")[2][:_SHORT],
        "CreatedSince": age(image.created_s),
        "CreatedAt": instant(image.created_s),
        "Size": size_text(image.bytes),
        "VirtualSize": size_text(image.bytes),
        "Containers": "N/A",
        "SharedSize": "N/A",
        "UniqueSize": "N/A",
    }
    shown = [name for name in image.names if is_public(name) and keep.name(name)]
    for name in shown:
        named = parse_named(name)
        digest = names[name].digest if name in names else None
        yield {"Repository": named.familiar_name, "Tag": named.tag or _NONE, "Digest": digest or _NONE, **base}
    if not shown and keep.nameless:
        yield {"Repository": _NONE, "Tag": _NONE, "Digest": _NONE, **base}


class _Filter:
    """What of ``--filter`` and of the pattern is asked for. Raises InputError for what is no filter."""

    def __init__(self, store: Store, pattern: str | None, filters: tuple[str, ...]) -> None:
        self._patterns = [pattern] if pattern else []
        self._labels: list[tuple[str, str | None]] = []
        self._dangling: bool | None = None
        self._before_s, self._since_s = float("inf"), float("-inf")
        for text in filters:
            key, given, value = text.partition("=")
            if not given:
                raise InputError(f'--filter "{text}" is not KEY=VALUE')
            match key:
                case "reference":
                    self._patterns.append(value)
                case "dangling":
                    self._dangling = _BOOLEANS.get(value.lower())
                    if self._dangling is None:
                        raise InputError(f'--filter: dangling is true or false, not "{value}"')
                case "label":
                    name, has, wanted = value.partition("=")
                    self._labels.append((name, wanted if has else None))
                case "before":
                    self._before_s = min(self._before_s, found(store, value).created_s)
                case "since":
                    self._since_s = max(self._since_s, found(store, value).created_s)
                case "until":
                    self._before_s = min(self._before_s, parse_instant(value, time.time()))
                case _:
                    hint = "reference, dangling, label, before, since, until"
                    raise InputError(f'--filter: there is no "{key}"', hint=hint)
        self.nameless = not self._patterns and self._dangling is not False

    def image(self, image: StoredImage) -> bool:
        labels: Mapping[str, str] = image.config.config.get("Labels") or {}
        return (
            self._since_s < image.created_s < self._before_s
            and all(labels.get(name) == value if value is not None else name in labels for name, value in self._labels)
            and (self._dangling is not True or not any(map(is_public, image.names)))
        )

    def name(self, name: str) -> bool:
        named = parse_named(name)
        written = {named.familiar, named.familiar_name, named.full, named.name, familiar(name).partition(":")[0]}
        return not self._patterns or any(
            fnmatch.fnmatchcase(text, pattern) for pattern in self._patterns for text in written
        )


def inspect(settings: Settings, images: tuple[str, ...], shape: str | None) -> int:
    """Show everything about images: of those that are here, also when others are not."""
    store, users = store_of(settings), users_of_images(settings)
    values, errors = [], []
    for text in images:
        try:
            values.append(_everything(store, found(store, text), users))
        except PystackError as error:
            errors.append(error)
    if values or shape is None:
        print(render_values(values, shape))
    settings.warn(tuple(str(error) for error in errors[1:]))
    if errors:
        raise errors[0]
    return 0


def _everything(store: Store, image: StoredImage, users: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """With Docker's names; `Layers` and `Containers` are ours."""
    names = store.names()
    public = [name for name in image.names if is_public(name)]
    digests = {
        f"{parse_named(name).familiar_name}@{names[name].digest}": None
        for name in public
        if name in names and names[name].digest
    }
    config, platform = image.config, image.config.platform
    return {
        "Id": image.id,
        "RepoTags": [familiar(name) for name in public if parse_named(name).tag],
        "RepoDigests": list(digests),
        "Comment": config.history[-1].comment if config.history else "",
        "Created": config.created,
        "Author": config.author,
        "Config": dict(config.config),
        "Architecture": platform.architecture,
        "Variant": platform.variant,
        "Os": platform.os,
        "Size": image.bytes,
        "GraphDriver": {
            "Name": "overlay2",
            "Data": {"LowerDir": ":".join(layer.path for layer in reversed(image.layers))},
        },
        "RootFS": {"Type": "layers", "Layers": list(config.diff_ids)},
        "Manifest": image.manifest.digest if image.manifest is not None else "",
        "Containers": list(users.get(image.id, ())),
    }


def history(settings: Settings, image: str, shape: str, human: bool, no_trunc: bool, quiet: bool) -> int:
    """Show how an image was made."""
    made = found(store_of(settings), image)
    sizes = iter([layer.bytes for layer in made.layers])
    rows: list[dict[str, Any]] = []
    for step in made.config.history:
        size = 0 if step.empty_layer else next(sizes, 0)
        created_s = _epoch(step.created)
        by = step.created_by if no_trunc or len(step.created_by) <= _WIDE else step.created_by[: _WIDE - 1] + "…"
        rows.append(
            {
                "ID": "<missing>",
                "CreatedSince": age(created_s) if human and created_s is not None else step.created or "N/A",
                "CreatedAt": step.created,
                "CreatedBy": by,
                "Size": size_text(size) if human else str(size),
                "Comment": step.comment,
            }
        )
    if rows:
        rows[-1]["ID"] = made.id if no_trunc else made.id.partition(":")[2][:_SHORT]
    rows.reverse()
    print("\n".join(row["ID"] for row in rows) if quiet else render_rows(rows, shape, _HISTORY_COLUMNS))
    return 0


def _epoch(text: str) -> float | None:
    from datetime import datetime

    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None
