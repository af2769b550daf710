"""``pystack network connect`` and ``disconnect``: the project's supervisor does it, since the containers are its own."""

from __future__ import annotations

from orchestrator.cli.commands.lifecycle import operate
from orchestrator.cli.networks import Found, files_of, found_in
from orchestrator.cli.settings import Settings
from orchestrator.contracts.control import Connect, Disconnect
from orchestrator.errors import InputError, OperationError
from orchestrator.model.subnets import parse_address


def connect(
    settings: Settings,
    network: str,
    target: str,
    aliases: tuple[str, ...],
    ipv4: str | None,
    ipv6: str | None,
    link_local: tuple[str, ...],
    links: tuple[str, ...],
    gw_priority: str | None,
) -> None:
    """Put containers that exist on a network too."""
    name, shared = _meant(settings, network)
    for alias in aliases:
        if not alias or set(alias) & set(" \t\n/:"):
            raise InputError(f'"{alias}" is not a name', place="--alias")
    request = Connect(
        name,
        target,
        shared,
        aliases,
        _address(ipv4, 4, "--ip") if ipv4 is not None else None,
        _address(ipv6, 6, "--ip6") if ipv6 is not None else None,
        tuple(_link_local(text) for text in link_local),
        tuple(_link(text) for text in links),
        _priority(gw_priority) if gw_priority is not None else 0,
    )
    operate(settings, request, "connected")


def disconnect(settings: Settings, network: str, target: str, force: bool) -> None:
    """Take containers off a network."""
    name, _ = _meant(settings, network)
    operate(settings, Disconnect(name, target, force), "disconnected")


def _meant(settings: Settings, word: str) -> tuple[str, bool]:
    """The name of the network, and whether there is a shared one of that name. It may be known to the stack alone. Raises
    OperationError for another project's own."""
    found = found_in(files_of(settings))
    named = [item for item in found if word in (item.name, item.key)]
    project = settings.site().project
    candidates = _open_to(project, named) or _open_to(project, [i for i in found if i.about.identity.startswith(word)])
    if candidates:
        known = word in (candidates[0].name, candidates[0].key)
        return word if known else candidates[0].name, not candidates[0].project
    if others := [item for item in named if item.name == word]:
        raise OperationError(
            f'network "{word}" is project {others[0].project}\'s own, and only for its containers',
            hint="make one that both can be on: pystack network create NAME",
        )
    return word, False


def _open_to(project: str, networks: list[Found]) -> list[Found]:
    """The project's own first."""
    return sorted((item for item in networks if item.project in ("", project)), key=lambda item: not item.project)


def _address(text: str, version: int, option: str) -> str:
    try:
        return str(parse_address(text, version))
    except ValueError as exc:
        raise InputError(str(exc), place=option) from None


def _link_local(text: str) -> str:
    option = "--link-local-ip"
    if not parse_address(_address(text, 6 if ":" in text else 4, option), 6 if ":" in text else 4).is_link_local:
        raise InputError(f"{text} is not a link-local address (169.254.0.0/16 or fe80::/10)", place=option)
    return text


def _link(text: str) -> tuple[str, str]:
    target, _, alias = text.partition(":")
    if not target or ":" in alias:
        raise InputError(f'"{text}" is not a link', hint="write CONTAINER or CONTAINER:ALIAS", place="--link")
    return alias or target, target


def _priority(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f'"{text}" is not a whole number', place="--gw-priority") from None
