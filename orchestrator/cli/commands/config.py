"""``pystack config``: the compose files, checked and resolved. Nothing of the project is touched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from orchestrator.cli.commands import options
from orchestrator.cli.render.escape import escape_line
from orchestrator.cli.render.yamltext import to_yaml
from orchestrator.cli.settings import Settings
from orchestrator.errors import HostError


@click.command()
@options.services
@click.option("--format", "shape", type=click.Choice(["yaml", "json"]), default="yaml", help="Output format.")
@click.option("-q", "--quiet", is_flag=True, help="Only check; print nothing.")
@click.option("--services", "part", flag_value="services", help="Only the service names.")
@click.option("--images", "part", flag_value="images", help="Only the images, one a line.")
@click.option("--volumes", "part", flag_value="volumes", help="Only the volume names.")
@click.option("--networks", "part", flag_value="networks", help="Only the network names.")
@click.option("-o", "--output", metavar="FILE", help="Write to FILE instead of stdout.")
@click.pass_obj
def config(
    settings: Settings, services: tuple[str, ...], shape: str, quiet: bool, part: str | None, output: str | None
) -> None:
    """Check the compose files and print them resolved: one file, long forms, all variables replaced."""
    from orchestrator.compose.load import load_canonical

    canonical, warnings = load_canonical(settings.request(services))
    settings.warn(tuple(warning.text() for warning in warnings))
    if quiet:
        return
    if part is not None:
        text = "".join(f"{escape_line(name)}\n" for name in _names(canonical, part))
    else:
        text = json.dumps(canonical, indent=2) + "\n" if shape == "json" else to_yaml(canonical)
    if output is None:
        print(text, end="")
        return
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as exc:
        raise HostError(f"cannot write {output}: {exc.strerror}") from exc


def _names(canonical: dict[str, Any], part: str) -> list[str]:
    if part == "images":
        return sorted({item["image"] for item in canonical.get("services", {}).values() if item.get("image")})
    return sorted(canonical.get(part, {}))
