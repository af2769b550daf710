"""Templates of ``--format``: the part of Go's text/template that people use with Docker's (pkg.go.dev/text/template,
docs.docker.com/engine/cli/formatting). This module reads them; `template_run` carries them out.

    {{.Name}} {{.A.B}} {{$x}} {{.Label "key"}}           fields, variables, methods with arguments
    {{.A | lower | printf "%-9s|"}} {{(index .A 0).B}}   pipelines: a value becomes the last argument of what follows
    {{if P}} {{else if P}} {{else}} {{end}}              also `with`, and `range` with `break` and `continue`
    {{$x := P}} {{$x = P}} {{range $i, $e := P}}
    {{/* nothing */}} {{- trims -}}

Not supported: `define`, `template`, `block`. What is wrong is one InputError with its line and column.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from orchestrator.cli.render.template_functions import FUNCTIONS
from orchestrator.errors import InputError
from orchestrator.values import frozen

MOST_NESTED = 50
"""Blocks and parentheses."""


@frozen
class Text:
    text: str


@frozen
class Literal:
    """A constant. `nil` is None."""

    value: Any
    at: int


@frozen
class Path:
    """`start`, and fields of it: None is dot, a text a variable's name with its ``$``, a Pipe what is in parentheses."""

    start: Any
    fields: tuple[str, ...]
    at: int


@frozen
class Function:
    name: str
    at: int


@frozen
class Command:
    """The first of `operands` is what is evaluated or called, the others are its arguments."""

    operands: tuple[Any, ...]
    at: int


@frozen
class Pipe:
    """`variables`: what it is assigned to (two only in a range); `declares` if they are new (``:=``)."""

    commands: tuple[Command, ...]
    variables: tuple[str, ...]
    declares: bool
    at: int


@frozen
class Block:
    """``if``, ``with`` and ``range``."""

    keyword: str
    pipe: Pipe
    body: tuple[Any, ...]
    otherwise: tuple[Any, ...]


@frozen
class Jump:
    """``break`` and ``continue``."""

    keyword: str


Node = Text | Pipe | Block | Jump


@frozen
class Template:
    """One that can be carried out. `name`: where it comes from, for errors."""

    text: str
    name: str
    nodes: tuple[Node, ...]

    def refuse(self, at: int, message: str, hint: str | None = None) -> NoReturn:
        """Raises InputError about what stands at character `at`."""
        before = self.text[:at]
        line = before.count("\n") + 1
        raise InputError(message, hint=hint, place=f"{self.name}:{line}:{at - (before.rfind(chr(10)) + 1) + 1}")


def parse(text: str, name: str = "--format", begin: int = 0) -> Template:
    """The template in `text` from character `begin` on. ``\\t`` and ``\\n`` between actions are what they stand for, as the
    shell passes them on. Raises InputError."""
    return _Parser(Template(text, name, ()), begin).template()


@frozen
class _Token:
    """`glued`: nothing is between it and what stands before it: then a field belongs to that."""

    kind: str
    text: str
    at: int
    glued: bool


_TOKENS = re.compile(
    r"""(?P<space>[ \t\r\n]+)
    | (?P<field>\.[^\W\d]\w*) | (?P<variable>\$\w*)
    | (?P<number>[+-]?(?:0[xXoObB][0-9a-fA-F_]+|(?:\d[\d_]*)?\.?\d[\d_]*\.?(?:[eE][+-]?\d+)?)(?!\w))
    | (?P<word>[^\W\d]\w*)
    | (?P<string>"(?:[^"\\\n]|\\.)*") | (?P<raw>`[^`]*`) | (?P<char>'(?:[^'\\\n]|\\.)*')
    | (?P<sign>:=|[=|(),.])""",
    re.VERBOSE,
)
_BLANKS = " \t\r\n"
_KEYWORDS = ("if", "else", "end", "range", "with", "break", "continue")
_UNSUPPORTED = ("define", "template", "block")


