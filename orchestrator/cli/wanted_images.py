"""``--build``, ``--no-build`` and ``--pull``: what this one command wants of images, in place of the stack's policies."""

from __future__ import annotations

import os
from contextlib import suppress

from orchestrator.errors import InputError
from orchestrator.model.build import PullPolicy
from orchestrator.values import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from orchestrator.model.project import Project
    from orchestrator.model.service import Service


_EPOCH = "SOURCE_DATE_EPOCH"
_VARIABLES = (
    *("HOME", "PATH", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "PYSTACK_CONFIG_DIR", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"),
)


def caller_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """What whoever gets images has to know of its caller to pull as the caller would, and to tell places from where the
    caller is (PWD, which is not taken from a shell: a program that changes its directory may leave the old one there)."""
    variables = {name: environ[name] for name in _VARIABLES if name in environ}
    with suppress(OSError):  # It was deleted.
        variables["PWD"] = os.getcwd()
    return variables


def with_epoch(project: Project, environ: Mapping[str, str]) -> Project:
    """The stack with the caller's SOURCE_DATE_EPOCH as a build argument, as buildx gives it, where the stack has none."""
    epoch = environ.get(_EPOCH)
    if not epoch:
        return project

    def changed(service: Service) -> Service:
        if service.build is None or _EPOCH in dict(service.build.args):
            return service
        return replace(service, build=replace(service.build, args=(*service.build.args, (_EPOCH, epoch))))

    return replace(project, services={name: changed(service) for name, service in project.services.items()})


def with_policies(project: Project, chosen: Container[str], *, build: bool, no_build: bool, pull: str | None) -> Project:
    """The stack with the policies of the `chosen` services as the command line has them. Raises InputError."""
    if build and no_build:
        raise InputError("--build and --no-build cannot be combined")
    if not (build or no_build or pull not in (None, "policy")):
        return project

    def changed(service: Service) -> Service:
        if pull not in (None, "policy"):
            service = replace(service, pull_policy=PullPolicy(str(pull)))
        if service.build is not None and no_build:
            return replace(service, build=None)
        if service.build is not None and build:
            return replace(service, pull_policy=PullPolicy("build"))
        return service

    services = {name: changed(item) if name in chosen else item for name, item in project.services.items()}
    return replace(project, services=services)
