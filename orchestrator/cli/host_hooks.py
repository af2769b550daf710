"""``x-pystack.hooks``: what a stack wants done on this machine, by who types `up` or `down` and as who that is."""

from __future__ import annotations

import os
import subprocess
import sys

from orchestrator.cli.failures import note
from orchestrator.contracts.runtime import Exit
from orchestrator.errors import OperationError
from orchestrator.model.project import Project
from orchestrator.policy.exits import describe_exit


def run_host_hooks(project: Project, name: str) -> None:
    """Carry out the hooks `name` (``before_up``, ...), each after the one before it, in the project's folder. What they
    write goes to stderr: stdout is for data. Raises OperationError when one does not end with 0; the rest is left out."""
    commands: tuple[str, ...] = getattr(project.host_hooks, name)
    for number, command in enumerate(commands):
        path = f"x-pystack.hooks.{name}[{number}]"
        note(f"{name}: {command.strip().splitlines()[0]}")
        environment = {**os.environ, "COMPOSE_PROJECT_NAME": project.name, "PYSTACK_HOOK": name}
        sys.stderr.flush()
        try:
            done = subprocess.run(
                ["/bin/sh", "-c", command],
                cwd=project.working_dir,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno(),
                check=False,
            )
        except OSError as exc:
            raise OperationError(f"{project.where(path)}: cannot be carried out: {exc.strerror}: {exc.filename}") from exc
        if done.returncode:
            code = done.returncode
            end = Exit(code=code) if code > 0 else Exit(signal=-code)
            raise OperationError(f"{project.where(path)}: the hook {describe_exit(end)}", hint="what it wrote is above")
