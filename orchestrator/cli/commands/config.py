"""``pystack config``: the compose files, checked and resolved. Nothing of the project is touched."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.render.escape import escape_line
from orchestrator.cli.render.yamltext import to_yaml
from orchestrator.cli.settings import Settings

if TYPE_CHECKING:
    from orchestrator.compose.load import ConfigOptions, LoadRequest

def config(
    settings: Settings,
    services: tuple[str, ...],
    shape: str | None,
    quiet: bool,
    part: str | None,
    hashed: str | None,
    no_interpolate: bool,
    no_normalize: bool,
    no_path_resolution: bool,
    no_env_resolution: bool,
    no_consistency: bool,
    resolves_images: bool,
    locks_images: bool,
    output: str | None,
) -> None:
    """Check the compose files and print them resolved: one file, long forms, all variables replaced."""
    from orchestrator.compose.load import ConfigOptions, load_canonical

    chosen = ConfigOptions(
        not no_interpolate,
        not no_normalize,
        not no_path_resolution,
        not no_env_resolution,
        not no_consistency,
        models=shape != "json",
    )
    request = settings.request(services)
    if hashed is not None:
        from orchestrator.compose.queries import hashes

        text = _lines(f"{name} {digest}" for name, digest in hashes(request, hashed, chosen).items())
    elif part is not None:
        text = _part(request, part, shape, chosen)
        if part == "variables" and services:
            settings.warn(("service filtering is not applied when --variables is set: these are the whole stack's",))
    else:
        canonical, warnings = load_canonical(request, chosen)
        settings.warn(tuple(warning.text() for warning in warnings))
        if no_interpolate and services:
            settings.warn(("service filtering is not applied when --no-interpolate is set: this is the whole stack",))
        if resolves_images or locks_images:
            from orchestrator.cli.pinning import images_alone, pinned

            canonical = pinned(settings, canonical)
            canonical = images_alone(canonical) if locks_images else canonical
        text = json.dumps(canonical, indent=2) + "\n" if shape == "json" else to_yaml(canonical)
    if not quiet:
        _write(text, output)


def _part(request: LoadRequest, part: str, shape: str | None, chosen: ConfigOptions) -> str:
    from orchestrator.compose import queries

    match part:
        case "images":
            return _lines(queries.images(request, chosen))
        case "profiles":
            return _lines(queries.profiles(request, chosen))
        case "environment":
            return _lines(f"{name}={value}" for name, value in queries.environment(request).items())
        case "variables":
            found = queries.config_variables(request)
            if shape is not None:
                rows = {
                    item.name: {
                        "Name": item.name,
                        "DefaultValue": item.default,
                        "PresenceValue": item.alternate,
                        "Required": item.required,
                    }
                    for item in found
                }
                if shape == "yaml":
                    lower = {name: {key.lower(): row[key] for key in row} for name, row in rows.items()}
                    return to_yaml(lower).replace("\n  ", "\n    ")  # To the letter as Docker Compose has it.
                return json.dumps(rows, indent=4) + "\n"
            head = ("NAME", "REQUIRED", "DEFAULT VALUE", "ALTERNATE VALUE")
            table = [(item.name, str(item.required).lower(), item.default, item.alternate) for item in found]
            return _table([head, *table])
        case _:
            return _lines(queries.names(request, part, chosen))


def _lines(items: Iterable[str]) -> str:
    return "".join(f"{escape_line(item)}\n" for item in items)


def _table(rows: Sequence[Sequence[str]]) -> str:
    shown = [[escape_line(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in range(len(shown[0]))]
    lines = ("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in shown)
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _write(text: str, output: str | None) -> None:
    if output is None:
        print(text, end="")
        return
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as exc:
        from orchestrator.cli.output import unwritable

        raise unwritable(output, exc) from exc
