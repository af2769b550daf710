"""The whole command line, by click: built from the table. It has the words for what is wrong, the help and the completion.

`parse` only understands; nothing is carried out inside click, which has ideas of its own about how a command ends.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from orchestrator.cli import failures, parser
from orchestrator.cli.parser import Invocation
from orchestrator.cli.table import ABOUT, GLOBALS, VERBS
from orchestrator.cli.table.shapes import (
    CHOICE,
    COUNT,
    FLAG,
    INTEGER,
    LINES,
    PART,
    SECONDS,
    TEXT,
    Argument,
    Group,
    Option,
    Verb,
)
from orchestrator.errors import EXIT_USAGE

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _Seconds(click.ParamType[float]):
    """Seconds, from 0 on."""

    name = "seconds"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            found = float(str(value))
        except ValueError:
            found = -1.0
        if not found >= 0:  # Nor NaN.
            self.fail(f'"{value}" is not a number of seconds', param, ctx)
        return found


class _Lines(click.ParamType[int]):
    """A number of lines, or ``all`` (-1)."""

    name = "lines"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return parser.lines(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Group(click.Group):
    """Of the table's rows; the one that is asked for is made."""

    def __init__(
        self, name: str, rows: Mapping[str, Verb | Group], options: Sequence[Option] = (), **more: Any
    ) -> None:
        super().__init__(name, subcommand_metavar="VERB [OPTION]... [ARGUMENT]...", **more)
        self._rows, self._options = rows, options

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words, told = _without_valued_flags(ctx, self._options, args, interspersed=False)
        left = super().parse_args(ctx, words)
        ctx.params.update(told)
        return left

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(row.name, row.summary) for row in self._rows.values()])

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._rows)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        row = self._rows.get(cmd_name)
        if isinstance(row, Group):
            return _Group(row.name, row.verbs, help=_text(row.about), context_settings=dict(_CONTEXT))
        return _command(row) if row is not None else None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in self._rows:
            from orchestrator.cli.selection import nearest

            close = nearest(args[0], self._rows)
            path = ctx.command_path.partition(" ")[2]
            message = f'"{args[0]}" is not a verb' + (f" of {path}" if path else "")
            raise click.UsageError(message + (f' (did you mean "{close}"?)' if close else ""), ctx)
        return super().resolve_command(ctx, args)


class _Command(click.Command):
    """With flags that may have a value: ``--menu=false``."""

    def __init__(self, verb: Verb, **more: Any) -> None:
        super().__init__(verb.name, **more)
        self._verb = verb

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words, told = _without_valued_flags(ctx, self._verb.options, args, interspersed=not self._verb.rest)
        left = super().parse_args(ctx, words)
        ctx.params.update(told)
        return left


def _without_valued_flags(
    ctx: click.Context, options: Sequence[Option], args: list[str], *, interspersed: bool
) -> tuple[list[str], dict[str, bool]]:
    try:
        return parser.without_valued_flags(options, args, interspersed=interspersed)
    except ValueError as error:
        raise click.UsageError(str(error), ctx) from None


def parse(words: Sequence[str]) -> Invocation | int:
    """What `words` ask for; or, when that is answered already (help, an error that was told), the exit code."""
    try:
        found = _cli().main(list(words), prog_name="pystack", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return EXIT_USAGE
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else "pystack"
        failures.report_usage(error.format_message(), f"`{path} --help` lists what it takes")
        return EXIT_USAGE
    except click.ClickException as error:
        failures.report_usage(error.format_message(), None)
        return EXIT_USAGE
    return found if isinstance(found, Invocation) else int(found or 0)


def _cli() -> click.Group:
    return _Group(
        "pystack",
        VERBS,
        GLOBALS,
        params=[_option(option) for option in GLOBALS],
        callback=_keep,
        invoke_without_command=True,
        no_args_is_help=True,
        help=ABOUT,
        epilog="`pystack VERB --help` explains a verb. Documentation: docs/cli.md.",
        context_settings=dict(_CONTEXT),
    )


@click.pass_context
def _keep(ctx: click.Context, /, **settings: Any) -> Invocation | None:
    """Without a verb this is all that is called."""
    ctx.obj = settings
    if ctx.invoked_subcommand is not None:
        return None
    if not settings["version"]:
        raise click.UsageError("Missing command.", ctx)
    verb = VERBS["version"]
    assert isinstance(verb, Verb)
    return Invocation(verb, settings, {option.name: option.value_when_absent for option in verb.options})


def _command(verb: Verb) -> click.Command:
    settings: dict[str, Any] = {}
    if verb.rest:
        settings = {"allow_interspersed_args": False}
    parameters = [*map(_option, verb.options), *(_argument(argument, verb) for argument in verb.arguments)]
    return _Command(
        verb, context_settings=settings, callback=_understood(verb), params=parameters, help=_text(verb.about)
    )


def _text(about: str) -> str:
    """Without the table's indentation."""
    return "\n".join(line.strip() for line in about.strip().split("\n"))


def _understood(verb: Verb) -> Callable[..., Invocation]:
    @click.pass_context
    def understood(ctx: click.Context, /, **values: Any) -> Invocation:
        return Invocation(verb, ctx.obj, values)

    return understood


def _option(option: Option) -> click.Option:
    names = [*option.flags.split(), option.name]
    if option.kind == PART:
        return click.Option(names, flag_value=option.flags.split()[-1].lstrip("-"), help=option.help)
    if option.kind == FLAG:
        return click.Option(
            names,
            is_flag=True,
            flag_value=True,
            default=bool(option.default),
            envvar=option.variable or None,
            help=option.help,
        )
    return click.Option(
        names,
        type=_type(option),
        multiple=option.many,
        default=None if option.many else option.default,
        metavar=option.metavar or None,
        envvar=option.variable or None,
        help=option.help,
    )


def _type(option: Option) -> click.ParamType[Any]:
    if option.kind == CHOICE:
        return click.Choice(option.choices)
    types: dict[str, click.ParamType[Any]] = {
        TEXT: click.STRING,
        SECONDS: _Seconds(),
        COUNT: click.IntRange(min=0),
        INTEGER: click.INT,
        LINES: _Lines(),
    }
    return types[option.kind]


def _argument(argument: Argument, verb: Verb) -> click.Argument:
    # To click, a default that is None is a value: then nothing would be missing.
    default = {} if argument.default is None else {"default": argument.default}
    return click.Argument(
        [argument.name],
        nargs=-1 if argument.many else 1,
        required=argument.required,
        type=click.UNPROCESSED if verb.rest else click.Choice(argument.choices) if argument.choices else click.STRING,
        metavar=argument.metavar,
        **default,
    )
