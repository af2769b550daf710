"""Which services take part: profiles, named services and what they need. One rule for a model and for a `Project`.

As Docker Compose has it: a service takes part when it has no profiles, or an active one (``*`` activates all). Naming an
inactive service activates its profiles for this once; then the named ones take part with what they depend on, and nothing
else. What they need must be active: in no profile, in an active one, or in one of those of the named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestrator.compose.text.diagnostics import did_you_mean, services_hint
from orchestrator.errors import InputError
from orchestrator.model.names import ServiceName
from orchestrator.model.project import Project
from orchestrator.values import frozen

INACTIVE_HINT = "activate one with --profile, or write required: false"


@frozen
class Standing:
    """What the choice looks at in a service. `needs`: its dependencies, and whether it can do without."""

    profiles: tuple[str, ...]
    needs: Mapping[str, bool]

    def active(self, profiles: set[str]) -> bool:
        return not self.profiles or "*" in profiles or "" in self.profiles or not profiles.isdisjoint(self.profiles)


@frozen
class Missing:
    """`name` does not take part, and is asked for: on the command line, or by `dependent`."""

    name: str
    dependent: str = ""


def enabled(services: Mapping[str, Standing], profiles: Iterable[str]) -> set[str]:
    """The services without profiles, and those with an active one."""
    active = set(profiles)
    return {name for name, standing in services.items() if standing.active(active)}


def choose(
    services: Mapping[str, Standing], profiles: Iterable[str], named: Iterable[str]
) -> tuple[set[str], list[Missing]]:
    """(the services that take part, what is wrong with the choice). Nothing named: all that are active."""
    active = enabled(services, profiles)
    wanted = list(dict.fromkeys(named))
    if not wanted:
        return active, []
    missing = [Missing(name) for name in wanted if name not in services]
    wanted = [name for name in wanted if name in services]
    asleep = [name for name in wanted if name not in active]
    active = enabled(services, {*profiles, *(profile for name in asleep for profile in services[name].profiles)})
    chosen: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in chosen:
            continue
        chosen.add(name)
        for dependency, required in services[name].needs.items():
            if dependency in active:
                wanted.append(dependency)
            elif required:
                missing.append(Missing(dependency, name))
    return chosen, missing


def inactive_message(name: str, profiles: Iterable[str]) -> str:
    return f'"{name}" is not active: none of its profiles is ({", ".join(profiles)})'


def select(project: Project, named: Iterable[str] = ()) -> tuple[ServiceName, ...]:
    """The services of `project` that take part when these are named, in the order of the file; nothing named: the active
    ones, and no job. Providers, which are no containers, may be named too. Raises InputError for a name that is none, and
    for a required dependency that is not active."""
    asked = tuple(named)
    if asked and not (named := tuple(name for name in asked if name not in project.providers)):
        return ()
    services = {
        str(name): Standing(service.profiles, {edge.service: edge.required for edge in service.depends_on.values()})
        for name, service in project.services.items()
        if named or name not in project.jobs
    }
    chosen, missing = choose(services, project.profiles, named)
    for item in missing:
        if not item.dependent:
            message = f"no such service: {item.name}{did_you_mean(item.name, services)}"
            raise InputError(message, hint=services_hint(services))
        place = project.where(f"services.{item.dependent}.depends_on.{item.name}")
        raise InputError(inactive_message(item.name, services[item.name].profiles), hint=INACTIVE_HINT, place=place)
    return tuple(name for name in project.services if name in chosen)
