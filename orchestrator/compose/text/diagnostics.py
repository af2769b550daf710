"""Findings about a compose file: where, what, and what to do about it.

A phase does not stop at the first error: it adds to the findings and goes on, and the loader raises one ComposeError with
all of them at the end of the phase.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from orchestrator.errors import InputError
from orchestrator.model.project import Place
from orchestrator.values import frozen, replace

MAX_SHOWN = 50
_MAX_PATHS = 4


def printable(text: str) -> str:
    """`text` with control, bidirectional and other invisible characters escaped: file content may reach a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


UNSET = "unset-variable"


def unset_text(variable: str) -> str:
    return f'the variable "{variable}" is not set: an empty text is used'


@frozen
class Related:
    """A further place that takes part in a finding, and what is there."""

    place: Place
    note: str

    def __str__(self) -> str:
        return f"{self.place}: {self.note}"


@frozen
class Diagnostic:
    """One finding. `line` and `column` count from 1 (0: the file as a whole); `column` and `caret_length` count characters.

    `path` is the compose path (``services.web.ports[0]``), empty for the file as a whole. `related`: the other
    file of a merge, say.
    """

    file: str
    line: int
    column: int
    path: str
    message: str
    hint: str | None = None
    source_line: str | None = None
    caret_length: int = 1
    code: str = ""
    related: tuple[Related, ...] = ()

    def text(self) -> str:
        """The finding as people read it: ``file:line:col: path: message``, the source line and a caret, the hint."""
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        head = f"{place}: {self.path}: " if self.path else f"{place}: " if place else ""
        lines = [printable(head + self.message)]
        if self.source_line is not None and self.line:
            lines.extend(self._quote())
        lines.extend(f"  see {printable(str(related))}" for related in self.related)
        if self.hint:
            lines.append(f"  hint: {printable(self.hint)}")
        return "\n".join(lines)

    def _quote(self) -> tuple[str, str]:
        line = (self.source_line or "").expandtabs(1)
        start = 0
        if self.column > 90:
            start = self.column - 41
        shown = printable(line[start : start + 120])
        before = printable(line[start : self.column - 1])
        number = str(self.line).rjust(4)
        width = max(1, min(self.caret_length, len(shown) - len(before)))
        return f"  {number} | {shown}", f"  {' ' * len(number)} | {' ' * len(before)}{'^' * width}"


def unset_in_file(variable: str, name: str, text: str, line: int) -> Diagnostic:
    """Of the env file `name`, whose content is `text`. The line itself is not shown: it may be a password's."""
    column = max(1, text.split("\n")[line - 1].find("$") + 1)
    hint = "a value with a dollar sign of its own stands in single quotes"
    return Diagnostic(name, line, column, "", unset_text(variable), hint, code=UNSET)


class ComposeError(InputError):
    """The compose files are not right. `diagnostics` holds every error found, in the order of the files. What is wrong once
    in the file and comes to several services (an anchor, `x-...`) is shown once."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        alike: dict[Diagnostic, list[Diagnostic]] = {}
        for item in self.diagnostics:
            alike.setdefault(replace(item, path=""), []).append(item)
        shown = [_once(items) for items in list(alike.values())[:MAX_SHOWN]]
        if len(alike) > MAX_SHOWN:
            shown.append(f"and {len(alike) - MAX_SHOWN} more errors")
        super().__init__("\n".join(shown))


def _once(alike: list[Diagnostic]) -> str:
    paths = [printable(item.path) for item in alike[1:] if item.path != alike[0].path]
    if not paths:
        return alike[0].text()
    more = f" and {len(paths) - _MAX_PATHS} more" if len(paths) > _MAX_PATHS else ""
    return f"{alike[0].text()}\n  the same for {', '.join(paths[:_MAX_PATHS])}{more}"


def nearest(word: str, known: Iterable[str], found: list[Diagnostic]) -> str:
    """As `did_you_mean`, but nothing once there are more findings than are shown: looking for names costs time."""
    return did_you_mean(word, known) if len(found) < MAX_SHOWN else ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` (did you mean "db"?)`` for the nearest of `known`, or nothing."""
    choices = {choice.lower(): choice for choice in sorted(set(known))}
    if len(choices) > 2000 or len(word) > 100:
        return ""
    close = difflib.get_close_matches(word.lower(), choices, n=1, cutoff=0.6)
    return f' (did you mean "{choices[close[0]]}"?)' if close else ""


def services_hint(known: Iterable[str]) -> str:
    """Which services there are, for who named one that is none."""
    names = sorted(set(known))
    more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return f"its services: {', '.join(names[:MAX_SHOWN])}{more}" if names else "it has no services"
