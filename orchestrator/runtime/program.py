"""A program as a value: steps, what each is about in words, and which version of the monitor's protocol has it. Pure."""

from __future__ import annotations

import json
from typing import Any

from orchestrator.errors import OperationError
from orchestrator.values import frozen, replace

StepArgument = Any
"""JSON-ready."""

_SINCE = {
    "console": 2,
    "default_limits": 2,
    "bind_below": 3,
    "image": 3,
    "owned_files": 4,
    "enter_some": 5,
    "join_some": 5,
    "shared_memory": 5,
    "outer_filesystem": 5,
    "top_attributes": 5,
    "propagate": 5,
    "nodes": 5,
    "node_at": 5,
    "root_devices": 5,
    "seccomp_flags": 5,
    "window": 5,
    "change_directory": 5,
    "ids": 5,
    "mind": 5,
    "files_read_only": 8,
}
"""The version of the monitor's protocol that brought a step. Those of version 1 are not here."""
_OPTIONAL = frozenset({"console", "default_limits", "window", "mind", "files_read_only"})
"""Those without which a container is nearly the same."""
_INSTEAD = {"change_directory": "working_directory"}
"""What a monitor that does not know a step is asked for, with the same arguments."""


@frozen
class Step:
    name: str
    arguments: tuple[StepArgument, ...] = ()
    text: str = ""

    def describe(self) -> str:
        return self.text or self.name.replace("_", " ")


@frozen
class Program:
    steps: tuple[Step, ...]

    def encode(self) -> bytes:
        return json.dumps([[step.name, *step.arguments] for step in self.steps], separators=(",", ":")).encode()

    def known_to(self, version: int) -> Program:
        """What a monitor that speaks `version` of the protocol can do of it: steps that came later are left out. Raises
        OperationError when that would leave out what was asked for."""
        known = tuple(
            replace(step, name=_INSTEAD[step.name]) if step.name in _INSTEAD and _SINCE[step.name] > version else step
            for step in self.steps
        )
        steps = tuple(step for step in known if _SINCE.get(step.name, 1) <= version)
        for step in known:
            if _SINCE.get(step.name, 1) > version and step.name not in _OPTIONAL:
                raise too_old(step.describe())
        return self if steps == self.steps else Program(steps)

    def is_command(self, number: int) -> bool:
        """Whether step `number` is the execution of the user's own program."""
        return 0 <= number < len(self.steps) and self.steps[number].name == "execute"


def too_old(what: str) -> OperationError:
    """The monitor cannot do `what`."""
    message = f"cannot {what}: the monitor of this project was started by an older pystack"
    return OperationError(message, hint="`pystack down` and `pystack up` start a new one")
