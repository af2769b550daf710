"""How a command ends when it does not end well: what is printed, and the exit code."""

from __future__ import annotations

import json
import os
import sys

from orchestrator.cli.exitcodes import EXIT_BUG, EXIT_PIPE_CLOSED
from orchestrator.cli.render.escape import escape_text
from orchestrator.errors import EXIT_CANCELLED, EXIT_RUNTIME, Ended, InputError, PystackError

FOLDER_IS_GONE = InputError(
    "the working directory does not exist any more", hint="it was deleted, or replaced: cd to where it is now"
)


def report(error: PystackError, *, as_json: bool = False) -> int:
    """``error: MESSAGE`` and ``hint: HINT`` on stderr; every diagnostic of a compose file by itself. The exit code."""
    if as_json:
        body = {key: getattr(error, key) for key in ("kind", "message", "hint", "place", "exit_code")}
        print(json.dumps({"error": body}), file=sys.stderr)
        return error.exit_code
    shown = str(error)
    if getattr(error, "diagnostics", None):
        # A ComposeError's text is its diagnostics, one after the other; each begins in the first column.
        lines = shown.split("\n")
        shown = "\n".join(line if line.startswith((" ", "and ")) else f"error: {line}" for line in lines)
    else:
        shown = f"error: {shown}"
    print(escape_text(shown), file=sys.stderr)
    if error.hint:
        print(escape_text(f"hint: {error.hint}"), file=sys.stderr)
    return error.exit_code


def note(text: str, hint: str | None = None) -> None:
    """Something about what is shown, which is no failure of the command."""
    print(escape_text(f"note: {text}"), file=sys.stderr)
    if hint:
        print(escape_text(f"hint: {hint}"), file=sys.stderr)


def report_usage(message: str, hint: str | None) -> None:
    """What click found wrong with the command line."""
    text = message[:1].lower() + message[1:].rstrip().removesuffix(".")
    print(escape_text(f"error: {text}"), file=sys.stderr)
    if hint:
        print(escape_text(f"hint: {hint}"), file=sys.stderr)


def report_cancelled(by: KeyboardInterrupt) -> int:
    return 128 + by.number if isinstance(by, Ended) else EXIT_CANCELLED


def report_pipe_closed() -> int:
    """Nothing is printed. stdout now leads nowhere, so that the interpreter's last flush has nothing to complain about."""
    sink = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(sink, sys.stdout.fileno())
    os.close(sink)
    return EXIT_PIPE_CLOSED


def is_of_the_folder(error: FileNotFoundError) -> bool:
    """Whether it is our working directory that was deleted meanwhile, or replaced (getcwd(3), ENOENT): a change of the
    branch does so. Whatever had to know where it is ends with this."""
    if error.filename is not None:
        return False
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def is_of_output(error: OSError) -> bool:
    """Whether it is stdout or stderr that cannot be written: its disk is full, or its terminal is gone (EIO). One more line
    break tells: it does no harm before the report of a bug."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
            os.write(stream.fileno(), b"\n")
        except OSError as again:
            if again.errno == error.errno:
                return True
    return False


def report_unwritable(error: OSError) -> int:
    """The output that is left is lost; the interpreter's last flush is spared it."""
    report_pipe_closed()
    print(f"error: cannot write the output: {error.strerror}", file=sys.stderr)
    return EXIT_RUNTIME


def report_bug(error: BaseException) -> int:
    """An exception nobody expected: where it happened; with PYSTACK_DEBUG=1 the variables too."""
    import traceback

    debug = os.environ.get("PYSTACK_DEBUG", "") not in ("", "0")
    trace = traceback.TracebackException.from_exception(error, capture_locals=debug, compact=not debug)
    print(escape_text("".join(trace.format()).rstrip()), file=sys.stderr)
    print(f"error: this is a bug in pystack: {escape_text(f'{type(error).__name__}: {error}')}", file=sys.stderr)
    print(
        "hint: please report it with the lines above" + ("" if debug else "; PYSTACK_DEBUG=1 shows more"),
        file=sys.stderr,
    )
    return EXIT_BUG