class _Parser:
    def __init__(self, empty: Template, begin: int) -> None:
        self._empty = empty
        self._text = empty.text
        self._actions = self._split(begin)
        self._tokens: list[_Token] = []
        self._at = 0
        self._end = 0
        self._variables = ["$"]
        self._depth = 0
        self._loops = 0

    def template(self) -> Template:
        nodes, ending = self._nodes(None)
        assert ending == ""
        return Template(self._text, self._empty.name, nodes)

    # Text and actions

    def _split(self, at: int) -> Iterator[Text | tuple[int, int]]:
        """Texts, already trimmed, and where the insides of actions are."""
        text, trims = self._text, False
        while True:
            begin = text.find("{{", at)
            plain = text[at : begin if begin >= 0 else len(text)].replace("\\t", "\t").replace("\\n", "\n")
            plain = plain.lstrip(_BLANKS) if trims else plain
            inner = begin + 2
            if begin >= 0 and text[inner : inner + 1] == "-" and text[inner + 1 : inner + 2] in tuple(_BLANKS):
                plain = plain.rstrip(_BLANKS)
                inner += 2
            if plain:
                yield Text(plain)
            if begin < 0:
                return
            end, at, comment = self._end_of_action(begin, inner)
            trims = text[end : end + 1] == "-"
            if not comment:
                yield inner, end

    def _end_of_action(self, begin: int, inner: int) -> tuple[int, int, bool]:
        """Where the action that starts at `begin` ends inside and outside, and whether it is a comment."""
        text = self._text
        start = inner + len(text[inner:]) - len(text[inner:].lstrip(_BLANKS))
        if text.startswith("/*", start):
            close = text.find("*/", start + 2)
            found = re.compile(r"\*/(?:\s+(-))?\}\}").match(text, close) if close >= 0 else None
            if found is None:
                self._refuse(begin, "this comment is not closed", "a comment is an action of its own: {{/* ... */}}")
            return found.start(1) if found[1] else found.end() - 2, found.end(), True
        at = inner
        while at < len(text):
            if text.startswith("}}", at):
                return at, at + 2, False
            if text.startswith("-}}", at) and text[at - 1] in _BLANKS:
                return at, at + 3, False
            found = _TOKENS.match(text, at)
            at = found.end() if found is not None else at + 1
        self._refuse(begin, "this action is not closed", "an action ends with }}")

    def _nodes(self, block: str | None) -> tuple[tuple[Node, ...], str]:
        """What follows, up to the end of the `block`, and what ended it: ``end``, ``else`` (its tokens wait), or ""."""
        nodes: list[Node] = []
        for part in self._actions:
            if isinstance(part, Text):
                nodes.append(part)
                continue
            self._tokens, self._at, self._end = list(self._lexed(*part)), 0, part[1]
            token = self._peek()
            word = token.text if token is not None and token.kind == "word" else ""
            if word in _UNSUPPORTED:
                self._refuse(part[0], f"`{word}` is not supported in templates here")
            if word in ("end", "else"):
                if block is None:
                    self._refuse(self._position(), f"`{word}` without an `if`, `range` or `with` before it")
                self._take()
                if word == "end":
                    self._finish("end")
                return tuple(nodes), word
            nodes.append(self._action(word))
        if block is not None:
            self._refuse(len(self._text), f"the `{block}` has no {{{{end}}}}")
        return tuple(nodes), ""

    def _action(self, word: str) -> Node:
        if word in ("break", "continue"):
            if not self._loops:
                self._refuse(self._position(), f"`{word}` outside of a `range`")
            self._take()
            self._finish(word)
            return Jump(word)
        if word in ("if", "with", "range"):
            self._take()
            return self._block(word)
        pipe = self._pipe(self._assigned(False))
        self._finish("the action")
        return pipe

    def _block(self, keyword: str) -> Block:
        known = len(self._variables)
        self._deeper()
        pipe = self._pipe(self._assigned(keyword == "range"))
        self._finish(keyword)
        self._loops += keyword == "range"
        inside = len(self._variables)
        body, ending = self._nodes(keyword)
        del self._variables[inside:]
        self._loops -= keyword == "range"
        otherwise: tuple[Node, ...] = ()
        if ending == "else":
            token = self._peek()
            if token is None:
                otherwise, ending = self._nodes(keyword)
                if ending == "else":
                    self._refuse(self._position(), f"a second `else` of the same `{keyword}`")
            elif token.text == keyword and keyword != "range":
                self._take()
                otherwise = (self._block(keyword),)  # Its end is ours.
            else:
                self._finish("else")
        del self._variables[known:]
        self._depth -= 1
        return Block(keyword, pipe, body, otherwise)

    # Inside of an action

    def _lexed(self, begin: int, end: int) -> Iterator[_Token]:
        at, glued = begin, False
        while at < end:
            found = _TOKENS.match(self._text, at, end)
            if found is None or found.lastgroup is None:
                quote = self._text[at]
                if quote in "\"'`":
                    self._refuse(at, "this quoted text is not closed")
                self._refuse(at, f"{quote!r} means nothing here")
            if found.lastgroup != "space":
                yield _Token(found.lastgroup, found[0], at, glued)
            glued = found.lastgroup != "space"
            at = found.end()

    def _pipe(self, assigned: tuple[tuple[str, ...], bool] = ((), False)) -> Pipe:
        """``command | command``, up to a parenthesis or the end."""
        at = self._position()
        variables, declares = assigned
        commands: list[Command] = []
        while True:
            command = self._command()
            if commands and not isinstance(command.operands[0], Function | Path):
                self._refuse(command.at, "a value cannot be piped into a constant")
            commands.append(command)
            if not self._sign("|"):
                break
        for name in variables:
            if declares:
                self._variables.append(name)
            elif name not in self._variables:
                self._unknown(name, at)
        return Pipe(tuple(commands), variables, declares, at)

    def _assigned(self, of_range: bool) -> tuple[tuple[str, ...], bool]:
        """What stands before ``:=`` or ``=``, and whether it is the former."""
        signs = [token.text for token in self._tokens[self._at : self._at + 4]]
        first = self._peek()
        if first is None or first.kind != "variable" or len(signs) < 2:
            return (), False
        if signs[1] in (":=", "="):
            self._at += 2
            return (first.text,), signs[1] == ":="
        if of_range and signs[1] == "," and signs[2].startswith("$") and signs[3:] in ([":="], ["="]):
            self._at += 4
            return (first.text, signs[2]), signs[3] == ":="
        return (), False

    def _command(self) -> Command:
        at = self._position()
        operands = []
        while (operand := self._operand()) is not None:
            operands.append(operand)
        if not operands:
            self._refuse(at, "a value is missing here")
        first = operands[0]
        if len(operands) > 1 and isinstance(first, Literal):
            self._refuse(at, "a constant takes no arguments")
        return Command(tuple(operands), at)

    def _operand(self) -> Any:
        """The next one; None at the end of the command."""
        token = self._peek()
        if token is None or (token.kind == "sign" and token.text in "|)"):
            return None
        self._at += 1
        text, at = token.text, token.at
        if token.kind == "sign" and text == "(":
            self._deeper()
            inner = self._pipe()
            if not self._sign(")"):
                self._refuse(at, "this parenthesis is not closed")
            self._depth -= 1
            return Path(inner, self._fields(), at)
        if token.kind == "field":
            return Path(None, (text[1:], *self._fields()), at)
        if token.kind == "variable":
            if text not in self._variables:
                self._unknown(text, at)
            return Path(text, self._fields(), at)
        if text == ".":
            return Path(None, (), at)
        if token.kind == "word":
            return self._word(text, at)
        if token.kind == "sign":
            self._refuse(at, f'"{text}" is not expected here')
        return Literal(self._constant(token), at)

    def _word(self, text: str, at: int) -> Literal | Function:
        if text in ("true", "false", "nil"):
            return Literal({"true": True, "false": False, "nil": None}[text], at)
        if text in _KEYWORDS:
            self._refuse(at, f"`{text}` is not expected here")
        if text not in FUNCTIONS:
            from orchestrator.cli.selection import nearest

            close = nearest(text, FUNCTIONS)
            message = f'"{text}" is not a function' + (f' (did you mean "{close}"?)' if close else "")
            self._refuse(at, message, f"a field is written .{text}; the functions: {', '.join(sorted(FUNCTIONS))}")
        return Function(text, at)

    def _fields(self) -> tuple[str, ...]:
        found = []
        while (token := self._peek()) is not None and token.kind == "field" and token.glued:
            found.append(token.text[1:])
            self._at += 1
        return tuple(found)

    def _constant(self, token: _Token) -> Any:
        text = token.text
        try:
            if token.kind == "number":
                digits = text.lstrip("+-").lower()
                if digits[:2] in ("0x", "0o", "0b"):
                    return int(text, 0)
                return float(text) if "." in digits or "e" in digits else int(text)
            if token.kind == "raw":
                return text[1:-1]
            plain = _unquoted(text[1:-1])
            if token.kind == "char":
                return ord(plain)
            return plain
        except (ValueError, TypeError):
            self._refuse(token.at, f"{text} cannot be read")

    def _peek(self) -> _Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _take(self) -> None:
        self._at += 1

    def _sign(self, text: str) -> bool:
        token = self._peek()
        found = token is not None and token.kind == "sign" and token.text == text
        self._at += found
        return found

    def _position(self) -> int:
        token = self._peek()
        return token.at if token is not None else self._end

    def _finish(self, what: str) -> None:
        token = self._peek()
        if token is not None:
            self._refuse(token.at, f'"{token.text}" is not expected after {what}')

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MOST_NESTED:
            self._refuse(self._position(), f"more than {MOST_NESTED} blocks and parentheses in each other")

    def _unknown(self, name: str, at: int) -> NoReturn:
        hint = f"it begins with {{{{{name} := ...}}}}, in the same block or around it"
        self._refuse(at, f'there is no variable "{name}"', hint)

    def _refuse(self, at: int, message: str, hint: str | None = None) -> NoReturn:
        self._empty.refuse(at, message, hint)


_ESCAPE = re.compile(r"\\(?:([abfnrtv\\'\"])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.|$))", re.S)
_ESCAPED: Mapping[str, str] = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def _unquoted(text: str) -> str:
    """Go's escapes (go.dev/ref/spec, "Rune literals"). Raises ValueError for what is none."""

    def one(found: re.Match[str]) -> str:
        if found[1]:
            return _ESCAPED.get(found[1], found[1])
        if found[5]:
            return chr(int(found[5], 8))
        number = found[2] or found[3] or found[4]
        if not number:
            raise ValueError(text)
        return chr(int(number, 16))

    return _ESCAPE.sub(one, text)
