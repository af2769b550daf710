"""The first and the last thing of the command ``pystack`` (scripts/pystack): how its process begins and ends."""

from __future__ import annotations

import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def start() -> NoReturn:
    """Run one command and end with its exit code, without dismantling an interpreter that nobody will use again."""
    # What imports make is no garbage. A command that goes on (`logs -f`) gets there later.
    gc.set_threshold(100_000, 20, 100)
    code = 130
    try:
        from orchestrator.cli.main import main

        code = main()
        sys.stderr.flush()
    except SystemExit as ended:  # click, which has answered the shell's question for completions.
        code = ended.code if isinstance(ended.code, int) else 0
        sys.stdout.flush()
    except KeyboardInterrupt:
        pass  # Before `main` had begun, or after it had ended.
    except BrokenPipeError:
        code = 141  # stderr is gone: nobody is left to be told.
    os._exit(code)
