"""Rules about the size of modules and functions, and about what no code may do: take names and sentences apart.

Like `tests.architecture`, this reads source text with the standard library alone. Each rule is a row of `RULES`: a function
from a module's tree to (line, sentence).
"""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Callable, Iterator, Mapping

LONGEST_MODULE = 450
MEDIAN_MODULE = 120
LONGEST_FUNCTION = 60
"""Lines. A function's are counted from its `def` to its end, without decorators."""

METAPHORS: Mapping[str, str] = {
    "Keeper": "Container, Run and Request",
    "Crew": "the containers of a project",
    "Happening": "Event",
    "Chronicle": "event log",
    "Desk": "requests",
    "Draft": "plan under construction",
    "Gate": "lock, queue or limit",
    "Home": "directories",
    "Cable": "veth pair",
    "hire": "make or adopt",
    "outfit": "prepare",
}
"""A word that a stranger would have to learn -> the plain one. No class, module or function is called so."""

ONCE = frozenset({"Place", "Phase", "Health", "Records", "Site"})
"""Words of the vocabulary: one class each."""

CONTAINER_NAMES = frozenset({"container", "container_id", "container_name"})
"""What a container's id is called in code. It is a name, chosen by a stack or by Docker's scheme, and says nothing:
service, role and number are in the record (`Instance`)."""

SENTENCES = frozenset({"message", "reason", "hint", "why", "cause", "explanation", "place"})
"""What prose for people is called. Kinds, codes and fields say the same to programs. `event.text` is prose too."""

ID_PARSING_ALLOWED: Mapping[str, str] = {
    "orchestrator.testing.world": "counts the boots of a machine that does not exist: boot-1, boot-2",
}
"""Module -> why it may split text at dashes: never a container's id."""

_PARSERS = frozenset({
    "split", "rsplit", "partition", "rpartition", "removeprefix", "removesuffix", "startswith", "endswith", "find", "rfind",
    "index", "rindex",
})  # fmt: skip
_AT = frozenset({"split", "rsplit", "partition", "rpartition"})
_REGEX = frozenset({"match", "search", "fullmatch", "sub", "subn", "findall", "finditer", "split"})

Found = Iterator[tuple[int, str]]


def violations(modules: Mapping[str, str]) -> list[str]:
    """Every broken rule, as ``module:line: sentence``."""
    found = []
    for module in sorted(modules):
        tree = ast.parse(modules[module], filename=module)
        for rule in RULES:
            found += [f"{module}:{line}: {sentence}" for line, sentence in sorted(rule(module, tree, modules[module]))]
    return found


def median_lines(modules: Mapping[str, str]) -> float:
    """Of the modules that have code: an empty ``__init__`` would make every figure good."""
    return statistics.median(source.count("\n") for source in modules.values() if source.strip())


def _module_length(module: str, tree: ast.Module, source: str) -> Found:
    if (length := source.count("\n")) > LONGEST_MODULE:
        yield 1, f"has {length} lines, more than {LONGEST_MODULE}"


def _function_length(module: str, tree: ast.Module, source: str) -> Found:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > LONGEST_FUNCTION and not _is_table(node):
                yield node.lineno, f"{node.name} has {length} lines, more than {LONGEST_FUNCTION}"


