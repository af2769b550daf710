"""``--change`` of `commit` and `import`: a few Dockerfile instructions, applied to a configuration."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.build.configuration import Config, Scope, changes_configuration_alone, configure
from orchestrator.build.frontend.parse import parse
from orchestrator.build.instructions import Workdir
from orchestrator.errors import InputError
from orchestrator.values import replace


def changed_config(config: Config, changes: Sequence[str]) -> Config:
    """`config` after `changes`, each one instruction. Raises InputError for what is none, or does more than to change a
    configuration."""
    scope = Scope(config, {}, {})
    for change in changes:
        for instruction in parse(f"FROM scratch\n{change}\n", "--change").stages[0].instructions:
            if isinstance(instruction, Workdir):
                scope = replace(scope, config={**scope.config, "WorkingDir": scope.path(instruction.path)})
            elif changes_configuration_alone(instruction):
                scope, _ = configure(instruction, scope)
            else:
                raise InputError(
                    f'--change "{change}" does more than to change the configuration',
                    hint="CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME or WORKDIR",
                )
    return scope.config
