"""How a mistake in a Dockerfile is told: the file and line, one sentence, the lines around it with a marker.

    error: web/Dockerfile:4: COPY has no flag --chwon (did you mean "chown"?)
        3 | FROM alpine
      > 4 | COPY --chwon=1:1 . /app
        5 | RUN make
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from orchestrator.build.instructions import Dockerfile, Instruction, Lines, Stage
from orchestrator.compose.text.diagnostics import printable
from orchestrator.errors import InputError

_AROUND = 1
_MOST_MARKED = 8
_WIDEST = 120


def excerpt(text: str, place: Lines) -> str:
    """The lines of `place`, each marked with ``>``, and one before and after; "" if the text has no such lines."""
    lines = text.split("\n")
    first, last = max(place.line, 1), min(max(place.end_line, place.line), len(lines))
    if first > len(lines):
        return ""
    cut = min(last, first + _MOST_MARKED - 1)
    width = len(str(min(cut + _AROUND, len(lines))))
    shown = []
    for number in range(max(1, first - _AROUND), min(cut + _AROUND, len(lines)) + 1):
        if number == len(lines) and not lines[-1] and number > last:
            continue
        mark = ">" if first <= number <= last else " "
        source = printable(lines[number - 1].rstrip("\r").expandtabs(4)[:_WIDEST])
        shown.append(f"  {mark} {str(number).rjust(width)} | {source}".rstrip())
    return "\n".join(shown)


def mistake(text: str, name: str, place: Lines, message: str, hint: str | None = None) -> InputError:
    """The error for something written wrongly in the lines `place` of the Dockerfile `text`, which is called `name`."""
    quoted = excerpt(text, place)
    shown = printable(message)
    return InputError(f"{shown}\n{quoted}" if quoted else shown, hint=hint, place=f"{name}:{place.line}")


@contextlib.contextmanager
def located(dockerfile: Dockerfile, at: Instruction | Stage) -> Iterator[None]:
    """Give an InputError that has no place yet the place and the excerpt of `at`: of `expand`, `exposed` and the like."""
    try:
        yield
    except InputError as exc:
        if exc.place:
            raise
        raise mistake(dockerfile.text, dockerfile.name, at.place, exc.message, exc.hint) from exc
