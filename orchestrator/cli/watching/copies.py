"""Copying into a container by its name, whether it runs or not; who cannot be reached just now is told apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.cli.commands.cp import provide
from orchestrator.cli.resting import rests
from orchestrator.cli.settings import Settings
from orchestrator.cli.watching.mirror import Brought, Part, bring
from orchestrator.client import Client
from orchestrator.contracts.site import Site
from orchestrator.errors import HostError, OperationError, PystackError
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
) -> Brought:
    """As `bring` does it. Raises Unreached."""
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
) -> Brought:
    try:
        spec = read_bundle(site, container)
        with opened_view(site, spec, lambda: provide(settings, spec), at_rest=at_rest) as view:
            brought = bring(view, _user(spec.config), parts, warn, lambda: enough() or view.is_over())
            if view.is_over():
                raise OperationError(f"container {container} has ended meanwhile")
    except PystackError as error:
        raise Unreached(error) from error
    except OSError as exc:  # This machine has no processes or descriptors left just now.
        raise Unreached(HostError(exc.strerror or str(exc))) from exc
    return brought


def _user(config: object) -> tuple[int, int]:
    """Who the container's process runs as."""
    process = config.get("process") if isinstance(config, dict) else None
    user = (process or {}).get("user") or {}
    return int(user.get("uid", 0)), int(user.get("gid", 0))
