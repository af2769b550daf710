"""``pystack version``."""

from __future__ import annotations

import json
import platform

import click

from orchestrator import __version__
from orchestrator.contracts.protocol import VERSION


@click.command()
@click.option("--format", "shape", type=click.Choice(["text", "json"]), default="text", help="Output format.")
@click.option("--short", is_flag=True, help="Only the version number.")
def version(shape: str, short: bool) -> None:
    """Show the version."""
    if shape == "json":
        print(json.dumps({"version": __version__, "python": platform.python_version(), "protocol": VERSION}))
    elif short:
        print(__version__)
    else:
        print(f"pystack {__version__} (Python {platform.python_version()})")
