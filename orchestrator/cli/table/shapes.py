"""What a verb, an option and an argument are: plain data, from which the parsers, the help, the completion and the tables
of docs/cli.md are made. Nothing is imported here that a command would have to wait for.
"""

from __future__ import annotations

from orchestrator.values import frozen, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

FLAG = "flag"
"""Given or not; ``--flag=false`` is as if it were not."""
TEXT = "text"
SECONDS = "seconds"
"""A float that is not negative."""
COUNT = "count"
"""An integer that is not negative."""
INTEGER = "integer"
LINES = "lines"
"""A number of lines, or ``all`` (-1)."""
CHOICE = "choice"
"""One of `choices`."""
PART = "part"
"""A flag that gives its own name, without the dashes: of several with the same `name` one may be given."""


@frozen
class Option:
    """`flags`: as written, separated by blanks (``-f --file``). `name`: the parameter of the verb's function. `many`: may
    be repeated, and the value is a tuple. `variable`: an environment variable that stands in for it, unless it is empty.
    `accepted`: understood, because Docker Compose has it and nothing has to be done for it here; its function is not told.
    """

    flags: str
    name: str
    help: str
    kind: str = FLAG
    metavar: str = ""
    many: bool = False
    default: object = None
    choices: tuple[str, ...] = ()
    variable: str = ""
    accepted: bool = False

    @property
    def value_when_absent(self) -> object:
        return () if self.many else bool(self.default) if self.kind == FLAG else self.default

    @property
    def takes_value(self) -> bool:
        return self.kind not in (FLAG, PART)


@frozen
class Argument:
    """A word that is no option. `many`: any number of them, at the end, as a tuple; else one. `required`: at least one.
    Not required and not many: `default` stands in."""

    name: str
    metavar: str
    many: bool = False
    required: bool = False
    choices: tuple[str, ...] = ()
    default: str | None = None


@frozen
class Verb:
    """`summary`: one line, for lists. `about`: what ``--help`` says. `module`: below `orchestrator.cli.commands`, where
    the function `function` (the verb's name if empty) carries it out: settings, then options and arguments by name.

    `hot`: is started often, and its module imports little: served by the small parser. `rest`: what follows the first
    argument is no option of ours. `loads_and_starts`: needs the compose files, and then a supervisor: one is started early.
    `exclusive`: names of two options that cannot be given together.
    """

    name: str
    module: str
    summary: str
    about: str
    options: tuple[Option, ...] = ()
    arguments: tuple[Argument, ...] = ()
    function: str = ""
    hot: bool = False
    rest: bool = False
    loads_and_starts: bool = False
    exclusive: tuple[tuple[str, str], ...] = ()

    def clash(self, values: Mapping[str, Any]) -> str:
        """``--one and --other``: options in the parsed `values` that exclude each other; "" when none do."""
        for pair in self.exclusive:
            if all(values[name] for name in pair):
                flags = {option.name: option.flags.split()[-1] for option in self.options}
                return " and ".join(flags[name] for name in pair)
        return ""

    def told(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What of the parsed `values` its function is called with."""
        accepted = {option.name for option in self.options if option.accepted}
        return {name: value for name, value in values.items() if name not in accepted}


@frozen
class Group:
    """Verbs of one subject, behind its name: ``volume ls``. `table`: the module below `orchestrator.cli.table` whose
    `VERBS` they are; it is imported when one of them is asked for, so that no other command waits for it."""

    name: str
    table: str
    summary: str
    about: str

    @property
    def verbs(self) -> Mapping[str, Verb]:
        """By name, in the order of ``--help``."""
        module = __import__(f"orchestrator.cli.table.{self.table}", fromlist=[self.table])
        return {verb.name: verb for verb in module.VERBS}


SERVICES = (Argument("services", "[SERVICE]...", many=True),)
TIMEOUT = Option("-t --timeout", "timeout_s", "Time to stop gracefully, instead of stop_grace_period.", SECONDS, "SECONDS")

DETACH_KEYS = Option(
    "--detach-keys", "detach_keys", "The keys that leave it running.  [default: ctrl-p,ctrl-q]", TEXT, "KEYS"
)

DRY_RUN = Option("--dry-run", "dry_run", "Change nothing: show what would be done.", accepted=True)
"""After a verb; `Settings.dry_run` tells the verb's function."""

FORMAT = Option(
    "--format",
    "shape",
    'table (default), "table TEMPLATE", json (an object a line), or a Go template.',
    TEXT,
    "FORMAT",
    default="table",
)
"""Of lists: `cli.render.rows.render_rows`."""
LIST_FORMAT = replace(FORMAT, help='table (default), "table TEMPLATE", json (an array on one line), or a Go template.')
"""Of the lists of which Docker Compose makes one JSON value."""
INSPECT_FORMAT = Option("--format -f", "shape", "json (on one line), or a Go template.", TEXT, "FORMAT")
"""Of ``inspect``: `cli.render.rows.render_values`."""


def output_format(*shapes: str, help: str = "Output format.") -> Option:
    """``--format``; the first of `shapes` is the default."""
    return Option("--format", "shape", help, CHOICE, default=shapes[0], choices=shapes)
