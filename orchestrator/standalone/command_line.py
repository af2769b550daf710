"""The command line as tables: global options, and for each command its options and how many words it takes.

By hand and not by argparse, whose import takes as long as half a container.
"""

from __future__ import annotations

from orchestrator.errors import InputError
from orchestrator.values import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Value = str | bool | list[str]


@frozen
class Option:
    """`names`: the first one is its key. `takes`: a value follows. `many`: it may be given again."""

    names: tuple[str, ...]
    takes: bool = False
    many: bool = False


@frozen
class Command:
    """`least`, `most`: words that it takes (None: any number). `in_order`: what follows the first word is no option."""

    options: tuple[Option, ...]
    least: int
    most: int | None
    usage: str
    in_order: bool = False


@frozen
class Line:
    """A parsed command line. `given`, `options`: key -> value; a key that was not given is not there."""

    given: Mapping[str, Value]
    command: str
    options: Mapping[str, Value]
    words: tuple[str, ...]

    def flag(self, name: str) -> bool:
        return bool(self.options.get(name))

    def text(self, name: str, default: str = "") -> str:
        value = self.options.get(name, default)
        assert isinstance(value, str)
        return value

    def texts(self, name: str) -> list[str]:
        value = self.options.get(name, [])
        assert isinstance(value, list)
        return value

    def of_all(self, name: str, default: str = "") -> str:
        """A global option."""
        value = self.given.get(name, default)
        assert isinstance(value, str)
        return value


def _flag(*names: str) -> Option:
    return Option(names)


def _value(*names: str) -> Option:
    return Option(names, takes=True)


def _list(*names: str) -> Option:
    return Option(names, takes=True, many=True)


GLOBAL = (
    _value("--root"),
    _value("--log"),
    _value("--log-format"),
    _value("--log-level"),
    _flag("--debug"),
    _value("--cgroup-manager"),
    _flag("--systemd-cgroup"),
    _value("--rootless"),
    _value("--criu"),
    _flag("--version", "-v", "-V"),
    _flag("--help", "-h", "-?"),
)

_CREATION = (
    _value("--bundle", "-b"),
    _value("--config", "-f"),
    _value("--pid-file"),
    _value("--console-socket"),
    _value("--preserve-fds"),
    _flag("--no-pivot"),
    _flag("--no-new-keyring"),
    _flag("--no-subreaper"),
)

COMMANDS: Mapping[str, Command] = {
    "create": Command(_CREATION, 1, 1, "create [OPTION]... ID"),
    "run": Command((*_CREATION, _flag("--detach", "-d"), _flag("--keep")), 1, 1, "run [OPTION]... ID"),
    "start": Command((), 1, 1, "start ID"),
    "state": Command((_flag("--all", "-a"),), 1, 1, "state ID"),
    "kill": Command((_flag("--all", "-a"), _flag("--regex", "-r")), 1, 2, "kill [--all] [--regex] ID [SIGNAL]"),
    "delete": Command((_flag("--force", "-f"), _flag("--regex", "-r")), 1, 1, "delete [--force] [--regex] ID"),
    "exec": Command(
        (
            _value("--process", "-p"),
            _value("--cwd"),
            _list("--env", "-e"),
            _flag("--tty", "-t"),
            _value("--user", "-u"),
            _list("--additional-gids", "-g"),
            _list("--cap", "-c"),
            _value("--apparmor"),
            _value("--process-label"),
            _flag("--no-new-privs"),
            _value("--preserve-fds"),
            _value("--cgroup"),
            _flag("--detach", "-d"),
            _value("--pid-file"),
            _value("--console-socket"),
            _flag("--ignore-paused"),
        ),
        1,
        None,
        "exec [OPTION]... ID COMMAND [ARGUMENT]...",
        in_order=True,
    ),
    "list": Command((_flag("--quiet", "-q"), _value("--format", "-f")), 0, 0, "list [--quiet] [--format table|json]"),
    "ps": Command((_value("--format", "-f"),), 1, None, "ps [--format table|json] ID"),
    "pause": Command((), 1, 1, "pause ID"),
    "resume": Command((), 1, 1, "resume ID"),
    "update": Command(
        (
            _value("--resources", "-r"),
            _value("--blkio-weight"),
            _value("--cpu-period"),
            _value("--cpu-quota"),
            _value("--cpu-burst"),
            _value("--cpu-rt-period"),
            _value("--cpu-rt-runtime"),
            _value("--cpu-share"),
            _value("--cpu-shares"),
            _value("--cpu-idle"),
            _value("--cpuset-cpus"),
            _value("--cpuset-mems"),
            _value("--memory"),
            _value("--memory-reservation"),
            _value("--memory-swap"),
            _value("--kernel-memory"),
            _value("--kernel-memory-tcp"),
            _value("--pids-limit"),
            _value("--l3-cache-schema"),
            _value("--mem-bw-schema"),
        ),
        1,
        1,
        "update [OPTION]... ID",
    ),
    "features": Command((), 0, 0, "features"),
    "spec": Command((_value("--bundle", "-b"), _value("--config", "-f"), _flag("--rootless")), 0, 0, "spec"),
    "checkpoint": Command((), 0, None, "checkpoint"),
    "restore": Command((), 0, None, "restore"),
}
_REFUSED = frozenset({"checkpoint", "restore"})


