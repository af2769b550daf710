"""What the terminal can do and what the user wants of it: decided once per command."""

from __future__ import annotations

import os
import sys

from orchestrator.values import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


@frozen
class Terminal:
    """`progress` is ``live``, ``plain``, ``quiet`` or ``json``. `unicode`: stderr takes more than ASCII."""

    stdout_tty: bool
    stderr_tty: bool
    colour_out: bool
    colour_err: bool
    unicode: bool
    progress: str


def detect(ansi: str, progress: str, environ: Mapping[str, str]) -> Terminal:
    """`ansi`: never, always, auto (a terminal, and neither NO_COLOR nor TERM=dumb; no-color.org). `progress`: auto is live
    on a terminal and plain elsewhere; ``tty`` asks for live."""
    out, err = sys.stdout.isatty(), sys.stderr.isatty()
    dumb = environ.get("TERM", "") in ("", "dumb")
    plain = bool(environ.get("NO_COLOR")) or dumb

    def coloured(is_tty: bool) -> bool:
        return ansi == "always" or (ansi == "auto" and is_tty and not plain)

    if progress == "auto":
        progress = "live" if err and not dumb and ansi != "never" else "plain"
    elif progress == "tty":
        progress = "live"
    encoding = (sys.stderr.encoding or "ascii").lower().replace("-", "")
    return Terminal(out, err, coloured(out), coloured(err), encoding == "utf8", progress)


def width(default: int = 80) -> int:
    """Columns of the terminal on stderr."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or default
    except (OSError, ValueError):
        return default
