"""The library around which the front end is built, and all that we know of it: lines, flags, heredocs and shell words.

`e2b-dockerfile-utils` is a port of BuildKit's parser. What differs from BuildKit is put right here:

* COPY and ADD are split at blanks alone, without regard to quotes.
* The instruction after ONBUILD is parsed as one, and may have heredocs. The library does not look behind ONBUILD, so it is
  shown the text without the word where a heredoc follows (`_uncovered`); places stay as they are.
* JSON may hold halves of surrogate pairs, which no encoding can: Go replaces them.

Source: https://github.com/moby/buildkit, frontend/dockerfile/docs and parser's recorded cases.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from e2b_dockerfile_utils import (
    DockerfileAst,
    DockerfileHeredoc,
    DockerfileInstruction,
    DockerfileSyntaxError,
    ShellLex,
    chomp_heredoc_content,
    parse_dockerfile_ast,
    parse_heredoc,
)

from orchestrator.build.frontend.mistakes import mistake
from orchestrator.build.instructions import Document, Lines
from orchestrator.compose.text.diagnostics import did_you_mean
from orchestrator.errors import InputError
from orchestrator.values import frozen, replace

KEYWORDS = frozenset({
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD",
    "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
})  # fmt: skip

MOST_BYTES = 4 << 20
_MOST_UNCOVERED = 200
_ONBUILD = re.compile(r"[ \t]*ONBUILD[ \t]+(?=(?:ADD|COPY|RUN)\b[^\n]*<<)", re.IGNORECASE)
_TRIGGER = re.compile(r"\s*ONBUILD\s*", re.IGNORECASE)
_BLANKS = re.compile(r"[\t\v\f\r ]+")


@frozen
class Heredoc:
    """A heredoc of a line, with its body as it is in the file (`raw`)."""

    document: Document
    raw: str


@frozen
class Line:
    """One instruction as the parser sees it. `keyword` as written, `name` in capitals; `args` by the instruction's own
    syntax (of ENV and LABEL: name, value, ``=`` or "", three by three). `behind`: what follows ONBUILD."""

    name: str
    keyword: str
    flags: tuple[str, ...]
    args: tuple[str, ...]
    json: bool
    heredocs: tuple[Heredoc, ...]
    place: Lines
    text: str
    comments: tuple[str, ...] = ()
    behind: Line | None = None


@frozen
class Syntax:
    lines: tuple[Line, ...]
    escape: str
    empty_continuations: tuple[int, ...]


def read_lines(text: str, name: str) -> Syntax:
    """Take the Dockerfile `text` apart. Raises InputError with the place in it, as `name` is called."""
    _check_text(text, name)
    uncovered = _uncovered(text, name)
    shown = text
    if uncovered:
        physical = text.split("\n")
        for number in uncovered:
            physical[number - 1] = _blanked(physical[number - 1])
        shown = "\n".join(physical)
    ast = _parse(shown, text, name)
    physical = text.split("\n")
    lines = []
    for item in ast.instructions:
        line = _line(item, physical)
        if line.place.line in uncovered:
            whole = physical[line.place.line - 1].lstrip()
            behind = replace(line, comments=())
            line = replace(
                line, name="ONBUILD", keyword=whole.split(None, 1)[0], flags=(), args=(), text=f"ONBUILD {line.text}",
                heredocs=(), behind=behind,
            )  # fmt: skip
        elif line.name == "ONBUILD":
            line = replace(line, behind=_behind(line, ast.escape_token, text, name))
        lines.append(line)
    return Syntax(tuple(lines), ast.escape_token, tuple(warning.line for warning in ast.warnings))


def heredoc_name(word: str) -> str | None:
    """The delimiter, if `word` opens a heredoc (``<<EOF``, ``3<<-"EOF"``) and is nothing else."""
    try:
        found = parse_heredoc(word)
    except ValueError:
        return None
    return found.name if found is not None else None


def lex_word(word: str, variables: Mapping[str, str], escape: str) -> str:
    """Quotes and escapes removed, variables put in. Raises InputError that says what is wrong with `word`, and no place."""
    try:
        return ShellLex(escape, env=variables, skip_unset_env=False).process_word(word)
    except (ValueError, re.error) as exc:
        raise _unreadable(word, exc) from exc


def lex_words(text: str, variables: Mapping[str, str], escape: str) -> list[str]:
    """As `lex_word`, split at the blanks outside quotes, those that came out of variables included."""
    try:
        return ShellLex(escape, env=variables, skip_unset_env=False).process_words(text)
    except (ValueError, re.error) as exc:
        raise _unreadable(text, exc) from exc


def lex_text(text: str, variables: Mapping[str, str]) -> str:
    """The body of a heredoc: variables put in, quotes left alone. Raises InputError without a place."""
    try:
        return ShellLex("\\", env=variables, skip_unset_env=False, skip_process_quotes=True).process_word(text)
    except (ValueError, re.error) as exc:
        raise _unreadable(text.split("\n", 1)[0], exc) from exc


def _unreadable(word: str, exc: Exception) -> InputError:
    cause = exc.__context__ if isinstance(exc.__context__, ValueError) else exc
    if isinstance(exc.__context__, RecursionError):
        cause = ValueError("it is nested too deeply")
    shown = word if len(word) <= 80 else f"{word[:77]}..."
    sign = "dollar sign" if "$" in word else "quote"
    return InputError(f'cannot expand "{shown}": {cause}', hint=f"write \\ before a {sign} that is meant as one")


def _check_text(text: str, name: str) -> None:
    if len(text) > MOST_BYTES:
        raise InputError(f"the Dockerfile has {len(text)} characters, more than {MOST_BYTES}", place=name)
    if "\0" in text:
        number = text.count("\n", 0, text.index("\0")) + 1
        raise mistake(text, name, Lines(number, number), "a NUL character: this is no text file")


def _parse(shown: str, text: str, name: str) -> DockerfileAst:
    try:
        return parse_dockerfile_ast(shown)
    except DockerfileSyntaxError as exc:
        raise _explained(exc, text, name) from exc
    except RecursionError as exc:
        raise InputError("the Dockerfile holds JSON that is nested too deeply", place=name) from exc


def _explained(exc: DockerfileSyntaxError, text: str, name: str) -> InputError:
    number = exc.line or 1
    place = Lines(number, number)
    physical = text.split("\n")
    words = physical[number - 1].split() if number <= len(physical) else []
    if words and words[0].upper() == "ONBUILD":
        words = words[1:]
    keyword = words[0].lstrip("\ufeff") if words else ""
    if isinstance(exc.__context__, ValueError):
        if keyword.upper() in ("ENV", "LABEL"):
            hint = f'quote what has blanks, as in: {keyword.upper()} NAME="two words" OTHER=one'
            return mistake(text, name, place, f"{keyword.upper()} is not of the form NAME=value", hint)
        found = str(exc.__context__)
        return mistake(text, name, place, found[:1].lower() + found[1:])
    if keyword.upper() not in KEYWORDS:
        return mistake(text, name, place, f"unknown instruction {keyword}{did_you_mean(keyword, KEYWORDS)}")
    return mistake(
        text, name, place, f"the heredoc of {keyword.upper()} has no end",
        "end it with a line that has its delimiter alone, without blanks before or after",
    )  # fmt: skip


def _blanked(line: str) -> str:
    match = _ONBUILD.match(line)
    return line if match is None else " " * match.end() + line[match.end() :]


def _uncovered(text: str, name: str) -> set[int]:
    """Numbers of the lines on which an ONBUILD with a heredoc begins: not those that only look so, inside a heredoc or
    after a continuation. What is above such a line tells: an instruction put in its place must be one of its own."""
    physical = text.split("\n")
    found: set[int] = set()
    for number, line in enumerate(physical, start=1):
        if _ONBUILD.match(line) is None:
            continue
        if len(found) >= _MOST_UNCOVERED:
            place = Lines(number, number)
            raise mistake(text, name, place, f"more than {_MOST_UNCOVERED} ONBUILD instructions with heredocs")
        above = [_blanked(row) if at in found else row for at, row in enumerate(physical[: number - 1], start=1)]
        try:
            ast = parse_dockerfile_ast("\n".join([*above, "STOPSIGNAL probe"]))
        except (DockerfileSyntaxError, RecursionError):
            continue
        if ast.instructions[-1].name == "STOPSIGNAL" and ast.instructions[-1].start_line == number:
            found.add(number)
    return found


def _line(item: DockerfileInstruction, physical: list[str]) -> Line:
    args = item.args
    if item.name in ("ADD", "COPY") and not item.json:
        args = [word for word in _BLANKS.split(" ".join(args)) if word]
    return Line(
        name=item.name,
        keyword=item.original.split(None, 1)[0],
        flags=tuple(map(_whole, item.flags)),
        args=tuple(map(_whole, args)),
        json=item.json,
        heredocs=tuple(map(_heredoc, item.heredocs)),
        place=Lines(item.start_line, item.end_line),
        text=item.original.strip(),
        comments=_comments(physical, item.start_line),
    )


def _whole(word: str) -> str:
    """Without halves of surrogate pairs, which JSON can write and no encoding of a name can hold."""
    return word if word.isascii() else word.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _heredoc(found: DockerfileHeredoc) -> Heredoc:
    content = chomp_heredoc_content(found.content) if found.chomp else found.content
    return Heredoc(Document(found.name, content, found.expand), found.content)


def _comments(physical: list[str], start: int) -> tuple[str, ...]:
    """The comment lines right above the line `start`, without their ``#``, first one first."""
    found = []
    for line in reversed(physical[: start - 1]):
        stripped = line.strip()
        if not stripped.startswith("#"):
            break
        found.append(stripped[1:].strip())
    return tuple(reversed(found))


def _behind(line: Line, escape: str, text: str, name: str) -> Line | None:
    """The instruction after ONBUILD, None if there is none."""
    trigger = _TRIGGER.sub("", line.text, count=1)
    if not trigger:
        return None
    keyword = trigger.split(None, 1)[0]
    if keyword.upper() not in KEYWORDS:
        near = did_you_mean(keyword, KEYWORDS)
        raise mistake(text, name, line.place, f"unknown instruction {keyword} after ONBUILD{near}")
    directive = f"# escape={escape}\n"
    try:
        ast = parse_dockerfile_ast(directive + trigger)
    except DockerfileSyntaxError as exc:
        shifted = DockerfileSyntaxError("", line.place.line)
        shifted.__context__ = exc.__context__
        raise _explained(shifted, text, name) from exc
    if not ast.instructions:
        return None
    return replace(_line(ast.instructions[0], []), place=line.place)