def parse(arguments: Sequence[str]) -> Line:
    """Raises InputError for what no table has."""
    given, rest = _take(GLOBAL, arguments, in_order=True, usage="[GLOBAL OPTION]... COMMAND ...")
    if not rest:
        return Line(given, "", {}, ())
    name, *rest = rest
    command = COMMANDS.get(name)
    if command is None:
        raise InputError(f"there is no command {name!r}", hint=f"one of: {', '.join(COMMANDS)}")
    if name in _REFUSED:
        message = f"{name} is not supported: the state of processes cannot be stored and brought back"
        raise InputError(message, hint="a runtime with CRIU does it", exit_code=1)
    options, words = _take((*command.options, _flag("--help", "-h")), rest, command.in_order, command.usage)
    if not options.get("help"):
        if len(words) < command.least:
            raise InputError(f"{name}: an argument is missing", hint=f"usage: {command.usage}")
        if command.most is not None and len(words) > command.most:
            raise InputError(f"{name}: {words[command.most]!r} is one argument too many", hint=f"usage: {command.usage}")
    return Line(given, name, options, tuple(words))


def _take(
    table: Sequence[Option], arguments: Sequence[str], in_order: bool, usage: str
) -> tuple[dict[str, Value], list[str]]:
    known = {name: option for option in table for name in option.names}
    found: dict[str, Value] = {}
    words: list[str] = []
    queue = list(arguments)
    while queue:
        word = queue.pop(0)
        if word == "--":
            return found, words + queue
        if not word.startswith("-") or word == "-":
            words.append(word)
            if in_order:
                return found, words + queue
            continue
        name, equals, value = word.partition("=")
        if not word.startswith("--") and len(name) > 2 and name not in known:
            # -it, -uROOT
            first = known.get(word[:2])
            if first is not None and first.takes:
                queue.insert(0, word[2:])
                name, equals = word[:2], ""
            elif first is not None:
                queue[:0] = [word[:2], f"-{word[2:]}"]
                continue
        option = known.get(name) or known.get(f"-{name}" if not word.startswith("--") else name)
        if option is None:
            raise InputError(f"there is no option {name}", hint=f"usage: {usage}")
        _store(found, option, name, value if equals else None, queue)
    return found, words


def _store(found: dict[str, Value], option: Option, name: str, value: str | None, queue: list[str]) -> None:
    key = option.names[0].lstrip("-")
    if not option.takes:
        if value not in (None, "true", "false"):
            raise InputError(f"{name} takes no value")
        found[key] = value != "false"
        return
    if value is None:
        if not queue:
            raise InputError(f"{name} needs a value")
        value = queue.pop(0)
    if option.many:
        before = found.setdefault(key, [])
        assert isinstance(before, list)
        before.append(value)
    else:
        found[key] = value
