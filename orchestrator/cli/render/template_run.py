"""A template, carried out over a value (pkg.go.dev/text/template, "Actions")."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from orchestrator.cli.render.template import Block, Command, Function, Jump, Literal, Node, Path, Pipe, Template, Text
from orchestrator.cli.render.template_functions import FUNCTIONS, NO_VALUE, OF_HEADERS, is_list, kind_of, show, truth

_NONE: Any = object()
"""Nothing was piped in."""


class _Jumped(Exception):
    def __init__(self, keyword: str) -> None:
        self.keyword = keyword


def run(template: Template, value: Any, *, header: bool = False) -> str:
    """What `template` makes of `value`. `header`: it holds a table's headers. Raises InputError."""
    return _Run(template, value, header).text()


class _Run:
    def __init__(self, template: Template, value: Any, header: bool) -> None:
        self._template = template
        self._header = header
        self._variables: list[tuple[str, Any]] = [("$", value)]
        self._out: list[str] = []

    def text(self) -> str:
        self._nodes(self._template.nodes, self._variables[0][1])
        return "".join(self._out)

    def _nodes(self, nodes: Sequence[Node], dot: Any) -> None:
        for node in nodes:
            if isinstance(node, Text):
                self._out.append(node.text)
            elif isinstance(node, Jump):
                raise _Jumped(node.keyword)
            elif isinstance(node, Block):
                known = len(self._variables)
                (self._range if node.keyword == "range" else self._choose)(node, dot)
                del self._variables[known:]
            else:
                value = self._pipe(node, dot)
                if not node.variables:
                    self._out.append(NO_VALUE if value is None else show(value))

    def _choose(self, block: Block, dot: Any) -> None:
        value = self._pipe(block.pipe, dot)
        if truth(value):
            self._nodes(block.body, value if block.keyword == "with" else dot)
        else:
            self._nodes(block.otherwise, dot)

    def _range(self, block: Block, dot: Any) -> None:
        value = self._evaluated(block.pipe, dot)
        items = iter(self._items(value, block.pipe.at))
        known = len(self._variables)
        empty = True
        for key, item in items:
            empty = False
            names = block.pipe.variables
            values = (item,) if len(names) == 1 else (key, item)
            for name, given in zip(names, values):
                self._set(name, given, block.pipe.declares)
            try:
                self._nodes(block.body, item)
            except _Jumped as jump:
                if jump.keyword == "break":
                    break
            finally:
                del self._variables[known:]
        if empty:
            self._nodes(block.otherwise, dot)

    def _items(self, value: Any, at: int) -> Iterator[tuple[Any, Any]]:
        if value is None:
            return iter(())
        if isinstance(value, Mapping):
            return iter(sorted((key, item) for key, item in value.items() if not callable(item)))
        if is_list(value):
            return enumerate(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return ((number, number) for number in range(value))
        self._template.refuse(at, f"range goes over a list, a mapping or a number, and this is {kind_of(value)}")

    def _pipe(self, pipe: Pipe, dot: Any) -> Any:
        value = self._evaluated(pipe, dot)
        for name in pipe.variables:
            self._set(name, value, pipe.declares)
        return value

    def _evaluated(self, pipe: Pipe, dot: Any) -> Any:
        value = _NONE
        for command in pipe.commands:
            value = self._command(command, dot, value)
        return value

    def _set(self, name: str, value: Any, declares: bool) -> None:
        if declares:
            self._variables.append((name, value))
            return
        number = max(number for number, (known, _) in enumerate(self._variables) if known == name)
        self._variables[number] = (name, value)

    def _command(self, command: Command, dot: Any, piped: Any) -> Any:
        first, *rest = command.operands
        if isinstance(first, Function):
            return self._function(first, rest, dot, piped)
        if isinstance(first, Literal):
            return first.value
        arguments = [self._operand(operand, dot) for operand in rest] + ([] if piped is _NONE else [piped])
        return self._path(first, dot, arguments)

    def _operand(self, operand: Any, dot: Any) -> Any:
        if isinstance(operand, Literal):
            return operand.value
        if isinstance(operand, Function):
            return self._function(operand, [], dot, _NONE)
        return self._path(operand, dot, [])

    def _function(self, function: Function, rest: Sequence[Any], dot: Any, piped: Any) -> Any:
        called, fewest, most = FUNCTIONS[function.name]
        given = len(rest) + (piped is not _NONE)
        if given < fewest or (most is not None and given > most):
            wanted = str(fewest) if fewest == most else f"at least {fewest}" if given < fewest else f"at most {most}"
            self._template.refuse(function.at, f"{function.name} takes {wanted} argument(s), and here are {given}")
        if function.name in ("and", "or"):
            return self._early(function.name == "or", rest, dot, piped)
        values = [self._operand(operand, dot) for operand in rest] + ([] if piped is _NONE else [piped])
        if self._header and function.name in OF_HEADERS:
            return values[0]
        return self._called(called, values, function.at)

    def _early(self, wanted: bool, rest: Sequence[Any], dot: Any, piped: Any) -> Any:
        """`and` and `or`: the first value that decides, else the last; what follows is not looked at."""
        value = piped
        for operand in rest:
            value = self._operand(operand, dot)
            if truth(value) is wanted:
                return value
        return value if piped is _NONE else piped

    def _path(self, path: Path, dot: Any, arguments: Sequence[Any]) -> Any:
        if path.start is None:
            value = dot
        elif isinstance(path.start, Pipe):
            value = self._pipe(path.start, dot)
        else:
            value = next(given for name, given in reversed(self._variables) if name == path.start)
        for number, name in enumerate(path.fields):
            value = self._field(value, name, path)
            if callable(value):
                last = number == len(path.fields) - 1
                value = self._called(value, arguments if last else [], path.at)
                if last:
                    return value
        if arguments:
            what = "." + ".".join(path.fields) if path.fields else "this value"
            self._template.refuse(path.at, f"{what} takes no arguments", "a function comes first: {{lower .Name}}")
        return value

    def _field(self, value: Any, name: str, path: Path) -> Any:
        if value is None:
            return None
        if not isinstance(value, Mapping):
            self._template.refuse(path.at, f".{name} is asked of {kind_of(value)}, which has no fields")
        if name not in value and _has_fixed_fields(value):
            from orchestrator.cli.selection import nearest

            close = nearest(name, value)
            message = f"there is no field .{name}" + (f" (did you mean .{close}?)" if close else "")
            self._template.refuse(path.at, message, f"there is {', '.join(f'.{key}' for key in value)}")
        return value.get(name)

    def _called(self, function: Callable[..., Any], values: Sequence[Any], at: int) -> Any:
        try:
            return function(*values)
        except ValueError as error:
            self._template.refuse(at, str(error))
        except TypeError:
            self._template.refuse(at, "this does not take such arguments")


def _has_fixed_fields(value: Mapping[str, Any]) -> bool:
    """A Go struct's names begin with a capital letter; where all do, a name that is missing is a mistake, else (labels,
    say) it is just not there."""
    return bool(value) and all(key[:1].isupper() for key in value)
