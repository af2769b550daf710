"""``pystack``: from the command line to a verb, and how a command ends."""

from __future__ import annotations

import io
import os
import sys

from orchestrator.cli.parser import Invocation, parse
from orchestrator.cli.settings import Settings
from orchestrator.cli.table import GLOBALS
from orchestrator.errors import InputError, PystackError
from orchestrator.values import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.cli.table.shapes import Verb


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    _open_standard()
    try:
        asked: Invocation | int | None = parse(words, os.environ)
        if asked is None:
            from orchestrator.cli import clicked

            asked = clicked.parse(words)
        code = asked if isinstance(asked, int) else _carry_out(asked)
        sys.stdout.flush()
        return code
    except (Exception, KeyboardInterrupt) as error:
        return _ended_by(error, words)


def _open_standard() -> None:
    """Where a standard descriptor was closed there is /dev/null, before a socket or a pipe of ours gets its number."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open("/dev/null", os.O_RDWR)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    ours = sys.stdout is sys.__stdout__
    # With PYTHONUNBUFFERED the buffer of a stream is the file itself, and what one write(2) does not take is lost. What is
    # written is data: UTF-8 whatever the locale, and names that are none as they are.
    if sys.stdout is None or (ours and not isinstance(sys.stdout.buffer, io.BufferedWriter)):
        sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    elif ours and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        buffered = open(2, "wb", closefd=False)  # noqa: SIM115
        sys.stderr = _Messages(buffered, getattr(sys.stderr, "encoding", None), "backslashreplace", line_buffering=True)


class _Messages(io.TextIOWrapper):
    """Our stderr. A message that it does not take (a log on a disk that is full) is lost, and what is done goes on and ends
    with its own code. That nobody reads it any more is told, and so is what its `buffer` does not take."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except BrokenPipeError:
            raise
        except OSError:
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except BrokenPipeError:
            raise
        except OSError:
            pass


def _carry_out(asked: Invocation) -> int:
    verb = asked.verb
    if clash := verb.clash(asked.values):
        raise InputError(f"{clash} cannot be combined")
    given = {option.name: asked.settings[option.name] for option in GLOBALS if not option.accepted}
    settings = Settings(**given, environment=dict(os.environ))
    if settings.dry_run or asked.values.get("dry_run"):
        settings = replace(settings, dry_run=_can_be_dry(verb))
    if verb.loads_and_starts:
        from orchestrator.cli import early

        settings = replace(settings, begun=early.begin(settings))
    try:
        module = __import__(f"orchestrator.cli.commands.{verb.module}", fromlist=[verb.module])
        code = getattr(module, verb.function or verb.name)(settings, **verb.told(asked.values))
    finally:
        if settings.begun is not None:
            settings.begun.abandon()  # Nothing happens to one that was needed.
    return code if isinstance(code, int) else 0


def _can_be_dry(verb: Verb) -> bool:
    """True. Raises InputError for a verb that knows no dry run."""
    if all(option.name != "dry_run" for option in verb.options):
        raise InputError(f"{verb.name} has no dry run", hint="leave --dry-run out; nothing was done")
    return True


def _ended_by(error: BaseException, words: Sequence[str]) -> int:
    """Tell what went wrong; the exit code."""
    from orchestrator.cli import failures

    if isinstance(error, PystackError):
        return failures.report(error, as_json=_wants_json(words))
    if isinstance(error, KeyboardInterrupt):
        return failures.report_cancelled(error)
    if isinstance(error, BrokenPipeError):
        return failures.report_pipe_closed()
    if isinstance(error, FileNotFoundError) and failures.is_of_the_folder(error):
        return failures.report(failures.FOLDER_IS_GONE, as_json=_wants_json(words))
    if isinstance(error, OSError) and failures.is_of_output(error):
        return failures.report_unwritable(error)
    return failures.report_bug(error)


def _wants_json(words: Sequence[str]) -> bool:
    """Whether errors are JSON too. Read from the arguments: an error may come before or after the options are known."""
    pairs = zip(words, [*words[1:], ""])
    asked = any(word == "--progress=json" or (word, value) == ("--progress", "json") for word, value in pairs)
    return asked or os.environ.get("COMPOSE_PROGRESS") == "json"
