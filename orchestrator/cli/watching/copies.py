"""Copying into a container by its name, whether it runs or not; who cannot be reached just now is told apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.cli.commands.cp import provide
from orchestrator.cli.resting import rests
from orchestrator.cli.settings import Settings
from orchestrator.cli.watching.mirror import Part, bring
from orchestrator.client import Client
from orchestrator.contracts.site import Site
from orchestrator.errors import OperationError, PystackError
from orchestrator.model.names import ContainerId
from orchestrator.runtime.bundle import read_bundle
from orchestrator.runtime.view import opened_view


class Unreached(Exception):
    """The container is just being made, started, ended or removed: the same may do in a moment."""

    def __init__(self, error: PystackError) -> None:
        super().__init__(str(error))
        self.error = error


def copy(
    settings: Settings,
    site: Site,
    container: ContainerId,
    parts: Sequence[Part],
    warn: Callable[[str], None],
    enough: Callable[[], bool],
) -> list[Part]:
    """What is left of `parts` when `enough` said so, as `bring` has it. Raises Unreached; OperationError and HostError for
    what will not go in."""
    try:
        return _copy(settings, site, container, parts, warn, enough, at_rest=False)
    except Unreached:
        if not _rests(site, container):
            raise
        return _copy(settings, site, container, parts, warn, enough, at_rest=True)


def _rests(site: Site, container: ContainerId) -> bool:
    """As far as it can be known."""
    try:
        client = Client.connect(site)
        if client is None:
            return False
        with client:
            return rests(client, container)
    except PystackError:
        return False


def _copy(
    settings: Settings,
    site: Site,
    container: ContainerId,
    parts: Sequence[Part],
    warn: Callable[[str], None],
    enough: Callable[[], bool],
    *,
    at_rest: bool,
) -> list[Part]:
    failed: PystackError | None = None
    left: list[Part] = []
    try:
        spec = read_bundle(site, container)
        with opened_view(site, spec, lambda: provide(settings, spec), at_rest=at_rest) as view:
            try:
                left = bring(view, _user(spec.config), parts, warn, lambda: enough() or view.is_over())
            except PystackError as error:
                failed = error
            if view.is_over():
                raise OperationError(f"container {container} has ended meanwhile")
    except PystackError as error:
        raise Unreached(error) from error
    if failed is not None:
        raise failed
    return left


def _user(config: object) -> tuple[int, int]:
    """Who the container's process runs as."""
    process = config.get("process") if isinstance(config, dict) else None
    user = (process or {}).get("user") or {}
    return int(user.get("uid", 0)), int(user.get("gid", 0))
