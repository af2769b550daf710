"""Where `pystack-oci` begins and ends: arguments, the log, exit codes."""

from __future__ import annotations

import gc
import os
import sys

from orchestrator.errors import PystackError
from orchestrator.standalone.command_line import COMMANDS, Line, parse
from orchestrator.standalone.journal import Journal

EXIT_FAILED = 1
VERSION_TEXT = "pystack-oci version 0.2.0\nspec: 1.3.0\n"


def start() -> None:
    """The console script. Never returns: nothing is left to be cleared up, and Python's own end takes milliseconds."""
    gc.disable()  # It would be done with before there is anything to be found.
    code = EXIT_FAILED
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        pass
    finally:
        os._exit(code)


def main(arguments: list[str]) -> int:
    """The exit code. Errors are on stderr and in the file of ``--log``."""
    journal = Journal()
    try:
        line = parse(arguments)
        journal.open(line.of_all("log"), line.of_all("log-format", "text"), debug=bool(line.given.get("debug")))
        return _run(line, journal)
    except PystackError as exc:
        journal.error(str(exc), exc.hint)
        return EXIT_FAILED if exc.exit_code in (2, 125) else exc.exit_code
    except OSError as exc:
        journal.error(f"{exc.filename}: {exc.strerror}" if exc.filename else str(exc.strerror), None)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return 130
    except Exception as exc:
        journal.error(f"this is a bug of pystack-oci: {type(exc).__name__}: {exc}", "please report it")
        return EXIT_FAILED


def _run(line: Line, journal: Journal) -> int:
    if line.given.get("version"):
        print(VERSION_TEXT, end="")
        return 0
    if not line.command or line.given.get("help") or line.flag("help"):
        usages = [COMMANDS[line.command].usage] if line.command else [command.usage for command in COMMANDS.values()]
        print("\n".join(f"usage: pystack-oci [GLOBAL OPTION]... {usage}" for usage in usages))
        return 0 if line.command or line.given.get("help") else EXIT_FAILED
    match line.command:  # Each command imports what it needs, and no more.
        case "create" | "run" | "start":
            from orchestrator.standalone import starting

            return starting.COMMANDS[line.command](line, journal)
        case "exec":
            from orchestrator.standalone.entering import execute

            return execute(line, journal)
        case "kill" | "delete" | "pause" | "resume":
            from orchestrator.standalone import ending

            return ending.COMMANDS[line.command](line, journal)
        case "update":
            from orchestrator.standalone.updating import update

            return update(line, journal)
        case _:
            from orchestrator.standalone import showing

            return showing.COMMANDS[line.command](line, journal)