def _is_table(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether all it does, after its docstring, is to return a literal with rows."""
    body = [node for node in function.body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]
    (only,) = body if len(body) == 1 else (None,)
    return isinstance(only, ast.Return) and isinstance(only.value, ast.Dict | ast.List | ast.Tuple | ast.Set)


def _metaphors(module: str, tree: ast.Module, source: str) -> Found:
    lower = {word.lower(): word for word in METAPHORS}
    if (word := lower.get(module.rpartition(".")[2])) is not None:
        yield 1, f"is called {word.lower()!r}: say {METAPHORS[word]}"
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            words = re.findall("[A-Z][a-z0-9]*", node.name)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            words = [node.name.lstrip("_").partition("_")[0]]
        else:
            continue
        for word in METAPHORS.keys() & set(words):
            yield node.lineno, f"{node.name}: say {METAPHORS[word]}"


def _id_parsing(module: str, tree: ast.Module, source: str) -> Found:
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and _tail(node.value) in CONTAINER_NAMES and _begins_inside(node.slice):
            yield node.lineno, f"cuts {ast.unparse(node.value)}: the record says what a container is"
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        method, subject = node.func.attr, node.func.value
        if method in _PARSERS and _tail(subject) in CONTAINER_NAMES:
            yield node.lineno, f"parses {ast.unparse(subject)}: the record says what a container is"
        elif _is_text(node.args[:1], "-") and _takes_apart(method, subject) and module not in ID_PARSING_ALLOWED:
            yield node.lineno, f"splits {ast.unparse(subject)} at dashes: a name is never taken apart"
        elif method in _PARSERS and any(_begins_with_project(argument) for argument in node.args):
            yield node.lineno, f"takes the project's name from {ast.unparse(subject)}: a name is never taken apart"
        elif method in _REGEX and any(_tail(argument) in CONTAINER_NAMES for argument in node.args):
            yield node.lineno, "matches a container's id: the record says what a container is"


def _begins_inside(node: ast.expr) -> bool:
    """``[n:]``. The beginning of an id, as of any name, may be shown or be made a host name."""
    return isinstance(node, ast.Slice) and node.lower is not None


def _takes_apart(method: str, subject: ast.expr) -> bool:
    """At the last dash, whatever it is; at the first one (a range of ports has it, too) what is called a name."""
    if method in {"rsplit", "rpartition"}:
        return True
    shortened = isinstance(subject, ast.Call) and _tail(subject.func) in {"removeprefix", "removesuffix"}
    return method in {"split", "partition"} and (shortened or _tail(subject) in {"name", "id", "key"})


def _begins_with_project(node: ast.expr) -> bool:
    """``f"{...project}-"``, the beginning of a name by Docker's scheme."""
    match node:
        case ast.JoinedStr(values=[ast.FormattedValue(value=value), ast.Constant(value=str(text)), *_]):
            return text.startswith(("-", "_")) and _tail(value) in {"project", "project_name"}
    return False


def _prose_parsing(module: str, tree: ast.Module, source: str) -> Found:
    if module.startswith("orchestrator.testing."):  # Checks that ship: they look at sentences, as tests do.
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            method, subject = node.func.attr, node.func.value
            if method in _PARSERS and _is_prose(subject):
                yield node.lineno, f"parses {ast.unparse(subject)}: carry what it says as a value"
            elif method in _AT and _is_text(node.args[:1], "; "):
                yield node.lineno, "splits a sentence: carry what it says as a value"
            elif method in _REGEX and any(_is_prose(argument) for argument in node.args):
                yield node.lineno, "matches a sentence: carry what it says as a value"
        elif isinstance(node, ast.Compare):
            for operator, right in zip(node.ops, node.comparators):
                looks_in = isinstance(operator, ast.In | ast.NotIn) and _is_prose(right) and not isinstance(right, ast.Name)
                compares = isinstance(operator, ast.Eq | ast.NotEq) and _is_prose(node.left) and _has_text(right)
                if looks_in or compares:
                    yield node.lineno, f"looks into {ast.unparse(right if looks_in else node.left)}: carry it as a value"


def _is_prose(node: ast.expr) -> bool:
    """``x.reason``, ``message``, ``event.text``, ``str(error)``."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "str":
        return any(_tail(argument) in {"exc", "error", "exception"} for argument in node.args)
    return _tail(node) in SENTENCES or ast.unparse(node) == "event.text"


def _is_text(arguments: list[ast.expr], text: str) -> bool:
    return any(isinstance(argument, ast.Constant) and argument.value == text for argument in arguments)


def _has_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and bool(node.value)


def _tail(node: ast.expr) -> str:
    """The last name of ``a.b.c`` or of ``c``; "" for anything else."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def defined_twice(modules: Mapping[str, str]) -> list[str]:
    """``Place: a.b, c.d`` for each class of `ONCE` that more than one module defines."""
    homes: dict[str, list[str]] = {name: [] for name in sorted(ONCE)}
    for module in sorted(modules):
        for node in ast.walk(ast.parse(modules[module])):
            if isinstance(node, ast.ClassDef) and node.name in homes:
                homes[node.name].append(module)
    return [f"{name}: {', '.join(found)}" for name, found in homes.items() if len(found) > 1]


RULES: tuple[Callable[[str, ast.Module, str], Found], ...] = (
    _module_length,
    _function_length,
    _metaphors,
    _id_parsing,
    _prose_parsing,
)
