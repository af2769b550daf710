"""Services that a program of the machine provides, by the protocol of Docker Compose's extensions.

    PROGRAM compose --project-name=NAME up --OPTION=VALUE... SERVICE

It is run by who types the command, as who that is, before any container is made. What it writes to stdout are messages,
a JSON object each: ``info`` is shown, ``error`` fails the command, ``setenv`` and ``rawsetenv`` are variables for the
services that depend on it, ``get-service-config`` is answered on its stdin, ``debug`` is not shown. ``down`` releases what
it provides; ``stop`` is for those that say in their ``metadata`` that they know it. `up` must be idempotent: it is asked
each time.
Source: docker/compose, docs/extension.md.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any

from orchestrator.cli.dryrun import told_instead
from orchestrator.cli.failures import note
from orchestrator.cli.settings import Settings
from orchestrator.errors import OperationError
from orchestrator.model.names import ProjectName, ServiceName
from orchestrator.model.project import Project
from orchestrator.model.provider import Provider
from orchestrator.state.reading import Reading
from orchestrator.values import replace

METADATA_S = 30.0
"""For a program to say what it takes; one that does not is asked for everything."""
_PLUGINS = (
    "/usr/local/lib/docker/cli-plugins", "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins", "/usr/libexec/docker/cli-plugins",
)  # fmt: skip


def ask(settings: Settings, project: Project, chosen: Collection[str], named: Collection[str]) -> Project:
    """As `provided`; what is not asked for is as it was answered last, as all is in a dry run."""
    if settings.dry_run:
        return recall(settings, project)
    return provided(recall(settings, project), chosen, named, settings.variables())


def recall(settings: Settings, project: Project) -> Project:
    """`project` with what its providers answered when it was brought up last."""
    record = Reading(settings.site_named(project.name)).record
    return remembered(project, record.project if record is not None else None)


def provided(project: Project, chosen: Collection[str], named: Collection[str], environ: Mapping[str, str]) -> Project:
    """`project` with the variables of its providers: those that `chosen` services depend on, or that are `named` (nothing
    named: all that are active), are asked for theirs, dependencies first. Raises OperationError."""
    providers = dict(project.providers)
    wanted = [item for item in providers.values() if item.name in named or not set(item.users).isdisjoint(chosen)]
    wanted += [item for item in providers.values() if item.enabled and not named]
    for item in _in_order(providers, wanted):
        providers[item.name] = answered = replace(item, variables=_Call(project, item, environ).up())
        _tell_overridden(project, answered)
    return with_variables(replace(project, providers=providers))


def _tell_overridden(project: Project, provider: Provider) -> None:
    """What was given to a service under a name that is no provider's own, and is another value now."""
    known = project.providers[provider.name].variables
    for user in provider.users:
        environment = project.services[user].environment if user in project.services else {}
        for name, value in provider.variables.items():
            before = environment.get(name, value)
            own = name.startswith(f"{provider.name.upper()}_") or known.get(name) == before
            if before != value and not own:
                note(f"{provider.name} overrides the variable {name} of service {user}")


def with_variables(project: Project) -> Project:
    """What depends on providers gets what they answered last."""
    services = dict(project.services)
    for item in project.providers.values():
        for name in item.users:
            if name in services and item.variables:
                service = services[name]
                services[name] = replace(service, environment={**service.environment, **item.variables})
    return replace(project, services=services)


def remembered(project: Project, recorded: Project | None) -> Project:
    """`project` with the variables that its providers answered when it was brought up last."""
    known = recorded.providers if recorded is not None else {}
    providers = {
        name: replace(item, variables=known[name].variables) if name in known else item
        for name, item in project.providers.items()
    }
    return with_variables(replace(project, providers=providers))


def release(settings: Settings, project: Project, named: Collection[str], verb: str) -> None:
    """As `released`; in a dry run it is told."""
    names = [name for name in project.providers if name in named or not named]
    if not told_instead(settings, *(f"{verb} provider {name}" for name in names)):
        released(project, named, settings.environ, verb)


def released(project: Project, named: Collection[str], environ: Mapping[str, str], verb: str) -> None:
    """`verb`: ``down`` or ``stop``. All providers (or those `named`), dependents first. Raises OperationError."""
    wanted = [item for item in project.providers.values() if item.name in named or not named]
    for item in reversed(_in_order(project.providers, wanted)):
        if not named or item.name in named:
            _Call(project, item, environ).end(verb)


def _in_order(providers: Mapping[ServiceName, Provider], wanted: Iterable[Provider]) -> list[Provider]:
    """`wanted` and what they need, that first."""
    found: dict[ServiceName, Provider] = {}

    def take(item: Provider, above: tuple[ServiceName, ...]) -> None:
        for name in item.needs:
            if name not in above and name in providers:
                take(providers[name], (*above, item.name))
        found.setdefault(item.name, item)

    for item in wanted:
        take(item, (item.name,))
    return list(found.values())


