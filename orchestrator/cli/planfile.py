"""A plan on paper: what ``plan -o`` writes and ``apply`` carries out.

    {"pystack_plan": 1, "project": ..., "asked": {...}, "text": ..., "steps": [...], "stack": {...}, "seal": {...}}

The stack is not in it, nor any value of its: the compose files are read again, and `stack` has digests of what they said.
`seal` has those of what the supervisor saw (`plan.seal`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from orchestrator.cli.orphans import orphans, removes_orphans
from orchestrator.cli.scaling import replicas
from orchestrator.cli.settings import Settings
from orchestrator.cli.wanted_images import caller_variables
from orchestrator.cli.wire import selected
from orchestrator.contracts.control import Down, PlanOf, Restart, Start, Stop, Up
from orchestrator.contracts.site import Site
from orchestrator.errors import InputError
from orchestrator.model.codec import from_json, to_json
from orchestrator.model.project import Project
from orchestrator.plan.seal import Seal, stack_seal
from orchestrator.values import field, frozen, replace

VERSION = 1
_MARK = "pystack_plan"
_LARGEST_BYTES = 64 << 20


@frozen
class Asked:
    """What was asked for: the verb, its options, and the global ones that say which stack it is. All paths are absolute."""

    verb: str = "up"
    services: tuple[str, ...] = ()
    force_recreate: bool = False
    no_recreate: bool = False
    no_deps: bool = False
    scale: tuple[str, ...] = ()
    remove_orphans: bool = False
    volumes: bool = False
    files: tuple[str, ...] = ()
    project_directory: str | None = None
    profiles: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()
    named: bool = False
    folder: str = ""


@frozen
class PlanFile:
    project: str
    asked: Asked
    text: str
    seal: Seal
    steps: tuple[Mapping[str, str], ...] = ()
    stack: Seal = field(default_factory=dict)


def requested(settings: Settings, asked: Asked) -> tuple[Site, PlanOf, Project | None]:
    """The request for a plan, and the stack that is in it. Raises InputError, ComposeError."""
    from orchestrator.cli.commands.up import recreate_mode

    selection = selected(asked.services, no_deps=asked.no_deps)
    if asked.verb == "up":
        project, _ = settings.load_to_run(asked.services)
        if project.providers:
            from orchestrator.cli.providers import recall

            project = recall(settings, project)
        remove, ignore = orphans(settings, asked.remove_orphans)
        up = Up(
            project,
            selection,
            replicas(asked.scale, project),
            recreate=recreate_mode(asked.force_recreate, asked.no_recreate),
            remove_orphans=remove,
            ignore_orphans=ignore,
            named=asked.named,
        )
        return settings.site_named(project.name), PlanOf(up=up), project
    site = settings.site()
    if asked.verb == "down":
        stack = settings.load_if_possible()
        remove = removes_orphans(settings, asked.remove_orphans)
        down = Down(stack, selection, asked.volumes, remove, working_dir=asked.folder, named=asked.named)
        return site, PlanOf(down=down), stack
    request = {
        "start": PlanOf(start=Start(selection)),
        "stop": PlanOf(stop=Stop(selection)),
        "restart": PlanOf(restart=Restart(selection)),
    }[asked.verb]
    return site, request, None


def located(settings: Settings, asked: Asked, stack: Project | None) -> Asked:
    """With all that says where the stack is, so that the plan can be applied from anywhere. Raises InputError for files
    that cannot be read again."""
    if stack is None:
        return asked
    if "-" in settings.files:
        raise InputError("the plan of a stack from stdin cannot be kept: nobody can read that again", hint="use -f FILE")
    folder, named = settings.origin()
    return replace(
        asked,
        files=stack.compose_files,
        project_directory=stack.working_dir,
        profiles=settings.profiles,
        env_files=tuple(os.path.abspath(path) for path in settings.env_files),
        named=named,
        folder=folder,
    )


def resettled(settings: Settings, plan: PlanFile) -> Settings:
    """The settings with which the plan was made, but for where data are, what the terminal is, and the environment."""
    asked = plan.asked
    return replace(
        settings,
        files=asked.files,
        project_name=plan.project,
        project_directory=asked.project_directory,
        profiles=asked.profiles,
        env_files=asked.env_files,
    )


def to_apply(settings: Settings, request: PlanOf) -> PlanOf:
    """With what only carrying it out needs."""
    if request.up is None:
        return request
    return replace(request, up=replace(request.up, registry=caller_variables(settings.environ)))


def stack_of(project: Project | None) -> Seal:
    return stack_seal(project) if project is not None else {}


def write(path: str, plan: PlanFile) -> None:
    """Raises what `unwritable` makes. Only its owner may read it: it names all that there is."""
    data = {_MARK: VERSION, **to_json(plan)}
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(json.dumps(data, indent=2) + "\n")
    except OSError as exc:
        from orchestrator.cli.output import unwritable

        raise unwritable(path, exc) from exc


def read(path: str) -> PlanFile:
    """Raises InputError for a file that is no plan of this version."""
    try:
        with open(path, "rb") as file:
            data: Any = json.loads(file.read(_LARGEST_BYTES))
    except OSError as exc:
        raise InputError(f"cannot read {path}: {exc.strerror}") from exc
    except (ValueError, RecursionError) as exc:
        raise _no_plan(path) from exc
    if not isinstance(data, dict) or _MARK not in data:
        raise _no_plan(path)
    if data[_MARK] != VERSION:
        known = f"this pystack reads version {VERSION}"
        raise InputError(f"{path} is a plan of version {data[_MARK]!r}, and {known}", hint="make it again with `plan -o`")
    try:
        return from_json(PlanFile, data)
    except ValueError as exc:
        raise InputError(f"{path}: {exc}", hint="a plan is not to be edited: `plan -o` makes another one") from exc


def _no_plan(path: str) -> InputError:
    return InputError(f"{path} is no plan", hint="`pystack plan -o FILE` writes one")
