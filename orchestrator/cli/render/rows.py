"""``--format``: what lists and ``inspect`` print, in the shape that was asked for.

    table              aligned columns under their headers
    table TEMPLATE     the same, columns by a template, separated by tabs
    json               a JSON object a line (``inspect``: an array)
    TEMPLATE           a line for each (orchestrator.cli.render.template); ``\\t`` and ``\\n`` may be written in it
"""

from __future__ import annotations

from orchestrator.cli.render.escape import escape_text
from orchestrator.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from orchestrator.cli.render.template import Template

_GAP = "   "
SHAPES = 'table, "table TEMPLATE", json, or a template such as "{{.Name}}" (docs/cli.md, "Formats")'


def render_rows(
    rows: Sequence[Mapping[str, Any]], shape: str, columns: Mapping[str, str], *, width: int | None = None
) -> str:
    """The list as text without a last newline, harmless to a terminal. `rows`: values by field name, with Docker's names;
    a function in one is a method (``{{.Label "key"}}``). `columns`: the fields of the default table with their headers.
    `width`: cut a table's lines there. Raises InputError for a shape that is none."""
    if shape.strip() in ("", "table"):
        from orchestrator.cli.render.table import table

        cells = [[_cell(row.get(field)) for field in columns] for row in rows]
        return table(list(columns.values()), cells, width)
    if shape.strip() == "json":
        from orchestrator.cli.render.template_functions import as_json

        return "\n".join(map(as_json, rows))
    from orchestrator.cli.render.template_run import run

    if (begin := _begin_of_columns(shape)) is not None:
        template = _template(shape.rstrip(), begin)
        made = [escape_text(run(template, row)) for row in rows]
        return _aligned([_header(template, rows, columns), *made], width)
    template = _template(shape)
    return escape_text("\n".join(run(template, row) for row in rows))


def render_values(values: Sequence[Mapping[str, Any]], shape: str | None) -> str:
    """What ``inspect`` prints of `values`: None is an indented JSON array. Raises InputError as `render_rows`."""
    from orchestrator.cli.render.template_functions import as_json, plain

    if shape is None or shape.strip() == "":
        import json

        return json.dumps(plain(values), indent=4).replace("\x7f", "\\u007f")
    if shape.strip() == "json":
        return as_json(values)
    from orchestrator.cli.render.template_run import run

    template = _template(shape)
    return escape_text("\n".join(run(template, value) for value in values))


def _begin_of_columns(shape: str) -> int | None:
    """Where the template begins in ``table TEMPLATE``."""
    before = len(shape) - len(shape.lstrip()) + len("table")
    rest = shape[before:]
    if shape[:before].strip() == "table" and (rest[:1].isspace() or rest.startswith(("{{", "\\t"))):
        return before + len(rest) - len(rest.lstrip())
    return None


def _template(shape: str, begin: int = 0) -> Template:
    if "{{" not in shape:
        raise InputError(f'"{shape}" is no format', hint=SHAPES)
    from orchestrator.cli.render.template import parse

    return parse(shape, begin=begin)


def _cell(value: Any) -> str:
    from orchestrator.cli.render.template_functions import show

    return "" if value is None else show(value)


def _header(template: Template, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """The template over the headers; nothing when it does more with its fields than to show them."""
    from orchestrator.cli.render.template_run import run

    fields = dict.fromkeys([*columns, *(rows[0] if rows else ())])
    headers: dict[str, Any] = {field: columns.get(field) or _heading(field) for field in fields}
    for field, value in rows[0].items() if rows else ():
        if callable(value):
            headers[field] = _label_heading
    try:
        return escape_text(run(template, headers, header=True))
    except InputError:
        return ""


def _heading(field: str) -> str:
    """CreatedAt: CREATED AT."""
    made = "".join(f" {char}" if char.isupper() and field[at - 1 : at].islower() else char for at, char in enumerate(field))
    return made.upper()


def _label_heading(key: str) -> str:
    return key.rpartition(".")[2].replace("-", " ").replace("_", " ").upper()


def _aligned(texts: Sequence[str], width: int | None) -> str:
    lines = [line.split("\t") for text in texts if text for line in text.split("\n")]
    widths: dict[int, int] = {}
    for line in lines:
        for at, cell in enumerate(line[:-1]):
            widths[at] = max(widths.get(at, 0), len(cell))
    made = []
    for *cells, last in lines:
        text = ("".join(f"{cell.ljust(widths[at])}{_GAP}" for at, cell in enumerate(cells)) + last).rstrip()
        made.append(text if width is None or len(text) <= width else f"{text[: max(1, width - 1)]}~")
    return "\n".join(made)
