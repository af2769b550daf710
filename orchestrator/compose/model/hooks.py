"""``post_start``, ``pre_stop`` and ``pre_start`` of a service."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.compose.model.environment import EnvironmentFiles
from orchestrator.compose.model.reader import Reader
from orchestrator.compose.text.diagnostics import nearest
from orchestrator.compose.text.tree import Node
from orchestrator.model.health import HealthCheck
from orchestrator.model.hooks import Hook
from orchestrator.model.service import InitStep, Service
from orchestrator.model.volume import MountKind
from orchestrator.values import replace


def hooks(read: Reader, node: Node, path: str, key: str) -> tuple[Hook, ...]:
    found = []
    for number, item in enumerate(read.each(node, key)):
        place = f"{path}.{key}[{number}]"
        read.mark(item, place)
        command = read.command(item, place, "command")
        if not command:
            read.error(item, place, "the command of a hook is empty", "say what it is to run, or take the hook out")
            continue
        found.append(
            Hook(
                command,
                read.text(item, "user"),
                read.text(item, "working_dir"),
                read.pairs(item, place, "environment", keep_null=False),
                read.flag(item, place, "privileged"),
                place,
            )
        )
    return tuple(found)


def init_steps(
    read: Reader, node: Node, service: Service, container: Callable[[Node, str], Service]
) -> tuple[InitStep, ...]:
    """`container`: reads the attributes of a container at a compose path. What a step does not say of itself is the
    service's already: the model has it so, and what is wrong with that is said of the service."""
    found, told, read.found = [], read.found, []
    for number, item in enumerate(read.each(node, "pre_start")):
        place = f"{service.place}.pre_start[{number}]"
        read.mark(item, place)
        files = EnvironmentFiles(read.environment, read.working_dir, read.working_dir, read.found)
        item = files.resolve(item, place, variables=True)
        _check_known(read, item, place)
        made = container(item, place)
        # Its addresses are the service's, whose container has them already.
        networks = {
            key: replace(
                each,
                ipv4_address=_but(each.ipv4_address, own.ipv4_address),
                mac_address=_but(each.mac_address, own.mac_address),
                ipv6_address=_but(each.ipv6_address, own.ipv6_address),
                link_local=() if each.link_local == own.link_local else each.link_local,
            )
            if (own := service.networks.get(key)) is not None
            else each
            for key, each in made.networks.items()
        }
        image = read.text(item, "image") or service.image
        made = replace(made, image=image, networks=networks, healthcheck=HealthCheck(disabled=True))
        found.append(InitStep(made, read.flag(item, place, "per_replica"), place))
    known = {(one.file, one.line, one.column, one.message) for one in told}
    told += [one for one in read.found if (one.file, one.line, one.column, one.message) not in known]
    read.found = told
    return tuple(found)


def _but(value: str | None, other: str | None) -> str | None:
    return None if value == other else value


def _check_known(read: Reader, node: Node, place: str) -> None:
    """That the networks, volumes, secrets and configs of a step are of the stack."""
    networks = node.get("networks")
    used = [("networks", "networks", "network", item, name) for name, item in (networks.items() if networks else ())]
    for number, item in enumerate(read.each(node, "volumes")):
        source = read.text(item, "source")
        if source is not None and read.text(item, "type") == MountKind.VOLUME.value:
            used.append((f"volumes[{number}]", "volumes", "volume", item, source))
    for section, kind in (("secrets", "secret"), ("configs", "config")):
        for number, item in enumerate(read.each(node, section)):
            used.append((f"{section}[{number}]", section, kind, item, read.text(item, "source") or ""))
    for at, section, kind, item, name in used:
        known = dict(read.section(section))
        if name not in known and (section, name) != ("networks", "default"):
            near = nearest(name, known, read.found)
            hint = None if near else f"declare it at the top level, under {section}:"
            read.error(item, f"{place}.{at}", f'"{name}" is not a {kind} of this stack{near}', hint)
