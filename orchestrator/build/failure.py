"""How a build's failure is told: the Dockerfile's place, one sentence, its lines, and the end of what was written."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from orchestrator.build.frontend.mistakes import excerpt
from orchestrator.build.instructions import Dockerfile, Instruction, Stage
from orchestrator.compose.text.diagnostics import printable
from orchestrator.contracts.runtime import Exit
from orchestrator.errors import CommandError, HostError, OperationError, PystackError

MOST_LINES = 20


class RunFailed(Exception):
    """Why a RUN failed, and the last that it wrote."""

    def __init__(self, error: PystackError, output: Sequence[bytes]) -> None:
        super().__init__(error.message)
        self.error = error
        self.output = output


def failed(
    dockerfile: Dockerfile, at: Instruction | Stage, error: PystackError, output: Sequence[bytes] = ()
) -> PystackError:
    """`error` with the place and the lines of `at`; of the same class, but that a command which cannot be executed is a
    step that failed."""
    quoted = excerpt(dockerfile.text, at.place)
    parts = [printable(error.message), *([quoted] if quoted else []), *_ending(output)]
    kind = OperationError if isinstance(error, CommandError) else type(error)
    return kind("\n".join(parts), hint=error.hint, place=f"{dockerfile.name}:{at.place.line}")


def seen_from(here: str | None, path: str) -> str:
    """As a user in the directory `here` would write it, if it is below that; None: nobody knows where the user is."""
    path = os.path.normpath(path)
    return path.removeprefix(f"{here}/") if here not in (None, "/") else path


def refused(exc: OSError) -> HostError:
    """What this machine refused while it made a step, with the path."""
    path = os.fsdecode(exc.filename) if exc.filename else ""
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        what = f": {path} cannot be written" if path else ""
        return HostError(f"the disk is full{what}", hint="make room and do it again")
    return HostError(": ".join(word for word in (path, exc.strerror or str(exc)) if word))


def exit_error(command: str, exit_: Exit, *, full_disk: str = "") -> OperationError:
    """Of a RUN that did not end well. `full_disk`: the directory of what it wrote, if there is no room left."""
    hint = f"the disk is full: {full_disk}" if full_disk else None
    if exit_.oom_killed:
        return OperationError(f"RUN {command} was killed: the machine is out of memory")
    if exit_.signal is not None:
        return OperationError(f"RUN {command} was killed by signal {exit_.signal}")
    if exit_.lost:
        killed = "it was killed together with its monitor"
        return OperationError(f"RUN {command} has ended, and nobody knows how", hint=killed)
    return OperationError(f"RUN {command} ended with exit code {exit_.status}", hint=hint)


def _ending(output: Sequence[bytes]) -> list[str]:
    lines = [printable(line.decode("utf-8", "replace")).rstrip() for line in output[-MOST_LINES:]]
    return ["  the last of what it wrote:", *(f"    {line}".rstrip() for line in lines)] if lines else []
