"""Which services a command is about, and what to say when a name is not one of them."""

from __future__ import annotations

from orchestrator.errors import InputError, PystackError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from orchestrator.cli.settings import Settings
    from orchestrator.model.project import Project
    from orchestrator.model.service import Service


def nearest(word: str, known: Iterable[str]) -> str | None:
    """What the user may have meant."""
    import difflib

    close = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return close[0] if close else None


def check_services(wanted: Sequence[str], known: Iterable[str], project: str) -> None:
    """Raises InputError for the first of `wanted` that is not one of `known`."""
    names = sorted(set(known))
    for name in wanted:
        if name not in names:
            close = nearest(name, names)
            shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
            raise InputError(
                f"no such service: {name}" + (f' (did you mean "{close}"?)' if close else ""),
                hint=f"the services of project {project}: {shown}" if names else f"project {project} has no services",
            )


def check_named(settings: Settings, wanted: Sequence[str], known: Iterable[str]) -> None:
    """For verbs that look: raises InputError for the first of `wanted` that is neither `known`, being recorded or having
    containers, nor in the compose files. These are read only when they have to be, and may be wrong or missing."""
    names = set(known)
    if names.issuperset(wanted):
        return
    from contextlib import suppress

    from orchestrator.compose.load import load

    with suppress(PystackError):  # Then what is recorded is all that there is to know.
        names.update(load(settings.request()).project.services)
    check_services(wanted, names, settings.site().project)


def check_images(project: Project, services: Iterable[str]) -> None:
    """What cannot be run is refused before anything is begun: raises InputError pointing at an image, a platform or a tag
    of `services` that is malformed, at builds that wait for each other, and at two platforms for one name."""
    from orchestrator.images.reference import parse_named, parse_reference
    from orchestrator.images.spec.platform import parse_platform

    wanted = set(services)
    for service in project.services.values():
        if service.name not in wanted:
            continue
        build = service.build
        texts: list[tuple[str, Callable[[str], object], Sequence[str]]] = [
            ("image", parse_reference if build is None else parse_named, (service.image,)),
            ("platform", parse_platform, (service.platform,) if service.platform else ()),
            ("build.tags", parse_named, build.tags if build is not None else ()),
            ("build.platforms", parse_platform, build.platforms if build is not None else ()),
        ]
        places = [(f"{service.place}.{key}", parse, written) for key, parse, written in texts]
        places += [(place, parse_reference, (reference,)) for reference, place in _mounted(service)]
        for place, parse, written in places:
            for text in written:
                try:
                    parse(text)
                except InputError as exc:
                    raise InputError(exc.message, hint=exc.hint, place=project.where(place)) from exc
    _check_builds(project)
    _check_platforms(project, [service for service in project.services.values() if service.name in wanted])


def check_files(project: Project, services: Iterable[str]) -> None:
    """Raises InputError pointing at the first secret or config of `services` that is not there, or host path that is not to
    be made."""
    import os

    from orchestrator.model.volume import MountKind

    wanted = set(services)
    for service in project.services.values():
        for file in service.files if service.name in wanted else ():
            if file.source and not os.path.exists(file.source):
                message, hint = f'the file of the {file.name} does not exist: "{file.source}"', "make it, or correct file:"
            elif file.variable and file.content is None:
                message, hint = f'the variable of the {file.name} is not set: "{file.variable}"', "set it, also to nothing"
            else:
                continue
            raise InputError(message, hint=hint, place=project.where(file.place))
        for mount in service.volumes if service.name in wanted else ():
            source = mount.source if mount.kind is MountKind.BIND and not mount.create_host_path else None
            if source is not None and not os.path.exists(source):
                hint = "make it, or let it be made: create_host_path: true"
                raise InputError(f'the host path "{source}" does not exist', hint=hint, place=project.where(mount.place))


def _check_builds(project: Project) -> None:
    from orchestrator.model.build import building_cycle

    builds = {name: service.build for name, service in project.services.items() if service.build is not None}
    if cycle := building_cycle(builds):
        raise InputError(
            f"these builds take from each other: {' -> '.join((*cycle, cycle[0]))}",
            hint="one of them has to start from something else",
            place=project.where(f"{project.services[cycle[0]].place}.build.additional_contexts"),
        )


def _check_platforms(project: Project, services: Iterable[Service]) -> None:
    from orchestrator.images.spec.platform import parse_platform

    first: dict[str, Service] = {}
    for service in services:
        other = first.setdefault(service.image, service) if service.platform else service
        if other is not service and parse_platform(other.platform) != parse_platform(service.platform):
            raise InputError(
                f'image "{service.image}" is asked for {service.platform} here, and for {other.platform} by {other.name}',
                hint="a name means one image here: name them differently, or by digest",
                place=project.where(f"{service.place}.platform"),
            )


def _mounted(service: Service) -> list[tuple[str, str]]:
    """The images that `service` mounts, each with its compose path."""
    return [(mount.source, mount.place) for mount in service.volumes if mount.kind.value == "image" and mount.source]