class _Call:
    """One program, about one service."""

    def __init__(self, project: Project, provider: Provider, environ: Mapping[str, str]) -> None:
        self._name: ProjectName = project.name
        self._where = project.where(f"{provider.place}.type")
        self._provider = provider
        self._environ = dict(environ)
        self._path = self._find()
        self._metadata = self._ask_metadata()
        self._variables: dict[str, str] = {}

    def up(self) -> dict[str, str]:
        """The variables that it sets."""
        self._run("up", self._parameters("up"))
        return self._variables

    def end(self, verb: str) -> None:
        if verb != "stop" or isinstance(self._metadata.get("stop"), dict):
            self._run(verb, self._parameters(verb))

    def _fail(self, what: str, hint: str | None = None) -> OperationError:
        return OperationError(f"{self._where}: {self._provider.name}: {what}", hint=hint)

    def _find(self) -> str:
        program = self._provider.program
        search = self._environ.get("PATH", os.defpath)
        own = os.path.join(self._environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker"), "cli-plugins")
        plugin = shutil.which(f"docker-{program}", path=os.pathsep.join((own, *_PLUGINS, search)))
        if (path := plugin or shutil.which(program, path=search)) is None:
            hint = "install it: it is looked for among Docker's plugins and in PATH"
            raise self._fail(f'there is no program "docker-{program}" or "{program}"', hint)
        return os.path.abspath(path)

    def _ask_metadata(self) -> dict[str, Any]:
        """What it says of itself, if it does."""
        try:
            done = subprocess.run(
                [self._path, "compose", "metadata"],
                env=self._environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=METADATA_S,
                check=False,
            )
            told = json.loads(done.stdout) if done.returncode == 0 else None
        except (OSError, ValueError, subprocess.TimeoutExpired):
            return {}
        return told if isinstance(told, dict) else {}

    def _parameters(self, verb: str) -> list[str]:
        """The options as flags: those that it takes, when it says which. Raises OperationError for one that is missing."""
        parts = {key: self._metadata.get(key) for key in ("up", "down", "stop")}
        takes = {key: part.get("parameters") if isinstance(part, dict) else None for key, part in parts.items()}
        silent = not self._metadata.get("description") and takes["up"] is None and takes["down"] is None
        known = {item["name"]: item for item in takes[verb] or () if isinstance(item, dict) and "name" in item}
        options = self._provider.options
        for name, item in known.items():
            if item.get("required") and name not in options:
                what = f'option "{name}" is missing, which {self._provider.program} requires'
                raise self._fail(what, "add it below options:")
        return [f"--{key}={value}" for key, values in options.items() if silent or key in known for value in values]

    def _run(self, verb: str, parameters: list[str]) -> None:
        command = [self._path, "compose", f"--project-name={self._name}", verb, *parameters, self._provider.name]
        sys.stderr.flush()
        try:
            process = subprocess.Popen(command, env=self._environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        except OSError as exc:
            raise self._fail(f"{self._path} cannot be started: {exc.strerror}") from exc
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.strip():
                    self._take(process, line)
            code = process.wait()
        finally:
            if process.poll() is None:  # It said that it failed, or we were interrupted.
                process.kill()
                process.wait()
            process.stdout.close()
            with suppress(OSError):
                process.stdin.close()
        if code:
            raise self._fail(f"{self._provider.program} {verb} failed with exit code {code}", "what it wrote is above")

    def _take(self, process: subprocess.Popen[bytes], line: bytes) -> None:
        try:
            message = json.loads(line)
            kind, text = message.get("type"), message.get("message", "")
        except (ValueError, AttributeError):
            kind, text = None, ""
        name, given, value = str(text).partition("=")
        match kind:
            case "info":
                note(f"{self._provider.name}: {str(text).strip().partition(chr(10))[0]}")
            case "error":
                raise self._fail(str(text).strip())
            case "setenv" if given:
                self._variables[f"{self._provider.name.upper()}_{name}"] = value
            case "rawsetenv" if given:
                self._variables[name] = value
            case "get-service-config":
                # By a thread: it may write more to us before it reads.
                threading.Thread(target=_answer, args=(process, self._provider.config), daemon=True).start()
            case "debug":
                pass
            case _:
                shown = line.decode(errors="replace").strip()[:200]
                raise self._fail(f"{self._provider.program} wrote what is no message: {shown}")


def _answer(process: subprocess.Popen[bytes], config: str) -> None:
    assert process.stdin is not None
    with suppress(OSError, ValueError):  # It has ended.
        process.stdin.write(config.encode() + b"\n")
        process.stdin.flush()
