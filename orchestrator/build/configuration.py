"""What an instruction does to the image's configuration (image-spec, config.md): a table, and nothing on disk. Pure.

Configurations are as they stand in the file: ``{"Env": ["A=b"], "Cmd": [...]}``. None is changed; each change gives a new
one.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchestrator.build import instructions as i
from orchestrator.build.frontend.words import expand, exposed, signal, words
from orchestrator.oci.terms import DEFAULT_PATH
from orchestrator.units import NS_PER_SECOND
from orchestrator.values import frozen, replace

Config = Mapping[str, Any]

DEFAULT_SHELL = ("/bin/sh", "-c")
SCRATCH: Config = {"Env": [f"PATH={DEFAULT_PATH}"], "WorkingDir": "/"}
"""What ``FROM scratch`` begins with."""


@frozen
class Scope:
    """What a stage knows while its instructions are looked at. `arguments`: declared ARGs with a value. `ambient`: those
    that need no declaration (proxies): programs see them, keys and histories do not. `command_set`: this stage has a
    CMD."""

    config: Config
    arguments: Mapping[str, str]
    ambient: Mapping[str, str]
    escape: str = "\\"
    command_set: bool = False
    author: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """ENV, in order."""
        pairs = (entry.partition("=") for entry in self.config.get("Env") or ())
        return {name: value for name, _, value in pairs}

    @property
    def variables(self) -> dict[str, str]:
        """What words may use: ENV wins over ARG."""
        return {**self.ambient, **self.arguments, **self.environment}

    @property
    def shell(self) -> tuple[str, ...]:
        return tuple(self.config.get("Shell") or DEFAULT_SHELL)

    @property
    def working_dir(self) -> str:
        return posixpath.join("/", self.config.get("WorkingDir") or "/")

    def expand(self, word: str) -> str:
        """Raises InputError."""
        return expand(word, self.variables, self.escape)

    def path(self, word: str) -> str:
        """Absolute; a final slash, which means a directory, stays."""
        text = self.expand(word)
        path = clean(posixpath.join(self.working_dir, text))
        return f"{path}/" if text.endswith(("/", "/.")) and path != "/" else path

    def absolute(self, path: str) -> str:
        """Of a path that is expanded."""
        return clean(posixpath.join(self.working_dir, path))

    def command(self, command: str | tuple[str, ...]) -> list[str]:
        return [*self.shell, command] if isinstance(command, str) else list(command)


def clean(path: str) -> str:
    return posixpath.normpath("/" + path.lstrip("/"))


def configure(instruction: i.Instruction, scope: Scope) -> tuple[Scope, str]:
    """The scope after `instruction`, and how the history calls it. Raises InputError."""
    change = _CHANGES[type(instruction)]
    config, created_by, further = change(instruction, scope)
    return replace(scope, config=config, **further), created_by


def changes_configuration_alone(instruction: i.Instruction) -> bool:
    return type(instruction) in _CHANGES


def inherited(config: Config) -> Config:
    """What a stage takes over from its base: its triggers have been run."""
    return {key: value for key, value in config.items() if key != "OnBuild" and value is not None}


_Change = tuple[Config, str, dict[str, Any]]


def _set(scope: Scope, **values: Any) -> Config:
    return {**scope.config, **values}


def _env(step: i.Env, scope: Scope) -> _Change:
    # All of one instruction see what was before it.
    pairs = [(scope.expand(name), scope.expand(value)) for name, value in step.pairs]
    merged = scope.environment | dict(pairs)
    entries = [f"{name}={value}" for name, value in merged.items()]
    return _set(scope, Env=entries), "ENV " + " ".join(f"{name}={value}" for name, value in pairs), {}


def _label(step: i.Label, scope: Scope) -> _Change:
    pairs = [(scope.expand(name), scope.expand(value)) for name, value in step.pairs]
    labels = {**(scope.config.get("Labels") or {}), **dict(pairs)}
    return _set(scope, Labels=labels), "LABEL " + " ".join(f"{name}={value}" for name, value in pairs), {}


def _user(step: i.User, scope: Scope) -> _Change:
    user = scope.expand(step.user)
    return _set(scope, User=user), f"USER {user}", {}


def _expose(step: i.Expose, scope: Scope) -> _Change:
    ports = exposed([part for word in step.ports for part in words(word, scope.variables, scope.escape)])
    known = {**(scope.config.get("ExposedPorts") or {}), **{port: {} for port in ports}}
    return _set(scope, ExposedPorts=known), f"EXPOSE {' '.join(ports)}", {}


def _volume(step: i.Volume, scope: Scope) -> _Change:
    paths = [scope.expand(word) for word in step.paths]
    known = {**(scope.config.get("Volumes") or {}), **{path: {} for path in paths}}
    return _set(scope, Volumes=known), f"VOLUME [{' '.join(paths)}]", {}


def _stop_signal(step: i.StopSignal, scope: Scope) -> _Change:
    name = signal(scope.expand(step.signal))
    return _set(scope, StopSignal=name), f"STOPSIGNAL {name}", {}


def _maintainer(step: i.Maintainer, scope: Scope) -> _Change:
    return scope.config, f"MAINTAINER {step.name}", {"author": step.name}


def _on_build(step: i.OnBuild, scope: Scope) -> _Change:
    triggers = [*(scope.config.get("OnBuild") or ()), step.instruction]
    return _set(scope, OnBuild=triggers), f"ONBUILD {step.instruction}", {}


def _cmd(step: i.Cmd, scope: Scope) -> _Change:
    command = scope.command(step.command)
    return _set(scope, Cmd=command), f"CMD {_shown(command)}", {"command_set": True}


def _entrypoint(step: i.Entrypoint, scope: Scope) -> _Change:
    entrypoint = scope.command(step.command)
    # A command that was made for another entrypoint means nothing to this one.
    changes: dict[str, Any] = {} if scope.command_set else {"Cmd": None}
    return _set(scope, Entrypoint=entrypoint, **changes), f"ENTRYPOINT {_shown(entrypoint)}", {}


def _shell(step: i.Shell, scope: Scope) -> _Change:
    return _set(scope, Shell=list(step.command)), f"SHELL {_shown(step.command)}", {}


def _healthcheck(step: i.Healthcheck, scope: Scope) -> _Change:
    check: dict[str, Any] = {"Test": ["NONE"]}
    if not step.none:
        assert step.command is not None, "the front end gives every check a command"
        text = isinstance(step.command, str)
        check = {"Test": ["CMD-SHELL", step.command] if text else ["CMD", *step.command]}
        times = {
            "Interval": step.interval_s,
            "Timeout": step.timeout_s,
            "StartPeriod": step.start_period_s,
            "StartInterval": step.start_interval_s,
        }
        check |= {name: round(seconds * NS_PER_SECOND) for name, seconds in times.items() if seconds}
        if step.retries:
            check["Retries"] = step.retries
    return _set(scope, Healthcheck=check), step.text, {}


def _shown(arguments: Sequence[str]) -> str:
    """As JSON has it, without Python's escapes."""
    quoted = ('"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in arguments)
    return f"[{' '.join(quoted)}]"


_CHANGES: Mapping[type[i.Instruction], Callable[[Any, Scope], _Change]] = {
    i.Env: _env,
    i.Label: _label,
    i.User: _user,
    i.Expose: _expose,
    i.Volume: _volume,
    i.StopSignal: _stop_signal,
    i.Maintainer: _maintainer,
    i.OnBuild: _on_build,
    i.Cmd: _cmd,
    i.Entrypoint: _entrypoint,
    i.Shell: _shell,
    i.Healthcheck: _healthcheck,
}
"""Not here: ARG (the stage knows the arguments that were given), and what makes layers."""
