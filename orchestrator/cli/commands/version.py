"""``pystack version``."""

from __future__ import annotations

import sys

from orchestrator import __version__
from orchestrator.contracts.protocol import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orchestrator.cli.settings import Settings


def version(settings: Settings, shape: str, short: bool) -> None:
    """Show the version."""
    python = ".".join(str(number) for number in sys.version_info[:3])
    if shape == "json":
        from orchestrator.kernel.jsontext import dumps

        # Docker Compose's key first.
        print(dumps({"version": __version__, "python": python, "protocol": VERSION}))
    elif short:
        print(__version__)
    else:
        print(f"pystack {__version__} (Python {python})")
