"""Plain tables: aligned columns, no frame, no library."""

from __future__ import annotations

from orchestrator.cli.render.escape import escape_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_GAP = "   "


def table(header: Sequence[str], rows: Sequence[Sequence[str]], columns: int | None = None) -> str:
    """The table as text without a last newline; cells are escaped here. A column that is empty throughout is left out.
    `columns`: cut lines at this width (a terminal's), None: never."""
    cells = [[escape_line(cell) for cell in row] for row in rows]
    kept = [n for n in range(len(header)) if n == 0 or not rows or any(row[n] for row in cells)]
    lines = [[line[n] for n in kept] for line in [list(header), *cells]]
    widths = [max(len(line[n]) for line in lines) for n in range(len(kept))]
    text = [_GAP.join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
    if columns is not None:
        text = [line if len(line) <= columns else line[: max(1, columns - 1)] + "~" for line in text]
    return "\n".join(text)
